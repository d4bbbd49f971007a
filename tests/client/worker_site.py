"""A worker, a scheduler and an agent on virtual time, for tests of what the worker does with its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from bursar.bus.memory import MemoryNetwork
from bursar.client.fleet import Fleet
from bursar.client.worker import Worker
from bursar_scheduler.task import Worker as Known
from tests.client.fake_scheduler import FakeScheduler
from tests.client.virtual import LoopClock, run


class Site:
    """``worker`` is not running before `work`."""

    def __init__(self, agent: Fleet, there: FakeScheduler, worker: Worker) -> None:
        self.agent = agent
        self.there = there
        self.worker = worker
        self.running: asyncio.Future[None] | None = None

    async def work(self) -> None:
        """Let the worker run, and return when the scheduler knows it."""
        self.running = asyncio.ensure_future(self.worker.run(signals=False))
        await asyncio.sleep(0.1)
        assert self.worker.is_registered

    @property
    def known(self) -> Known:
        """What the scheduler knows of the worker."""
        return self.there.state.workers["w1"]


@asynccontextmanager
async def site(**options: Any) -> AsyncIterator[Site]:
    network, clock = MemoryNetwork(), LoopClock()
    there = FakeScheduler(network, clock.now)
    await there.start()
    async with (
        Fleet(None, bus=network.connect("ann"), clock=clock) as agent,
        Fleet(None, bus=network.connect("w1"), clock=clock) as at_work,
    ):
        made = Site(agent, there, Worker(at_work, **options))
        yield made
        if made.running is not None:
            made.worker.stop()
            await made.running
    assert not network.connect("probe").handler_errors
    await there.stop()


def play(test: Callable[[Site], Awaitable[None]], **options: Any) -> None:
    """The test's steps, on virtual time."""

    async def main() -> None:
        async with site(**options) as made:
            await test(made)

    run(main())
