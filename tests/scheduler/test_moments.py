"""What the passing of time does: deadlines, leases, time-outs."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from tests.scheduler.desk import Desk


@pytest.mark.parametrize("state", ["ready", "assigned", "running"])
def test_a_deadline_ends_a_task_wherever_it_stands(state: str) -> None:
    """At its millisecond; the worker is told to stop and the submitter why."""
    desk = Desk()
    if state != "ready":
        desk.register()
    task = desk.submit(deadline_ms=1_500)
    token = desk.start(task) if state == "running" else ""
    desk.advance(1_499)
    assert desk.where(task) == state
    desk.advance(1)
    assert desk.where(task) == "expired"
    assert desk.notices("ann", "ended")[0]["state"] == "expired"
    if state == "running":
        assert desk.notices("w1", "stop")[0]["token"] == token
        assert desk.code(wire.Finish(id="f-1", task=task, token=token), "w1") == "stale_attempt"
    desk.check()


def test_a_task_in_its_pause_expires_too() -> None:
    """The deadline comes before the end of the pause."""
    desk = Desk()
    desk.register()
    task = desk.submit(deadline_ms=500, backoff_ms=60_000)
    desk.start(task)
    desk.fail(task, "boom")
    desk.advance(500)
    told = desk.find(task)
    assert (told["state"], told["error"]) == ("expired", "boom")


def test_a_lease_without_signs_of_life_is_lost() -> None:
    """The worker lives and does not list the attempt: another gets the task, the slot stays taken until it is told."""
    desk = Desk()
    desk.register("w1")
    task = desk.submit(lease_ms=2_000)
    token = desk.start(task)
    desk.register("w2")
    for _ in range(2):
        desk.advance(1_000)
        desk.beat("w1")
        desk.beat("w2")
    assert desk.worker(task) == "w2"
    assert desk.state.tasks[task].losses == 1
    assert desk.state.workers["w1"].attempts == {token: task}
    desk.check()


def fails_until_dead(fields: dict[str, Any]) -> Desk:
    desk = Desk(worker_ttl_ms=600_000)
    desk.register()
    task = desk.submit(lease_ms=60_000, timeout_ms=700, backoff_ms=0, **fields)
    for _ in range(2):
        token = desk.start(task)
        desk.advance(699)
        assert desk.where(task) == "running"
        desk.advance(1)
        desk.release(task, token, "w1")
    desk.check()
    return desk


def test_an_attempt_that_takes_too_long_is_a_failure() -> None:
    """It counts against the retries, and is tried again."""
    desk = fails_until_dead({"retries": 5})
    (task,) = desk.state.tasks.values()
    assert (task.failures, task.state, task.reason) == (2, "assigned", "time-out")


def test_the_last_one_that_takes_too_long_is_a_dead_letter() -> None:
    """As with any failure."""
    desk = fails_until_dead({"retries": 1})
    (task,) = desk.state.dead.values()
    assert task.reason == "time-out, no retries left"
    assert desk.notices("ann", "ended")[0]["state"] == "dead"


def test_a_lost_lease_is_the_last_when_there_were_too_many() -> None:
    """The bound of losses holds for every way to lose an attempt."""
    desk = Desk(max_losses=1, worker_ttl_ms=600_000)
    desk.register()
    task = desk.submit(lease_ms=1_000)
    desk.start(task)
    desk.advance(1_000)
    assert desk.where(task) == "dead"
    assert desk.notices("ann", "ended")[0]["reason"] == "lost too often"


def test_a_requeued_task_has_no_deadline_any_more() -> None:
    """It was for the first life; an operator decides about the second."""
    desk = Desk()
    desk.register()
    task = desk.submit(retries=0, deadline_ms=1_000)
    desk.start(task)
    desk.fail(task)
    desk.advance(3_000)
    desk.must(wire.Requeue(id="o-1", task=task), "ops")
    desk.advance(3_000)
    assert desk.where(task) != "expired"
    assert desk.code(wire.Requeue(id="o-2", task=task), "ops") == "conflict"
    assert desk.code(wire.Requeue(id="o-3", task="ann.none"), "ops") == "unknown_task"
