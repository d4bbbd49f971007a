"""Figures from a log that is written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bursar.demo.measure import arm_of, backlogged, over_windows, spans, utilisation, waiting
from bursar.demo.plan import MANAGED_KEY, Job, Plan, Quota
from bursar.demo.run import Recording

BEGIN = 1_000_000
PLAN = Plan(
    jobs=[Job(0.0, 100, 5, 16), Job(0.0, 300, 5, 16), Job(0.5, 100, 5, 16)],
    seconds=20.0,
    agents=2,
    processes=1,
    retries=2,
    window="rolling",
    window_s=1.0,
    quota=Quota(requests=10, input_tokens=400, output_tokens=100, concurrency=10),
    outage_at=5.0,
    outage_s=1.0,
    overload_at=7.0,
    overload_s=1.0,
    kills=(),
    worker_kill_at=9.0,
    card_lost_at=8.0,
    give_up_at=30.0,
    seed=1,
    source="by hand",
)
LOG: dict[str, Any] = {
    "admitted": [
        [BEGIN + 50, 100, 5, 1, "job-0"],
        [BEGIN + 400, 300, 0, 0, "job-1"],
        [BEGIN + 1100, 100, 5, 1, "job-2"],
        [BEGIN + 1500, 300, 5, 1, "job-1"],
    ],
    "output": [[BEGIN + 100, 5], [BEGIN + 1200, 5], [BEGIN + 1600, 5]],
    "rejected": [[BEGIN + 700]],
}
STATS: dict[str, Any] = {
    "violations": 1,
    "rejected": 1,
    "admitted": 4,
    "completed": 3,
    "completed_twice": 0,
    "statuses": {"200": 3, "429": 1},
    "wasted_input_tokens": 300,
    "wasted_output_tokens": 0,
}


def recording() -> Recording:
    outcomes = [[0, 0.1, 0.1, "done"], [2, 0.7, 1.2, "done"], [1, 1.6, 1.6, "done"]]
    return Recording(
        plan=PLAN,
        begin=50.0,
        begin_ms=BEGIN,
        elapsed=2.0,
        bad_times=[],
        kills=[],
        worker_killed_at=0.0,
        victim="",
        card_lost_at=0.0,
        stats={"keys": {MANAGED_KEY: STATS}},
        log={"keys": {MANAGED_KEY: LOG}},
        arms={"managed": [{"outcomes": outcomes, "open": 0, "unavailable": 0, "submits": [], "ended_twice": []}]},
        probe={"probed": {}, "scheduler": {}},
        notes={},
        cards={},
        footprint={},
        events=[],
        services_log=[],
    )


def test_work_waits_from_when_it_is_due_until_it_is_admitted_for_good() -> None:
    """A call that was cut waits on until it is admitted again."""
    (waited,) = spans(waiting(PLAN, LOG, BEGIN, 2000))
    assert waited == pytest.approx((0.1, 1.5))


def test_waiting_for_less_than_the_quota_of_a_step_is_no_backlog() -> None:
    """100 ms of the quota are 40 tokens; a request of 40 is served at once or soon."""
    small = replace(PLAN, jobs=[Job(0.0, 40, 5, 16)])
    log = {"admitted": [[BEGIN + 900, 40, 5, 1, "job-0"]]}
    assert not any(waiting(small, log, BEGIN, 1000))
    assert any(waiting(replace(PLAN, jobs=[Job(0.0, 41, 5, 16)]), log, BEGIN, 1000))


def test_utilisation_is_what_was_admitted_while_work_waited() -> None:
    """Between 0.1 s and 1.5 s the quota lets 560 tokens through; 400 were admitted in that time."""
    assert utilisation(PLAN, LOG, BEGIN, waiting(PLAN, LOG, BEGIN, 2000)) == pytest.approx(400 / 560)
    assert utilisation(PLAN, LOG, BEGIN, [False] * 20) == 0.0


def test_only_stretches_of_a_window_count_and_short_pauses_do_not_end_them() -> None:
    """0.9 s of waiting are too short to say anything; with a pause of 1 s, two halves make one stretch."""
    assert backlogged(PLAN, [True] * 9 + [False] * 30) == []
    (stretch,) = backlogged(PLAN, [True] * 5 + [False] * 10 + [True] * 5)
    assert stretch == pytest.approx((0.0, 2.0))


def test_an_arm_counts_completions_by_job_and_waste_in_money() -> None:
    """Lost is what no agent got an answer for; 300 input tokens at $3 a million were wasted."""
    arm = arm_of(recording(), "managed")
    assert (arm.arrivals, arm.completed, arm.lost, arm.completed_twice) == (3, 3, 0, 0)
    assert (arm.violations, arm.calls) == (1, 5)
    assert arm.wasted_tokens == 300
    assert arm.wasted_usd == pytest.approx(0.0009)
    assert arm.finished_at == pytest.approx(1.6)


def test_a_window_that_the_judge_let_go_over_is_a_violation() -> None:
    """The log is counted again: 100 + 300 + 300 tokens within a second are over 400."""
    over = {**LOG, "admitted": [*LOG["admitted"][:2], [BEGIN + 900, 300, 5, 1, "job-2"]]}
    assert over_windows(PLAN, LOG) == 0
    assert over_windows(PLAN, over) == 1


def test_jobs_of_the_cards_do_not_wait_for_the_provider() -> None:
    """They are never admitted there."""
    local = replace(PLAN, jobs=[Job(0.0, 300, 5, 16, local=True)])
    assert not any(waiting(local, {"admitted": []}, BEGIN, 2000))
