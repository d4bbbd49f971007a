"""The embedded server, really started: readiness, fsync, restarts, locks, clusters."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import create_home, mint_agent, rotate_agent
from bursar.bus.server import (
    NatsCluster,
    NatsServer,
    ServerError,
    ServerOptions,
    StoreInUse,
    StreamDrift,
    StreamSizes,
    provision,
)
from bursar.cli.main import build
from tests.bus.support import RealServer, eventually

pytestmark = pytest.mark.integration


async def info(bus: NatsBus, stream: str) -> dict[str, dict[str, object]]:
    return dict(json.loads((await bus.request(f"$JS.API.STREAM.INFO.{stream}", b"", 5.0)).data))


async def append(bus: NatsBus, subject: str, payload: bytes) -> int:
    answer = json.loads((await bus.request(subject, payload, 5.0)).data)
    return int(answer["seq"])


async def test_running_server_says_that_it_fsyncs(tmp_path: Path) -> None:
    """The running value, not the file, is what start asserts."""
    async with NatsServer.plain(tmp_path) as server:
        page = await server.monitor("jsz")
    assert page["config"]["sync_always"] is True


async def test_server_that_does_not_fsync_is_not_started(tmp_path: Path) -> None:
    """When the running server says otherwise than asked for, start fails and leaves no process."""
    options = ServerOptions(tmp_path / "js", tmp_path / "run", extra={"jetstream": {"store_dir": str(tmp_path / "js")}})
    server = NatsServer(options=options)
    with pytest.raises(ServerError, match="sync_always False, not True"):
        await server.start()
    assert not server.running


async def test_acknowledged_messages_survive_kill_9_on_the_same_address(tmp_path: Path) -> None:
    """A restart finds the store and keeps the port."""
    async with NatsServer.plain(tmp_path) as server:
        url = server.url
        bus = await connect(url, principal="tester")
        await provision(bus, "limiter")
        for number in range(20):
            await append(bus, "bursar.log.limiter.0", b"%d" % number)
        server.kill()
        assert not server.running
        await server.restart()
        assert server.url == url
        await eventually(lambda: bus.is_connected, 10)
        assert (await info(bus, "BURSAR_LOG_LIMITER"))["state"]["last_seq"] == 20
        await bus.close()


async def test_second_server_on_a_store_is_refused_and_the_first_lives(tmp_path: Path) -> None:
    """Two servers on one store would destroy it."""
    home = create_home(tmp_path)
    async with NatsServer(home) as first:
        with pytest.raises(StoreInUse, match=rf"{tmp_path}.*{first.url}"):
            await NatsServer(home).start()
        assert first.running
    async with NatsServer(home):
        pass


STARTER = """
import asyncio, os, pathlib, signal, sys
from bursar.bus.server import NatsServer
server = NatsServer.plain(pathlib.Path(sys.argv[1]))
asyncio.run(server.start())  # the loop and its threads have ended when the process dies
assert server.running
if sys.argv[2] == "paused":
    server.pause()
print(server.pid, flush=True)
os.kill(os.getpid(), 9)
"""


async def _killed_starter(directory: Path, how: str) -> int:
    """The process id of a server whose starter got kill -9."""
    command = [sys.executable, "-c", STARTER, str(directory), how]
    starter = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return int(starter.stdout)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_server_ends_with_its_starter_even_by_kill_9(tmp_path: Path) -> None:
    """No server is left behind, and the next start finds the store free."""
    pid = await _killed_starter(tmp_path, "running")
    await eventually(lambda: _has_ended(pid), 10)
    async with NatsServer.plain(tmp_path):
        pass


async def test_store_stays_locked_while_a_server_outlives_its_starter(tmp_path: Path) -> None:
    """As one that is stopped by SIGSTOP does: the next start says which process to end."""
    pid = await _killed_starter(tmp_path, "paused")
    try:
        with pytest.raises(StoreInUse, match=f"kill {pid}"):
            await NatsServer.plain(tmp_path).start()
    finally:
        os.kill(pid, 9)


async def test_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    """The server's own words are in the error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = NatsServer.plain(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ServerError, match="address already in use"):
            await server.start()


async def test_paused_server_can_be_stopped(tmp_path: Path) -> None:
    """Stopping does not hang on a stopped process."""
    server = NatsServer.plain(tmp_path)
    await server.start()
    server.pause()
    await asyncio.wait_for(server.stop(), 10)
    assert not server.running


async def test_provisioned_streams_are_verified_and_drift_is_refused(tmp_path: Path) -> None:
    """Against the real server: created once, accepted again, refused with other settings."""
    async with NatsServer.plain(tmp_path) as server:
        bus = await connect(server.url, principal="tester")
        await provision(bus, "limiter")
        await provision(bus, "limiter")
        with pytest.raises(StreamDrift, match="max_bytes"):
            await provision(bus, "limiter", sizes=StreamSizes(log=1_000_000))
        await bus.close()


async def test_three_manifests_are_kept_and_a_full_store_refuses(tmp_path: Path) -> None:
    """The per-subject limit rolls although the stream as a whole discards new messages."""
    async with NatsServer.plain(tmp_path) as server:
        bus = await connect(server.url, principal="tester")
        await provision(bus, "limiter", sizes=StreamSizes(checkpoints=20_000))
        for number in range(5):
            await append(bus, "bursar.ckpt.limiter.0.manifest", b"%d" % number)
        state = (await info(bus, "BURSAR_CKPT_LIMITER"))["state"]
        assert (state["messages"], state["first_seq"]) == (3, 3)
        answer = json.loads((await bus.request("bursar.ckpt.limiter.0.1.0", b"x" * 30_000, 5.0)).data)
        assert answer["error"]["err_code"] == 10077
        assert (await info(bus, "BURSAR_CKPT_LIMITER"))["state"]["messages"] == 3
        await bus.close()


async def test_minting_takes_effect_without_a_reload_and_revoking_with_a_restart(tmp_path: Path) -> None:
    """New credentials work at once; replaced ones are refused from the next start on."""
    home = create_home(tmp_path)
    async with NatsServer(home) as server:
        old = mint_agent(home, "alice").read_text()
        bus = await connect(server.url, home.creds("alice"), principal="alice")
        await bus.close()
        rotate_agent(home, "alice")
        await server.restart()
        (tmp_path / "old.creds").write_text(old)
        bus = await connect(server.url, home.creds("alice"), principal="alice")
        await bus.close()
        with pytest.raises(Exception, match="refuses these credentials"):
            await connect(server.url, tmp_path / "old.creds", principal="alice", timeout=3)


async def test_cluster_with_identities_replicates_and_survives_its_leader(tmp_path: Path) -> None:
    """Three servers with the home's accounts: a replicated stream has a leader, and another one after its death."""
    home = create_home(tmp_path / "home")
    async with NatsCluster(tmp_path / "cluster", home=home) as cluster:
        principal = "svc-limiter-provisioner"
        bus = await connect(cluster.urls, home.creds(principal), principal=principal)
        await provision(bus, "limiter", replicas=3)
        await bus.close()
        leader = await cluster.leader_of("BURSAR_LOG_LIMITER")
        leader.kill()
        successor = await cluster.leader_of("BURSAR_LOG_LIMITER", timeout=30)
        assert successor.name != leader.name


async def test_server_of_ones_own_knows_the_home_by_its_printed_trust(tmp_path: Path) -> None:
    """The output of `bursar trust`, included in a configuration, is all that another server needs."""
    home = create_home(tmp_path / "home")
    page = CliRunner().invoke(build(["bursar.cli.trust"]), ["trust", "--home", str(home.path)])
    (tmp_path / "trust.conf").write_text(page.stdout)
    (tmp_path / "own.conf").write_text("ping_interval: 2s\ninclude 'trust.conf'\n")
    server = RealServer("-c", str(tmp_path / "own.conf"))
    server.start()
    try:
        bus = await connect(server.url, mint_agent(home, "alice"), principal="alice")
        await bus.close()
    finally:
        server.stop()
