"""How long starts and tasks took, told to the monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bursar.bus.codec import AGENT_LIMITS, decode
from bursar.bus.memory import MemoryNetwork
from bursar.client.fleet import Fleet
from bursar.client.scheduler_errors import TaskExpired
from bursar.client.time import process_age_ms
from bursar.client.took import MOST, PAUSE, TookLog
from bursar.contracts.monitor import Took
from tests.client.fake_scheduler import FakeScheduler
from tests.client.test_scheduler import finish
from tests.client.virtual import LoopClock, run

Test = Callable[[Fleet, FakeScheduler], Awaitable[None]]


def play(test: Test) -> list[tuple[str, tuple[int, ...]]]:
    """What the monitor has heard of an agent; each message is one that it takes."""
    heard: list[tuple[str, tuple[int, ...]]] = []

    async def main() -> None:
        network, clock = MemoryNetwork(), LoopClock()
        there = FakeScheduler(network, clock.now)
        await there.start()
        monitor = network.connect("svc-monitor")

        def hear(msg: object) -> None:
            told = decode(Took, msg.data, limits=AGENT_LIMITS)[0]  # type: ignore[attr-defined]
            heard.append((told.what, told.ms))

        await monitor.subscribe("bursar.obs.monitor.took.ann", hear)
        async with Fleet(None, bus=network.connect("ann"), clock=clock) as fleet:
            await test(fleet, there)
        await asyncio.sleep(0.1)
        await there.stop()

    run(main())
    return heard


def test_a_task_took_from_its_submission_to_its_end() -> None:
    """As the agent has seen it; a repetition, a failure and a cancellation are not told."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        first = await fleet.scheduler.submit("work", key="a")
        cancelled = await fleet.scheduler.submit("work")
        expired = await fleet.scheduler.submit("work", deadline=3)
        await asyncio.sleep(1.5)
        assert await cancelled.cancel()
        finish(there, first.id, "done")
        assert await first.result() == "done"
        with pytest.raises(TaskExpired):
            await expired.result()
        del first
        again = await fleet.scheduler.submit("work", key="a")
        assert await again.result(timeout=5) == "done"

    [(what, (done, expired))] = play(test)
    assert what == "completion"
    assert 1_400 <= done <= 2_000
    assert 2_900 <= expired <= 4_000


def test_what_has_gathered_goes_in_one_message() -> None:
    """After two seconds, when there are 64, or at the end."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        log = TookLog(fleet.scheduler.bus)
        for ms in range(MOST + 1):
            log.note("completion", ms)
        await asyncio.sleep(PAUSE + 0.1)
        log.note("spawn", 1e12)
        log.note("completion", -1.0)
        log.flush()

    assert play(test) == [
        ("completion", tuple(range(MOST))), ("completion", (MOST,)), ("spawn", (86_400_000,)), ("completion", (0,)),
    ]  # fmt: skip


def test_an_agent_says_that_it_is_ready() -> None:
    """After so many seconds, or as long as its process lives."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        fleet.ready(2.5)
        fleet.ready()

    first, second = play(test)
    assert first == ("spawn", (2_500,))
    age = process_age_ms()
    assert age is not None
    assert second[0] == "spawn"
    assert 0 < second[1][0] <= age
