"""Credentials of a running installation: made, changed and taken away while everybody else goes on undisturbed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bursar.bus.base import ConnectFailed
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home, mint_agent, revoke_agent, rotate_agent
from bursar.bus.server import NatsCluster, NatsServer
from bursar.bus.server.system import last_seen, tell_accounts
from bursar.cli.main import available, build
from tests.bus.support import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    home = create_home(tmp_path / "home", ["limiter"])
    for name in ("a1", "a2"):
        mint_agent(home, name)
    async with NatsServer(home) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def joined(server: NatsServer, home: Home, name: str, closed: list[str] | None = None) -> NatsBus:
    ended = (lambda: closed.append(name)) if closed is not None else None
    return await connect(server.url, home.creds(name), principal=name, on_closed=ended, timeout=5.0)


async def test_who_is_revoked_is_cut_off_at_once_and_nobody_else_is(server: NatsServer, home: Home) -> None:
    """Neither by a restart nor by a reload: a request that is on its way is answered."""
    closed: list[str] = []
    victim, witness, service = [await joined(server, home, name, closed) for name in ("a1", "a2", "svc-limiter")]
    held: list[str] = []
    await service.subscribe("bursar.req.limiter.*.*", lambda message: held.append(message.reply), "q")
    waiting = asyncio.create_task(witness.request("bursar.req.limiter.x.a2", b"{}", 10.0))
    await eventually(lambda: len(held) == 1)
    revoke_agent(home, "a1")
    began = time.monotonic()
    await tell_accounts([server.url], home)
    await eventually(lambda: closed == ["a1"])
    assert time.monotonic() - began < 5.0
    service.publish(held[0], b"answer")
    assert (await waiting).data == b"answer"
    assert (witness.counts["disconnects"], service.counts["disconnects"]) == (0, 0)
    with pytest.raises(ConnectFailed, match="refuses these credentials"):
        await joined(server, home, "a1")
    mint_agent(home, "a1")  # the name is free again, with another key
    for bus in (victim, witness, service, await joined(server, home, "a1")):
        await bus.close()


async def test_after_a_rotation_the_new_key_works_and_the_old_one_is_cut(server: NatsServer, home: Home) -> None:
    """Also again and again within a second, and after a restart of the server."""
    closed: list[str] = []
    kept = b""
    for _ in range(3):
        old = await joined(server, home, "a1", closed)
        kept = home.creds("a1").read_bytes()
        rotate_agent(home, "a1")
        await tell_accounts([server.url], home)
        await eventually(lambda: len(closed) == 1)
        closed.clear()
        await old.close()
        await (await joined(server, home, "a1")).close()
    await server.restart()
    await (await joined(server, home, "a1")).close()
    home.creds("a1").write_bytes(kept)
    with pytest.raises(ConnectFailed):
        await joined(server, home, "a1")


async def test_servers_know_who_was_there_and_when(server: NatsServer, home: Home) -> None:
    """By the name in the credentials, whatever a connection calls itself."""
    began = time.time()
    bus = await connect(server.url, home.creds("a1"), principal="a1", name="somebody-else")
    await bus.close()
    await (await joined(server, home, "a2")).close()
    seen = await last_seen([server.url], home)
    assert {"a1", "a2"} <= seen.keys()
    assert "somebody-else" not in seen
    assert all(began - 1 <= seen[name] <= time.time() + 1 for name in ("a1", "a2"))


async def test_one_server_of_a_cluster_tells_the_others(tmp_path: Path) -> None:
    """A revocation that was told to one holds on all three."""
    home = create_home(tmp_path / "home", ["limiter"])
    mint_agent(home, "a1")
    async with NatsCluster(tmp_path / "cluster", home=home) as cluster:
        closed: list[str] = []
        buses = [await joined(node, home, "a1", closed) for node in cluster.nodes]
        revoke_agent(home, "a1")
        await tell_accounts([cluster.urls[0]], home)
        await eventually(lambda: len(closed) == 3, within=15.0)
        for bus, node in zip(buses, cluster.nodes, strict=True):
            await bus.close()
            with pytest.raises(ConnectFailed):
                await joined(node, home, "a1")


@pytest.fixture
def bursar() -> Callable[..., Result]:
    app = build(available())
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


async def test_command_line_rotates_revokes_and_lists_live(
    server: NatsServer, home: Home, bursar: Callable[..., Result]
) -> None:
    """As a person does it, beside a running server."""
    closed: list[str] = []
    bus = await joined(server, home, "a1", closed)
    common = ("--home", home.path, "--nats", server.url)
    rotated = await asyncio.to_thread(bursar, "agent", "rotate", "a1", *common)
    assert (rotated.exit_code, "cut off" in rotated.stderr) == (0, True), rotated.output
    await eventually(lambda: closed == ["a1"])
    await bus.close()
    await (await joined(server, home, "a1")).close()
    revoked = await asyncio.to_thread(bursar, "agent", "revoke", "a2", *common)
    assert revoked.exit_code == 0, revoked.output
    with pytest.raises(ConnectFailed):
        await joined(server, home, "a2")
    listed = await asyncio.to_thread(bursar, "agent", "list", *common)
    rows = {line.split("\t")[0]: line.split("\t") for line in listed.stdout.splitlines()}
    assert (rows["a1"][2], rows["a2"][2]) == ("valid", "revoked")
    assert rows["a1"][4] != "-"
    refused = await asyncio.to_thread(bursar, "agent", "revoke", "svc-limiter", *common)
    assert (refused.exit_code, "rotate" in refused.stderr) == (1, True)
