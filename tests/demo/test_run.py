"""A small demo from end to end: real server, all five services, the real SDK, bad times and kills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from bursar.demo.measure import result_of
from bursar.demo.plan import KILLED_SERVICES, Job, Kill, Plan, Quota
from bursar.demo.result import Result, flat
from bursar.demo.run import Progress, Recording, Watcher, run

pytestmark = pytest.mark.integration


class Notes(Watcher):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.seconds: list[float] = []

    def event(self, text: str) -> None:
        self.events.append(text)

    def progress(self, progress: Progress) -> None:
        self.seconds.append(progress.elapsed)


def small_plan() -> Plan:
    """Ten seconds: 240 requests in 8 s, one in eight for the cards, with a quota of 3,500 tokens a second and windows
    of 2 s."""
    return Plan(
        jobs=[Job(number / 30, 100, 8, 16, number % 8 == 7) for number in range(240)],
        seconds=10.0,
        agents=10,
        processes=2,
        retries=5,
        window="rolling",
        window_s=2.0,
        quota=Quota(requests=400, input_tokens=7_000, output_tokens=40_000, concurrency=100),
        outage_at=1.0,
        outage_s=0.5,
        overload_at=3.0,
        overload_s=0.4,
        kills=(Kill(2.2, "breaker"), Kill(3.8, "gpu-manager"), Kill(5.0, "limiter"), Kill(6.2, "scheduler")),
        worker_kill_at=7.2,
        card_lost_at=4.4,
        give_up_at=40.0,
        seed=1,
        source="by hand",
    )


async def recorded(plan: Plan, folder: Path, notes: Notes) -> Recording:
    return await run(plan, folder, notes)


async def test_a_small_fleet_keeps_the_promises_through_bad_times_and_kills(tmp_path: Path) -> None:
    """Nothing over the limit, nothing lost, nothing done twice, no card too full; each service answers again within
    seconds of its kill."""
    notes = Notes()

    result = result_of(await recorded(small_plan(), tmp_path, notes), 1.0)

    assert result.managed.violations == 0
    assert result.managed.lost == 0
    assert result.managed.completed_twice == 0
    assert result.gpu.oversubscribed == 0
    assert result.gpu.allocations >= 30
    assert result.tasks.accepted == result.tasks.done == 240
    assert result.tasks.ended_twice == 0
    assert {recovery.what for recovery in result.recoveries} == {*KILLED_SERVICES, "worker"}
    assert max(recovery.seconds for recovery in result.recoveries) < 8
    assert_told(result, notes.events)
    assert min(len(latencies) for latencies in result.coordination_ms.values()) > 50
    assert set(result.footprint) == {*KILLED_SERVICES, "monitor"}
    assert flat(result)["managed_over_limit_windows"] == 0
    assert notes.seconds == sorted(notes.seconds)


def assert_told(result: Result, events: Sequence[str]) -> None:
    """What was done to the fleet was done once, and was said."""
    kinds = Counter(happening.kind for happening in result.happenings)
    assert kinds == {"outage": 1, "overload": 1, "kill": 5, "card": 1}
    assert sum("kill -9" in event for event in events) == 5
    assert sum("is down" in event for event in events) == 1
    assert sum("is overloaded" in event for event in events) == 1
    assert sum("GPU is lost" in event for event in events) == 1
