"""A small demo from end to end: real server, real limiter, real SDK, the outage and the kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bursar.demo.measure import result_of
from bursar.demo.plan import Job, Plan, Quota
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
    """Eight seconds: 200 requests of 100 tokens in 5 s, with a quota of 3,500 tokens a second and windows of 2 s."""
    return Plan(
        jobs=[Job(number / 40, 100, 8, 16) for number in range(200)],
        seconds=8.0,
        agents=10,
        processes=2,
        retries=5,
        window="rolling",
        window_s=2.0,
        quota=Quota(requests=400, input_tokens=7_000, output_tokens=40_000, concurrency=100),
        outage_at=1.5,
        outage_s=0.5,
        kills_at=(3.0,),
        give_up_at=30.0,
        seed=1,
        source="by hand",
    )


async def recorded(plan: Plan, folder: Path, notes: Notes) -> Recording:
    return await run(plan, folder, notes)


async def test_a_small_fleet_keeps_the_promises_through_an_outage_and_a_kill(tmp_path: Path) -> None:
    """Nothing over the limit, nothing lost, nothing done twice; the next grant comes within seconds of the kill."""
    notes = Notes()

    result = result_of(await recorded(small_plan(), tmp_path, notes), 1.0)

    assert result.managed.violations == 0
    assert result.managed.lost == 0
    assert result.managed.completed_twice == 0
    assert 0 < max(result.kill_recovery_s) < 5
    assert_told(result, notes.events)
    assert len(result.coordination_ms) > 100
    assert flat(result)["managed_over_limit_windows"] == 0
    assert notes.seconds == sorted(notes.seconds)


def assert_told(result: Result, events: Sequence[str]) -> None:
    """What was done to the fleet was done once, and was said."""
    assert [happening.kind for happening in result.happenings] == ["outage", "kill"]
    assert sum("kill -9" in event for event in events) == 1
    assert sum("is down" in event for event in events) == 1
