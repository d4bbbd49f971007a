"""What befalls a fleet of cards, with real processes: two managers, a probe behind a line that can be cut, holders that
allocate on its cards, and the cards as the judge."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.base import Msg
from bursar.client.fleet import Fleet
from bursar.client.gpu_errors import GpuRefused, LeaseLost
from bursar.client.gpu_gate import enter
from bursar.client.gpu_simulated import SimulatedCards, SimulatedProcess
from bursar.errors import ServiceError
from bursar_gpu_manager.state import validate
from tests.bus.proxy import Proxy
from tests.integration.gpu_hosts import GIB, manager, when
from tests.integration.support import ROOT, Rig, until

pytestmark = pytest.mark.integration

FIRST, SECOND = "SIM-h1-0", "SIM-h1-1"


class Node:
    """The probe of one host, as a process of its own; it reaches the server over a line that can be cut."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self.directory = directory
        self.control = str(directory / "control")
        self.gate = str(directory / "gate")
        self.log = directory / "node.log"
        self.line = Proxy(urlsplit(rig.server.url).port or 0)
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        node = [sys.executable, "-m", "bursar_gpu_manager.node", "--name", "h1", "--simulate", "2x16GiB"]
        node += ["--control", self.control, "--gate", self.gate, "--enforce", "--grace", "0.3", "--interval", "0.1"]
        with self.log.open("wb") as out:
            env = {**os.environ, "BURSAR_URL": self.line.url}
            self.process = subprocess.Popen(node, env=env, stderr=out, cwd=ROOT)

    async def is_at_work(self) -> None:
        await until(lambda: b'"started"' in self.log.read_bytes(), 20, "the probe is at work")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def node_of(rig: Rig, directory: Path) -> AsyncIterator[Node]:
    node = Node(rig, directory)
    await node.line.start()
    node.launch()
    try:
        yield node
    finally:
        node.kill()
        await node.line.stop()


@asynccontextmanager
async def at_work(tmp_path: Path, *managers: str) -> AsyncIterator[tuple[Rig, Node, Fleet]]:
    """The managers, the node, an agent; both cards are there."""
    async with (
        manager(tmp_path, BURSAR_GPU_SILENCE_MS="1200", BURSAR_GPU_FRESH_MS="600") as rig,
        node_of(rig, tmp_path) as node,  # it starts while the managers do
        Fleet(None, bus=await rig.bus("ann")) as ann,
    ):
        await rig.start(*managers)
        await node.is_at_work()
        await when(ann.gpu, lambda told: sum(device.fresh for device in told.devices) == 2)
        yield rig, node, ann


async def operate(rig: Rig, verb: str, **fields: object) -> None:
    ops = await rig.bus("ops")
    answer = await ops.request(f"bursar.adm.gpu-manager.{verb}.ops", json.dumps(fields).encode(), 2.0)
    assert json.loads(answer.data)["ok"] is True


async def test_two_managers_one_killed_while_a_stranger_and_a_failure_befall_a_card(tmp_path: Path) -> None:
    """The lease holds through all of it, is unknown to the successor until its process is seen, and everybody hears of
    the stranger; nobody is promised what it has taken."""
    async with at_work(tmp_path, "a", "b") as (rig, node, ann):
        alarms: list[dict[str, object]] = []
        watcher = await rig.bus("watcher")

        def hear(msg: Msg) -> None:
            alarms.append(msgpack.unpackb(msg.data))

        await watcher.subscribe("bursar.evt.gpu-manager.alarm.*", hear)
        lease = await ann.gpu.lease(10 * GIB, ttl=3.0, processes=[], purpose="loading")
        async with SimulatedProcess.on(node.control, "h1") as holder:
            with pytest.raises(ServiceError) as refused:
                await enter(node.gate, lease, holder.identity)
            assert refused.value.code == "not_named"
            await lease.bind(holder.identity)
            await enter(node.gate, lease, holder.identity)
            await holder.allocate(lease.device, 10 * GIB)
            await lease.loaded("weights")
            async with SimulatedProcess.on(node.control, "h1", foreign=True) as stranger:
                await stranger.allocate(lease.device, 3 * GIB)
                await until(lambda: len(alarms) > 0, 5, "the stranger is told of")
                assert b"foreign" in msgpack.packb(alarms[0])
                rig["a"].kill()
                await rig["b"].becomes("owner")
                rig.launch("a")
                told = await when(ann.gpu, lambda told: told.leases_unknown == 0 and told.leases[0].phase == "active")
                assert [device.foreign for device in told.devices] == [3 * GIB, 0]
                other = "SIM-h1-1" if lease.device == FIRST else FIRST
                with pytest.raises(GpuRefused):
                    await ann.gpu.lease(3 * GIB, exclude=[other])
                explained = await ann.gpu.explain(3 * GIB, exclude=[other])
                assert [one.lease for one in explained.free or []] == [lease.id]
                what_if = await ann.gpu.what_if("llama-3-8b", context=8_192)
                assert not what_if.fits
                cards = await SimulatedCards.connect(node.control)
                await cards.ask("fail", host="h1", device=other)
                async with ann.gpu.lease(GIB, exclude=[lease.device]) as second:
                    with pytest.raises(ServiceError, match="out_of_memory"):
                        await holder.allocate(second.device, GIB // 2)
                    await holder.allocate(second.device, GIB // 2)
                assert lease.held
                judged = await cards.judge()
                assert judged["h1"]["violations"] == 0
                await cards.close()
            await lease.release()
        await rig["a"].is_up(("standby",))
        final, _ = await rig.walk()
        validate(final.state, final.time)
        assert final.state.leases == {}


async def test_a_host_that_is_cut_off_and_a_card_that_falls_off_the_bus(tmp_path: Path) -> None:
    """Their leases end and the holders hear; what a process still has there is granted to nobody when they are back;
    and when the probe is killed, its successor goes on where it was."""
    async with at_work(tmp_path, "a") as (_, node, ann):
        lease = await ann.gpu.lease(12 * GIB, ttl=60.0)
        async with SimulatedProcess.on(node.control, "h1") as holder:
            await lease.bind(holder.identity)
            await holder.allocate(lease.device, 12 * GIB)
            node.line.cut()
            node.line.stall()
            assert await asyncio.wait_for(lease.lost.wait(), 10) == "device_lost"
            node.line.heal()
            told = await when(ann.gpu, lambda told: all(device.fresh for device in told.devices), 15)
            assert [device.state for device in told.devices] == ["ready", "ready"]
            with pytest.raises(LeaseLost):
                await enter(node.gate, lease, holder.identity)
            both = asyncio.ensure_future(ann.gpu.lease(12 * GIB, devices=2, wait=20.0).__aenter__())
            await when(ann.gpu, lambda told: told.waiting == 1)
            await lease.release()
        await (await asyncio.wait_for(both, 20)).release()
        second = await ann.gpu.lease(GIB, ttl=60.0, exclude=[SECOND])
        cards = await SimulatedCards.connect(node.control)
        await cards.lose("h1", FIRST)
        assert await asyncio.wait_for(second.lost.wait(), 5) == "device_lost"
        await cards.close()
        node.kill()
        await when(ann.gpu, lambda told: all(device.state == "lost" for device in told.devices))
        node.launch()
        await when(ann.gpu, lambda told: all(device.fresh for device in told.devices))
        await second.release()
        await (await ann.gpu.lease(12 * GIB, devices=2)).release()


async def test_the_probe_ends_processes_on_order_and_those_that_outlive_their_lease(tmp_path: Path) -> None:
    """And nobody else's; it reports what it has done."""
    async with at_work(tmp_path, "a") as (rig, node, ann):
        first, second = await ann.gpu.lease(4 * GIB), await ann.gpu.lease(4 * GIB)
        cards = await SimulatedCards.connect(node.control)
        async with (
            SimulatedProcess.on(node.control, "h1") as ordered,
            SimulatedProcess.on(node.control, "h1") as late,
            SimulatedProcess.on(node.control, "h1", foreign=True) as stranger,
        ):
            for lease, process in ((first, ordered), (second, late)):
                await lease.bind(process.identity)
                await process.allocate(lease.device, 4 * GIB)
            await stranger.allocate(FIRST, GIB)
            await enter(node.gate, first, ordered.identity)
            await enter(node.gate, second, late.identity)
            await operate(rig, "drop", id="d-1", lease=first.id, kill=True)
            await _is_gone(cards, ordered)
            await second.release()
            await _is_gone(cards, late)
            answer = await cards.ask("is_alive", host="h1", pid=stranger.identity[0], started=stranger.identity[1])
            assert answer["alive"] is True
        told = await when(ann.gpu, lambda told: told.hosts[0].gate is not None and told.hosts[0].gate.ended == 2)
        assert told.hosts[0].gate is not None
        assert told.hosts[0].gate.admitted == 2
        await cards.close()


async def _is_gone(cards: SimulatedCards, process: SimulatedProcess) -> None:
    pid, started = process.identity
    async with asyncio.timeout(10):
        while (await cards.ask("is_alive", host="h1", pid=pid, started=started))["alive"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
