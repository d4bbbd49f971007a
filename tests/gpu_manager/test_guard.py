"""The probe acts: it asks the manager, hears its orders, answers processes at a socket, ends real processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.base import Msg
from bursar.bus.memory import MemoryNetwork
from bursar.client.gpu_errors import LeaseLost
from bursar.client.gpu_gate import enter
from bursar.client.gpu_lease import GpuLease
from bursar.errors import ServiceError
from bursar_gpu_manager.gate import Gate
from bursar_gpu_manager.guard import Guard, end_process
from bursar_gpu_manager.nvml import started_at
from tests.gpu_manager.test_gate import MAC, holding, order, told

ME = (os.getpid(), started_at(os.getpid()) or 0)


class Manager:
    """Answers holdings and gives orders, over a network in memory."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.bus = network.connect("svc-gpu-manager")
        self.answer: bytes = b""
        self.asked = 0

    async def start(self) -> None:
        await self.bus.subscribe("bursar.req.gpu-manager.holdings.*", self._hear)

    def _hear(self, msg: Msg) -> None:
        self.asked += 1
        assert msg.subject.endswith(".gpu-1")
        self.bus.publish(msg.reply, self.answer)

    def holds(self, fence: str, *leases: Any) -> None:
        self.answer = msgpack.packb(told(fence, *leases).model_dump())

    def orders(self, fence: str, lease: str, *processes: tuple[int, int]) -> None:
        self.bus.publish("bursar.assign.gpu-1", msgpack.packb(order(fence, lease, *processes).model_dump()))


@asynccontextmanager
async def guarded(path: str = "", **options: Any) -> AsyncIterator[tuple[Manager, Guard, list[tuple[int, int]]]]:
    network = MemoryNetwork()
    manager, ended = Manager(network), list[tuple[int, int]]()
    await manager.start()

    def end(pid: int, started: int) -> bool:
        ended.append((pid, started))
        return True

    guard = Guard(network.connect("gpu-1"), Gate(grace_ms=1_000), options.pop("end", end), **options)
    await guard.start(path)
    yield manager, guard, ended
    await guard.close()


def lease_of(name: str, *, held: bool = True) -> GpuLease:
    def check() -> None:
        if not held:
            raise LeaseLost(name, "expired")

    return cast(GpuLease, SimpleNamespace(id=name, fence=f"{name}.{MAC}", check=check))


async def test_the_manager_is_asked_once_a_second_and_nonsense_changes_nothing() -> None:
    """Nor does silence."""
    async with guarded() as (manager, guard, _):
        manager.holds("1.1.9", holding("1.1.5", ME))
        for _ in range(4):
            await guard.look(500, [])
        assert manager.asked == 2
        for nonsense in (b"", b"x", msgpack.packb({"error": {"code": "busy"}})):
            manager.answer = nonsense
            assert not await guard.ask()
        manager.holds("1.1.8")
        assert not await guard.ask()
        assert list(guard.gate.leases) == ["1.1.5"]


async def test_a_process_shows_its_lease_at_the_socket_and_the_kernel_says_who_it_is(tmp_path: Path) -> None:
    """What is not known is asked for first; a lease that does not hold here is not even shown."""
    path = str(tmp_path / "gate")
    async with guarded(path) as (manager, _, _):
        manager.holds("1.1.9", holding("1.1.5", ME), holding("1.1.6", (1, 1)))
        await enter(path, lease_of("1.1.5"))
        for name, code in (("1.1.6", "not_named"), ("1.1.4", "stale_fence"), ("1.1.30", "not_known")):
            with pytest.raises(ServiceError) as refused:
                await enter(path, lease_of(name), process=ME)
            assert refused.value.code == code
        with pytest.raises(LeaseLost):
            await enter(path, lease_of("1.1.5", held=False))
        reader, writer = await asyncio.open_unix_connection(path)
        for line in (b"x", b"{}", b"[1]", b'{"op":"leave"}', b'{"op":"enter","lease":1}'):
            writer.write(line + b"\n")
            assert json.loads(await reader.readline())["code"] == "bad_request"
        writer.close()
    with pytest.raises(ServiceError) as nobody:
        await enter(path, lease_of("1.1.5"))
    assert nobody.value.code == "no_probe"


async def test_simulated_processes_say_themselves_who_they_are(tmp_path: Path) -> None:
    """They have no kernel that could."""
    path = str(tmp_path / "gate")
    async with guarded(path, simulated=True) as (manager, _, _):
        manager.holds("1.1.9", holding("1.1.5", (1_001, 5)))
        await enter(path, lease_of("1.1.5"), process=(1_001, 5))
        with pytest.raises(ServiceError):
            await enter(path, lease_of("1.1.5"), process=(1_001, 6))


@pytest.mark.parametrize("kills", [True, False])
async def test_processes_end_on_order_and_when_they_outlive_their_lease(kills: bool) -> None:
    """Only if the probe was told to; an order of an older owner is refused either way."""
    async with guarded(kills=kills) as (manager, guard, ended):
        manager.holds("1.2.9", holding("1.2.5", (7, 70)), holding("1.2.6", (8, 80)))
        await guard.ask()
        manager.orders("1.1.99", "1.2.5", (7, 70))
        manager.orders("1.2.10", "1.2.5", (7, 70))
        manager.bus.publish("bursar.assign.gpu-1", msgpack.packb({"what": "end_processes"}))
        while guard.gate.counts.stale == 0 or guard.gate._ordered != (1, 2, 10):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert ended == ([(7, 70)] if kills else [])
        manager.holds("1.2.11")
        await guard.look(1_000, [(8, 80)])
        await guard.look(1_000, [(8, 80), (9, 90)])
        assert ended == ([(7, 70), (8, 80)] if kills else [])
        assert guard.gate.counts.ended == len(ended)


def test_only_the_process_that_is_meant_is_ended() -> None:
    """A later one with the same pid is not it, and one that is gone is no error."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        started = started_at(child.pid)
        assert started is not None
        assert not end_process(child.pid, started + 1)
        assert child.poll() is None
        assert end_process(child.pid, started)
        assert child.wait(10) == -9
        assert not end_process(child.pid, started)
    finally:
        child.kill()
        child.wait()
