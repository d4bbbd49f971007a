"""The configuration of an embedded nats-server, as one dictionary (the server reads JSON as well as its own format).

`sync_interval: always` is the promise "durable before you see it": an append is acknowledged after its fsync. Pings
of two seconds find a black-holed peer in six. Everything listens on the loopback interface unless told otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bursar.bus.identity import JETSTREAM_LIMITS, Trust
from bursar.bus.permissions import SERVER_PAYLOAD

TLS_SECONDS = 5


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of a server: who signs its clients' and neighbours' certificates, its own certificate, and its key."""

    ca: Path
    cert: Path
    key: Path

    def settings(self) -> dict[str, Any]:
        """TLS 1.3, with a certificate on both ends."""
        files = {"ca_file": str(self.ca), "cert_file": str(self.cert), "key_file": str(self.key)}
        return {**files, "verify": True, "min_version": "1.3", "timeout": TLS_SECONDS}


def tls_of(home: Path) -> ServerTls | None:
    """What ``bursar tls init`` has made for a home's server; None when it has not."""
    found = ServerTls(*(home / "tls" / name for name in ("ca.pem", "server.pem", "server.key")))
    return found if found.cert.exists() and found.key.exists() else None


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """One server's place in a cluster: its own route port and everybody's, on one host."""

    name: str
    port: int
    routes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to run one server.

    ``port`` and ``monitoring_port`` 0 mean: any free one. ``trust`` None means no authentication at all (tests and
    benches). ``tls`` None: clients and routes are not encrypted. ``max_file_store`` and ``max_memory_store`` are bytes,
    ``fsync`` False leaves the server's default of one fsync in two minutes (benches only).
    """

    store: Path
    run_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    monitoring_port: int = 0
    name: str = "bursar"
    trust: Trust | None = None
    cluster: ClusterPlace | None = None
    tls: ServerTls | None = None
    fsync: bool = True
    max_file_store: int = 16 * JETSTREAM_LIMITS["disk_storage"]
    max_memory_store: int = 16 * JETSTREAM_LIMITS["mem_storage"]
    max_connections: int = 65_536
    extra: dict[str, Any] = field(default_factory=dict)


def render(options: ServerOptions) -> dict[str, Any]:
    """The server's configuration; every value that the design asks for is stated, none is left to a default."""
    config: dict[str, Any] = {
        "server_name": options.name,
        "host": options.host,
        "port": options.port or -1,
        "http": f"127.0.0.1:{options.monitoring_port or -1}",
        "ports_file_dir": str(options.run_dir),
        "log_file": str(options.run_dir / "nats-server.log"),
        "logfile_size_limit": 16 * 1024**2,
        "logfile_max_num": 4,
        "max_payload": SERVER_PAYLOAD,
        "max_pending": 64 * 1024**2,
        "max_control_line": 4_096,
        "max_connections": options.max_connections,
        "write_deadline": "5s",
        "ping_interval": "2s",
        "ping_max": 2,
        "jetstream": _jetstream(options),
    }
    trust = authorization(options.trust, options.run_dir / "accounts")
    return config | trust | _encrypted(options) | _cluster(options) | options.extra


def _encrypted(options: ServerOptions) -> dict[str, Any]:
    return {} if options.tls is None else {"tls": {**options.tls.settings(), "handshake_first": "auto"}}


def _jetstream(options: ServerOptions) -> dict[str, Any]:
    return {
        "store_dir": str(options.store),
        "max_file_store": options.max_file_store,
        "max_memory_store": options.max_memory_store,
        "sync_interval": "always" if options.fsync else "2m",
    }


def authorization(trust: Trust | None, accounts: Path | None = None) -> dict[str, Any]:
    """The part that says whom the server believes; nothing without ``trust``. ``accounts``: the server's own directory
    for accounts that change while it runs; None: they are those of the configuration."""
    if trust is None:
        return {}
    resolver: Any = "MEMORY"
    if accounts is not None:
        resolver = {"type": "full", "dir": str(accounts), "allow_delete": False, "interval": "1m", "limit": 1_000}
    return {
        "operator": trust.operator,
        "system_account": trust.system_account,
        "resolver": resolver,
        "resolver_preload": trust.accounts,
        "authorization": {"timeout": 2},
    }


def _cluster(options: ServerOptions) -> dict[str, Any]:
    place = options.cluster
    if place is None:
        return {}
    routes = [f"nats-route://127.0.0.1:{port}" for port in place.routes]
    links = {} if options.tls is None else {"tls": options.tls.settings()}
    return {"cluster": {"name": place.name, "host": "127.0.0.1", "port": place.port, "routes": routes, **links}}
