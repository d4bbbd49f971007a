"""One installation with a real server, for `bursar doctor` to examine: sound, or with one thing made wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bursar.bus.base import Bus
from bursar.bus.connection import connect
from bursar.bus.identity import Home, Trust, create_home, jwt, keys
from bursar.bus.server import NatsServer, ProvisionError, ServerOptions, StreamSizes, provision
from bursar.bus.server.binary import find_binary
from bursar.bus.server.config import render
from bursar.bus.server.provision import provision_audit
from tests.bus.support import free_port

Change = Callable[[ServerOptions], ServerOptions]


class Site(NamedTuple):
    home: Home
    urls: list[str]


def options_of(home: Home) -> ServerOptions:
    """As `bursar up` runs a server, without the checks of `NatsServer`."""
    return ServerOptions(store=home.store_dir, run_dir=home.path / "run", trust=home.trust())


@asynccontextmanager
async def site(
    directory: Path, change: Change = lambda options: options, sizes: StreamSizes | None = None
) -> AsyncIterator[Site]:
    """A server for a home of its own, its options changed, with the streams of two services."""
    home = create_home(directory / "home", ("limiter", "scheduler"))
    async with NatsServer(options=change(options_of(home))) as server:
        await settle(home, server.url, sizes)
        yield Site(home, [server.url])


async def settle(home: Home, url: str, sizes: StreamSizes | None = None, replicas: int = 1) -> None:
    """Make the streams, as their provisioners; a young cluster refuses until its servers have met."""
    for principal in (*(f"svc-{service}-provisioner" for service in home.services), "audit-provisioner"):
        bus = await connect(url.split(","), home.creds(principal), principal=principal)
        try:
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(ProvisionError):
                        await _make(bus, principal, replicas, sizes)
                        break
        finally:
            await bus.close()


async def _make(bus: Bus, principal: str, replicas: int, sizes: StreamSizes | None) -> None:
    if principal == "audit-provisioner":
        await provision_audit(bus, replicas)
    else:
        await provision(bus, principal.removeprefix("svc-").removesuffix("-provisioner"), replicas, sizes)


async def edit_stream(place: Site, service: str, stream: str, **fields: Any) -> None:
    """Change a stream's configuration, as its provisioner may."""
    principal = f"svc-{service}-provisioner"
    bus = await connect(place.urls, place.home.creds(principal), principal=principal)
    info = json.loads((await bus.request(f"$JS.API.STREAM.INFO.{stream}", b"", 5.0)).data)
    config = json.dumps(info["config"] | fields).encode()
    answer = json.loads((await bus.request(f"$JS.API.STREAM.UPDATE.{stream}", config, 5.0)).data)
    await bus.close()
    assert "error" not in answer, answer


def with_rights(options: ServerOptions, home: Home, role: str, *subjects: str) -> ServerOptions:
    """The server believes that a role may publish more than the home says."""
    assert options.trust is not None
    operator = keys.load(home.keys_dir / "operator.nk")
    accounts = {}
    for key, token in options.trust.accounts.items():
        claims = jwt.decode(token)
        for scope in claims["nats"].get("signing_keys", ()):
            if scope["role"] == role:
                scope["template"]["pub"]["allow"] += subjects
        accounts[key] = jwt.encode(key, claims["name"], claims["nats"], operator)
    return replace(options, trust=Trust(options.trust.operator, options.trust.system_account, accounts))


@asynccontextmanager
async def old_server(directory: Path, version: str) -> AsyncIterator[Site]:
    """A real server that says it is of another version (of as many letters): its binary's own constant is changed."""
    home = create_home(directory / "home", ())
    binary = _renamed(directory / "old-nats-server", version)
    port = free_port()
    config = render(replace(options_of(home), port=port))
    (home.path / "run").mkdir()
    (home.path / "run" / "server.conf").write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(binary, "-c", home.path / "run" / "server.conf")
    try:
        url = f"nats://127.0.0.1:{port}"
        bus = await connect(url, home.creds("audit-provisioner"), principal="audit-provisioner")
        await provision_audit(bus)
        await bus.close()
        yield Site(home, [url])
    finally:
        process.kill()
        await process.wait()


def _renamed(binary: Path, version: str) -> Path:
    told = subprocess.run([find_binary(), "--version"], capture_output=True, check=True).stdout.split(b"v")[-1].strip()
    assert len(told) == len(version)
    binary.write_bytes(find_binary().read_bytes().replace(told, version.encode()))
    binary.chmod(0o700)
    return binary
