"""Rules for the servers: version, settings in force, TLS, clocks, disks, one cluster."""

from __future__ import annotations

import ipaddress
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bursar.bus.permissions import SERVER_PAYLOAD
from bursar.bus.server.binary import MINIMUM, ServerError, parse_version
from bursar.bus.server.config import ServerOptions, render
from bursar.cli.doctor.asking import Facts, Page
from bursar.cli.doctor.finding import Finding, judged

GiB: Final = 1024**3
CERTIFICATE_DAYS: Final = 14
SILENT_NS: Final = 5_000_000_000
STORAGE_SHARE: Final = 0.8
_DURATIONS: Final = {"2s": 2_000_000_000, "5s": 5_000_000_000}


def servers(facts: Facts, max_offset_ms: int, min_free: int, promised: int) -> Iterator[Finding]:
    """All rules for all servers that answered. ``min_free``: bytes that a disk must have left; ``promised``: bytes of
    storage that the accounts may take together."""
    for name, page in facts.varz.items():
        yield _version(name, page)
        yield _fsync(name, page)
        yield from _settings(name, page)
        yield from _tls(name, page)
        yield from _storage(name, page, min_free, promised)
        yield _health(name, facts.health.get(name, {}))
        offset = facts.offset_ms.get(name, 0)
        mend = "keep the clocks of all machines together (chrony or systemd-timesyncd)"
        yield judged("clock", name, abs(offset) <= max_offset_ms, f"{offset} ms", f"within {max_offset_ms} ms", mend)
    yield from one_cluster(facts.clusters)
    yield from _meta(facts.jsz)


def _version(name: str, page: Page) -> Finding:
    told, floor = str(page.get("version", "?")), ".".join(map(str, MINIMUM))
    try:
        is_fine = parse_version(told) >= MINIMUM
    except ServerError:
        is_fine = False
    mend = "upgrade the server: older ones lose acknowledged data and have known holes; services refuse to start"
    return judged("server_version", name, is_fine, told, f"{floor} or newer", mend)


def _fsync(name: str, page: Page) -> Finding:
    config = (page.get("jetstream") or {}).get("config") or {}
    always = bool(config.get("sync_always"))
    found = "always" if always else f"every {config.get('sync_interval', 0) / 1e9:g} s"
    mend = "set `sync_interval: always` in the jetstream block and restart the server: a crash loses what is not synced"
    return judged("sync_interval", name, always, found, "always", mend)


def _settings(name: str, page: Page) -> Iterator[Finding]:
    """What `bursar.bus.server.config` asks for, as far as a running server tells it."""
    wanted = render(ServerOptions(Path(), Path()))
    bounds = {
        "max_payload": SERVER_PAYLOAD,
        "max_control_line": wanted["max_control_line"],
        "ping_max": wanted["ping_max"],
        "ping_interval": _DURATIONS[wanted["ping_interval"]],
        "write_deadline": _DURATIONS[wanted["write_deadline"]],
    }
    for key, bound in bounds.items():
        found = page.get(key, 0)
        is_fine = found == bound if key == "max_payload" else 0 < found <= bound
        words = f"{bound}" if key == "max_payload" else f"at most {bound}"
        mend = f"set `{key}` as `bursar deploy bundle` does"
        yield judged(key, name, is_fine, found, words, mend)
    mend = "give the server the identities of the home: `bursar trust`"
    yield judged("authentication", name, bool(page.get("auth_required")), page.get("auth_required", False), True, mend)


def _tls(name: str, page: Page) -> Iterator[Finding]:
    """Encrypted with certificates on both ends, unless it can be reached from this machine alone."""
    mend = "give it certificates: `bursar deploy bundle` makes them, with the configuration"
    host = str(page.get("host", ""))
    told = "required" if page.get("tls_required") else "off"
    told += ", client certificates" if page.get("tls_verify") else ", no client certificates"
    is_fine = bool(page.get("tls_required") and page.get("tls_verify")) or (told[:3] == "off" and is_loopback(host))
    yield judged(
        "tls", f"{name} at {host}", is_fine, told, "required, with client certificates, or loopback only", mend
    )
    routes = page.get("cluster") or {}
    if routes.get("name") or routes.get("urls"):
        encrypted = bool(routes.get("tls_required") and routes.get("tls_verify"))
        is_fine = encrypted or is_loopback(str(routes.get("addr", "")))
        found = "required, with certificates" if encrypted else "off, or without certificates"
        yield judged("tls_routes", name, is_fine, found, "required, with certificates, or loopback only", mend)
    if until := str(page.get("tls_cert_not_after") or ""):
        days = (datetime.fromisoformat(until).timestamp() - time.time()) / 86_400
        mend = "make new certificates (`bursar deploy bundle`) and hand them to the server"
        yield judged(
            "certificate", name, days >= CERTIFICATE_DAYS, f"{days:.0f} days left", f"{CERTIFICATE_DAYS} days", mend
        )


def _storage(name: str, page: Page, min_free: int, promised: int) -> Iterator[Finding]:
    jetstream = page.get("jetstream") or {}
    config, stats = jetstream.get("config") or {}, jetstream.get("stats") or {}
    most, used = int(config.get("max_storage", 0)), int(stats.get("storage", 0))
    mend = "raise `max_file_store`, or find out which stream grows"
    share = used / most if most > 0 else 1.0
    yield judged("jetstream_storage", name, share <= STORAGE_SHARE, f"{share:.0%} used", f"{STORAGE_SHARE:.0%}", mend)
    mend = "raise `max_file_store`: an account that is promised more than there is gets no JetStream at all"
    yield judged("jetstream_limits", name, most >= promised, f"{most / GiB:g} GiB", f"{promised / GiB:g} GiB", mend)
    store = Path(str(config.get("store_dir") or "/nowhere"))
    if is_loopback(str(page.get("host", ""))) and store.is_dir():
        free = shutil.disk_usage(store).free
        mend = f"make room on the disk of {store}: a full one refuses every decision"
        yield judged(
            "disk", f"{name}: {store}", free >= min_free, f"{free / GiB:.1f} GiB free", f"{min_free / GiB:g} GiB", mend
        )


def _health(name: str, page: Page) -> Finding:
    told = page.get("status", "no answer")
    words = f"{told}: {page['error']}" if page.get("error") else told
    mend = "see the server's log; a replica that is behind catches up by itself"
    return judged("server_health", name, told == "ok", words, "ok", mend)


def one_cluster(clusters: Mapping[str, frozenset[str] | None]) -> Iterator[Finding]:
    """All addresses must lead to the same servers: two clusters are two journals, and each would grant everything."""
    for url, found in clusters.items():
        mend = "start that server, or take its address out of the list"
        yield judged("address", url, found is not None, "answers" if found else "nobody answers", "answers", mend)
    known = {found for found in clusters.values() if found}
    together = len(known) <= 1
    mend = "join them (`cluster.routes`), or name the servers of one cluster only"
    words = f"{len(known)} separate clusters" if not together else "one cluster"
    yield judged("one_cluster", ", ".join(clusters), together, words, "one cluster", mend)


def _meta(jsz: Mapping[str, Page]) -> Iterator[Finding]:
    """A cluster needs a leader, an odd number of servers, and all of them."""
    metas = {name: page["meta_cluster"] for name, page in jsz.items() if page.get("meta_cluster")}
    if not metas:
        return
    name = next((name for name, meta in metas.items() if meta.get("leader") == name), next(iter(metas)))
    led = metas[name]
    size, leader = int(led.get("cluster_size", 0)), str(led.get("leader") or "")
    missing = [peer["name"] for peer in led.get("replicas") or () if is_away(peer)]
    mend = "start the missing servers; without a majority nothing is decided"
    found = f"leader {leader or 'none'}, {size} servers" + (f", away: {', '.join(missing)}" if missing else "")
    is_fine = bool(leader) and size % 2 == 1 and not missing
    yield judged("cluster", str(led.get("name", "")), is_fine, found, "a leader, an odd number, none away", mend)


def is_away(peer: Page) -> bool:
    """Whether the leader of a group has not heard of a member for `SILENT_NS`, or never: they speak every second."""
    heard = int(peer.get("active", 0))
    return bool(peer.get("offline")) or heard > SILENT_NS or (heard == 0 and not peer.get("current"))


def is_loopback(address: str) -> bool:
    """Whether an address (or URL, or host:port) can be reached from its own machine alone."""
    host = urlsplit(address).hostname if "://" in address else urlsplit(f"//{address}").hostname
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
