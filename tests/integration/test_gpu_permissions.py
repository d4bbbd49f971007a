"""Who may say what: the real permissions, a real manager, and the probe as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.server import NatsServer
from bursar.client.fleet import Fleet
from bursar.client.gpu_simulated import SimulatedCards, SimulatedProcess
from bursar.contracts.gpu import SERVICE
from bursar.errors import BursarError, ServiceError
from tests.integration.gpu_hosts import GIB, when
from tests.integration.support import ROOT, settled_in, until

pytestmark = pytest.mark.integration

NAME = f"svc-{SERVICE}"


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    made = create_home(tmp_path / "home", [SERVICE])
    mint_agent(made, "ann")
    mint_agent(made, "bob")
    for name in ("gpu-a", "gpu-b"):
        mint_agent(made, name, role="node")
    return made


@asynccontextmanager
async def running(home: Home) -> AsyncIterator[str]:
    """The server, the manager and one probe that plays both hosts; the address of its control port."""
    server = NatsServer(home)
    await server.start()
    started: list[subprocess.Popen[bytes]] = []
    log = home.path / "node.log"
    try:
        env = await settled_in(home, server.url, SERVICE)
        node = [sys.executable, "-m", "bursar_gpu_manager.node", "--simulate", "2x16GiB", "--control", "127.0.0.1:0"]
        node += ["--interval", "0.1", "--creds", str(home.creds("gpu-a")), "--creds", str(home.creds("gpu-b"))]
        started += _launch(node, env, log)
        await until(lambda: b'"started"' in log.read_bytes(), 10, "the probe is at work")
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        yield next(str(row["control"]) for row in rows if row["event"] == "started")
        started[1].send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(started[1].wait, 10) == 0
    finally:
        for process in started:
            process.kill()
            process.wait()
        await server.stop()


def _launch(node: list[str], env: dict[str, str], log: Path) -> list[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        command = [sys.executable, "-m", "bursar_gpu_manager"]
        return [
            subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, cwd=ROOT),
            subprocess.Popen(node, env=env, stderr=out, cwd=ROOT),
        ]


async def the_bus(home: Home, principal: str) -> NatsBus:
    url = json.loads((home.path / "run" / "lock").read_bytes())["url"]
    return await connect(url, home.creds(principal), principal=principal)


async def test_probe_manager_and_agents_each_speak_for_themselves(home: Home) -> None:
    """A probe only for its host, an agent for no host; nobody for another's lease; only operators administrate."""
    async with running(home) as control:
        ann, bob, ops, node = [await the_bus(home, name) for name in ("ann", "bob", "ops", "gpu-b")]
        async with Fleet(None, bus=ann) as fleet:
            await when(fleet.gpu, lambda told: sum(device.fresh for device in told.devices) == 4)
            report = (await fleet.gpu.status("gpu-a")).hosts
            await _nobody_speaks_for_a_host([ann, ops, node], fleet)
            assert [host.host for host in (await fleet.gpu.status("gpu-a")).hosts] == [host.host for host in report]
            lease = await fleet.gpu.lease(4 * GIB, hosts=["gpu-a"])
            await _a_probe_is_told_of_its_own_host(ann, node)
            await _nobody_touches_it(bob, lease.id, lease.fence)
            await _only_operators_administrate(ann, node, lease.id)
            assert lease.held
            await _a_process_really_allocates(control, fleet)
            answer = await ops.request(
                f"bursar.adm.{SERVICE}.drop.ops", json.dumps({"id": "x-1", "lease": lease.id}).encode(), 2.0
            )
            assert json.loads(answer.data)["ok"] is True
            assert await asyncio.wait_for(lease.lost.wait(), 5) == "dropped"
        for bus in (ann, bob, ops, node):
            await bus.close()


async def _nobody_speaks_for_a_host(buses: list[NatsBus], fleet: Fleet) -> None:
    """An empty report would lose the host's cards at once, were it heard."""
    empty = json.dumps({"boot": "f0", "seq": 1, "devices": []}).encode()
    for bus in buses:
        bus.publish("bursar.node.gpu-a.gpu", empty)
        await bus.flush()
    seen = (await fleet.gpu.status("gpu-a")).devices[0].age_ms or 0
    await when(fleet.gpu, lambda told: (told.devices[0].age_ms or 0) <= seen)
    assert all(device.state == "ready" for device in (await fleet.gpu.status("gpu-a")).devices)


async def _a_probe_is_told_of_its_own_host(ann: NatsBus, node: NatsBus) -> None:
    """Which leases there are on its cards; an agent cannot ask as a host."""
    told = json.loads((await node.request(f"bursar.req.{SERVICE}.holdings.gpu-b", b"{}", 2.0)).data)
    assert (told["ok"], told["leases"]) == (True, [])
    with pytest.raises(BursarError):
        await ann.request(f"bursar.req.{SERVICE}.holdings.gpu-a", b"{}", 0.3)


async def _nobody_touches_it(bob: NatsBus, lease: str, fence: str) -> None:
    """Not even with its fence, which was given to another; a forged fence is refused as such, too."""
    for verb in ("renew", "release"):
        for number, proof in enumerate((fence, fence[:-1] + ("0" if fence[-1] != "0" else "1"))):
            body = json.dumps({"id": f"{verb}-{number + 1}", "lease": lease, "fence": proof}).encode()
            answer = await bob.request(f"bursar.req.{SERVICE}.{verb}.bob", body, 2.0)
            assert json.loads(answer.data)["error"]["code"] == "bad_fence"


async def _only_operators_administrate(ann: NatsBus, node: NatsBus, lease: str) -> None:
    for bus in (ann, node):
        for name in (bus.principal, "ops"):
            body = json.dumps({"id": "y-1", "lease": lease}).encode()
            with pytest.raises(BursarError):
                await bus.request(f"bursar.adm.{SERVICE}.drop.{name}", body, 0.3)


async def _a_process_really_allocates(control: str, fleet: Fleet) -> None:
    """Over the control port; the driver refuses what is not there, and counts what is against the rule."""
    cards = await SimulatedCards.connect(control)
    async with fleet.gpu.lease(4 * GIB, hosts=["gpu-b"]) as lease:
        async with SimulatedProcess.on(control, "gpu-b") as process:
            await lease.bind(process.identity)
            await process.allocate(lease.device, 4 * GIB)
            await when(fleet.gpu, lambda told: any(row.observed == 4 * GIB for row in told.leases))
            with pytest.raises(ServiceError, match="out_of_memory"):
                await process.allocate(lease.device, 13 * GIB)
            assert (await cards.judge())["gpu-b"]["violations"] == 0
            await process.allocate(lease.device, 12 * GIB - GIB // 4)
            told = (await cards.judge())["gpu-b"]
            assert (told["violations"], told["out_of_memory"], told["allocations"]) == (1, 1, 2)
            await process.free(lease.device, GIB)
        assert (await cards.judge())["gpu-b"]["devices"][lease.device]["used"] == 0
        await cards.lose("gpu-b", lease.device)
        assert await asyncio.wait_for(lease.lost.wait(), 5) == "device_lost"
        await cards.restore("gpu-b", lease.device)
    await cards.close()
