"""Attempts: only the current token is heard; one end; failures, retries, dead letters; slots."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.kernel.decider import Accept
from bursar_scheduler import events
from bursar_scheduler.dice import MAX_PAUSE_MS, pause_of
from tests.scheduler.desk import Desk


def finish(task: str, token: str, **fields: Any) -> wire.Finish:
    return wire.Finish(id="f-1", task=task, token=token, **fields)


def test_an_attempt_is_assigned_started_and_finished() -> None:
    """The worker gets the payload with the token, the submitter the result."""
    desk = Desk()
    desk.register()
    task = desk.submit(payload=b"in", deadline_ms=5_000)
    told = desk.notices("w1", "assign")[0]
    assert (told["task"], told["payload"], told["attempt"]) == (task, b"in", 1)
    assert (told["session"], told["deadline_in_ms"], told["token"]) == ("sw1", 5_000, desk.token(task))
    desk.start(task)
    assert desk.where(task) == "running"
    desk.finish(task, result=b"out")
    assert desk.notices("ann", "ended")[0] == {
        "v": 1, "what": "ended", "task": task, "state": "done", "result": b"out", "reason": "finish", "error": "",
    }  # fmt: skip
    assert desk.find(task)["result"] == b"out"
    assert desk.state.workers["w1"].attempts == {}
    desk.check()


def test_tokens_grow_with_every_attempt() -> None:
    """So that whatever a task writes to can tell an older attempt from a newer one."""
    desk = Desk()
    desk.register()
    task = desk.submit(backoff_ms=0)
    tokens = []
    for _ in range(3):
        tokens.append(desk.start(task))
        desk.fail(task)
    assert tokens == sorted(tokens, key=lambda token: [int(part) for part in token.split(".")])
    assert len(set(tokens)) == 3


def test_an_older_attempt_cannot_end_the_task() -> None:
    """Whoever lost its lease is told so, and what it has done does not count."""
    desk = Desk()
    desk.register("w1")
    task = desk.submit(lease_ms=1_000)
    old = desk.start(task)
    desk.register("w2")
    for _ in range(3):
        desk.advance(500)
        desk.beat("w1")
        desk.beat("w2")
    assert desk.worker(task) == "w2"
    for body in (
        wire.Start(id="s-1", task=task, token=old),
        wire.Progress(task=task, token=old),
        finish(task, old),
        wire.Fail(id="s-2", task=task, token=old),
    ):
        assert desk.code(body, "w1") == "stale_attempt"
        desk.register("w1", running=(old,))
    desk.run(task, result=b"new")
    assert desk.code(finish(task, old), "w1") == "stale_attempt"
    assert desk.find(task)["result"] == b"new"
    desk.check()


def test_an_attempt_belongs_to_its_worker() -> None:
    """Another worker that knows the token is refused."""
    desk = Desk()
    desk.register("w1")
    task = desk.submit()
    token = desk.start(task)
    desk.register("w2")
    for verb in (wire.Finish, wire.Fail, wire.Start):
        assert desk.code(verb(id="x-1", task=task, token=token), "w2") == "not_yours"
    assert desk.code(wire.Progress(task=task, token=token), "w2") == "not_yours"
    assert desk.where(task) == "running"


def test_a_second_end_of_the_same_attempt_is_an_error() -> None:
    """Under another request id; with the same one the kernel repeats the answer."""
    desk = Desk()
    desk.register()
    task = desk.submit()
    token = desk.start(task)
    desk.finish(task)
    assert desk.code(finish(task, token), "w1") == "already_ended"
    assert desk.code(wire.Fail(id="x-1", task=task, token=token), "w1") == "already_ended"
    assert desk.code(finish("ann.nothing", token), "w1") == "unknown_task"


def test_an_attempt_is_started_once_and_before_its_end() -> None:
    """A finish without a start is refused, and so is a second start."""
    desk = Desk()
    desk.register()
    task = desk.submit()
    token = desk.token(task)
    assert desk.code(finish(task, token), "w1") == "not_started"
    assert desk.code(wire.Progress(task=task, token=token), "w1") == "not_started"
    desk.start(task)
    assert desk.code(wire.Start(id="x-1", task=task, token=token), "w1") == "stale_attempt"


def test_a_failure_is_tried_again_after_a_pause_that_doubles() -> None:
    """The pauses are 1, 2, 4... times the first one, 20 % more or less, and the task is not run before."""
    desk = Desk()
    desk.register()
    task = desk.submit(retries=3, backoff_ms=1_000)
    for doubled in (1_000, 2_000, 4_000):
        desk.start(task)
        reply = desk.fail(task, "boom")
        assert reply["state"] == "ready"
        assert doubled * 0.8 <= reply["retry_in_ms"] <= doubled * 1.2
        for _ in range(reply["retry_in_ms"] // 500):
            desk.advance(500)
            desk.beat("w1")
        desk.now -= 1 if desk.where(task) == "ready" else 0
        desk.advance(reply["retry_in_ms"] % 500 + 1)
        assert desk.where(task) == "assigned"
    desk.start(task)
    assert desk.fail(task, "boom")["state"] == "dead"
    desk.check()


def test_a_task_does_not_run_before_its_pause_is_over() -> None:
    """Not a millisecond before."""
    desk = Desk()
    desk.register()
    task = desk.submit(backoff_ms=1_000)
    desk.start(task)
    pause = desk.fail(task)["retry_in_ms"]
    desk.advance(pause - 1)
    assert desk.where(task) == "ready"
    desk.advance(1)
    assert desk.where(task) == "assigned"


def test_pauses_are_spread_and_capped() -> None:
    """Two tasks that failed at once do not come again at once; no pause is longer than five minutes and a fifth."""
    pauses = [pause_of(1_000, 1, order) for order in range(200)]
    assert min(pauses) >= 800
    assert max(pauses) <= 1_200
    assert len(set(pauses)) > 100
    assert pause_of(300_000, 50, 3) <= MAX_PAUSE_MS * 6 // 5


def test_without_retries_left_it_is_a_dead_letter_that_can_be_requeued() -> None:
    """The submitter is told; an operator lists it and has it run again, with all its retries."""
    desk = Desk()
    desk.register()
    task = desk.submit(retries=0, payload=b"x")
    desk.start(task)
    assert desk.fail(task, "boom")["state"] == "dead"
    assert desk.notices("ann", "ended")[0]["state"] == "dead"
    told = desk.find(task)
    assert (told["state"], told["error"], told["reason"]) == ("dead", "boom", "fail, no retries left")
    assert [row["task"] for row in desk.hears(wire.List(dead=True))["tasks"]] == [task]
    desk.must(wire.Requeue(id="o-1", task=task), "ops")
    desk.run(task, result=b"y")
    assert desk.find(task)["result"] == b"y"
    assert desk.code(wire.Requeue(id="o-2", task=task), "ops") == "already_ended"
    desk.check()


def test_what_cannot_be_tried_again_ends_as_failed() -> None:
    """The worker knows."""
    desk = Desk()
    desk.register()
    task = desk.submit(retries=9)
    desk.start(task)
    assert desk.fail(task, "bad input", retryable=False)["state"] == "failed"
    assert desk.find(task)["error"] == "bad input"
    assert desk.code(wire.Cancel(id="x-1", task=task)) == "already_ended"


def test_progress_extends_the_lease_and_is_shown() -> None:
    """It is a sign of life; it is not journaled."""
    desk = Desk()
    desk.register()
    task = desk.submit(lease_ms=2_000)
    token = desk.start(task)
    written = len(desk.journal)
    for _ in range(5):
        desk.advance(1_500)
        desk.beat("w1")
        desk.hears(wire.Progress(task=task, token=token, permille=250, note="a quarter"), "w1")
    told = desk.find(task)
    assert (told["state"], told["progress_permille"], told["note"]) == ("running", 250, "a quarter")
    assert {event[0] for event in desk.journal[written:]} == {events.HEARD}, "only that its worker lives"


def test_a_released_attempt_goes_to_another_without_counting() -> None:
    """A worker that ends hands back what it has."""
    desk = Desk()
    desk.register("w1")
    task = desk.submit(retries=0)
    token = desk.start(task)
    desk.register("w2")
    desk.must(wire.Drain(id="d-1", session="sw1"), "w1")
    assert isinstance(desk.release(task, token, "w1"), Accept)
    assert desk.worker(task) == "w2"
    assert desk.state.tasks[task].failures == desk.state.tasks[task].losses == 0
    desk.check()


def test_a_cancelled_task_is_stopped_and_its_slot_stays_taken_until_then() -> None:
    """The token is void at once; the slot is free when the worker has really stopped."""
    desk = Desk()
    desk.register()
    task, other = desk.submit(), desk.submit()
    token = desk.start(task)
    desk.cancel(task)
    assert desk.notices("w1", "stop")[0]["token"] == token
    assert desk.where(other) == "ready", "the slot is not free yet"
    assert desk.code(finish(task, token), "w1") == "stale_attempt"
    assert desk.where(other) == "assigned", "the worker has ended it, though in vain"
    desk.check()


def test_a_release_frees_the_slot_of_a_void_attempt() -> None:
    """Once; a second one, or one of an attempt that nobody knows, is answered and changes nothing."""
    desk = Desk()
    desk.register()
    task, other = desk.submit(), desk.submit()
    token = desk.start(task)
    desk.cancel(task)
    assert isinstance(desk.release(task, token, "w1"), Accept)
    assert desk.where(other) == "assigned"
    assert desk.hears(wire.Release(id="r-2", task=task, token=token), "w1")["state"] == "cancelled"
    assert desk.hears(wire.Release(id="r-3", token="9.9.9"), "w1")["state"] == "unknown"
    desk.check()


@pytest.mark.parametrize("started", [False, True])
def test_cancel_before_the_start_frees_the_slot_at_once(started: bool) -> None:
    """An attempt that was never started cannot run any more."""
    desk = Desk()
    desk.register()
    task, other = desk.submit(), desk.submit()
    if started:
        desk.start(task)
    desk.cancel(task)
    assert (desk.where(other) == "assigned") is not started


def test_only_the_submitter_cancels_and_sees() -> None:
    """Others are refused whether the task exists or not."""
    desk = Desk()
    task = desk.submit()
    for body in (wire.Cancel(id="c-1", task=task), wire.Find(task=task), wire.Find(task="ann.none")):
        assert desk.code(body, "bob") == "not_yours"
    assert desk.hears(wire.Ended(tasks=(task, "bob.none")), "bob")["unknown"] == [task, "bob.none"]
    assert desk.code(wire.Cancel(id="c-2", task="bob.none"), "bob") == "unknown_task"
    desk.cancel(task)
    assert desk.code(wire.Cancel(id="c-3", task=task)) == "already_ended"
