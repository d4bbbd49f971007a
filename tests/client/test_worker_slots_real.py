"""Slots on a real CPU: a worker in real time, whose process may use a tenth of a CPU, as limits of a container say."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from pathlib import Path

from bursar.bus.memory import MemoryNetwork
from bursar.client.fleet import Fleet
from bursar.client.time import SystemClock
from bursar.client.worker import Worker
from bursar.client.worker_meter import HostMeter
from bursar.client.worker_slots import Reading, SlotRule
from bursar.client.worker_task import WorkerTask
from tests.client.fake_scheduler import FakeScheduler

WITHIN_S = 90.0


class Container:
    """The files of a control group for this process: a tenth of a CPU, and the CPU time that it has really used."""

    def __init__(self, root: Path, clock: SystemClock) -> None:
        self._root = root
        self.latest: deque[float] = deque(maxlen=4)
        (root / "cpu.max").write_text("10000 100000\n")
        self._tell()
        self._meter = HostMeter(clock.now, root)

    def _tell(self) -> None:
        (self._root / "cpu.stat").write_text(f"usage_usec {time.process_time_ns() // 1000}\n")

    def read(self) -> Reading:
        self._tell()
        reading = self._meter.read()
        self.latest.append(reading.cpu)
        return Reading(reading.cpu, 0.1)


async def burn(task: WorkerTask) -> None:
    """Half a second, a fiftieth of a CPU."""
    for _ in range(10):
        until = time.process_time_ns() + 1_000_000
        while time.process_time_ns() < until:
            pass
        await asyncio.sleep(0.05)


async def test_under_a_backlog_a_real_worker_keeps_its_cpu_in_the_band(tmp_path: Path) -> None:
    """It begins with one slot, far below; it ends within the band, with more of them and work still waiting."""
    network, clock = MemoryNetwork(), SystemClock()
    there = FakeScheduler(network, clock.now)
    there.state.config = there.state.config._replace(worker_ttl_ms=1_200)  # a heartbeat each 0.4 s
    await there.start()
    container = Container(tmp_path, clock)
    async with Fleet(None, bus=network.connect("ann")) as agent, Fleet(None, bus=network.connect("w1")) as at_work:
        worker = Worker(at_work, slots=SlotRule(most=32), meter=container, grace=0.0)
        worker.task("burn")(burn)
        for n in range(600):
            await agent.scheduler.post("burn", n)
        running = asyncio.ensure_future(worker.run(signals=False))
        async with asyncio.timeout(WITHIN_S):
            while True:
                await asyncio.sleep(0.1)
                settled = len(container.latest) == 4 and 0.70 <= statistics.mean(container.latest) <= 0.85
                if settled and worker.slots > 1:
                    break
        assert len(there.state.tasks) > worker.slots
        worker.stop()
        await running
    await there.stop()
