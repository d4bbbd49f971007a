"""The end of an attempt brings the worker's next one, begun: same rules, half the messages."""

from __future__ import annotations

from typing import Any

from bursar.contracts import scheduler as wire
from bursar_scheduler import events
from bursar_scheduler.attempts import MAX_NEXT
from tests.scheduler.desk import Desk


def running(desk: Desk) -> tuple[str, str]:
    """The one task that has been assigned, started now, and its token."""
    notice = desk.told[-1].body
    desk.must(wire.Start(id=desk.new_id(), task=notice["task"], token=notice["token"]), "w1")
    return notice["task"], notice["token"]


def finish(desk: Desk, task: str, token: str, **fields: Any) -> dict[str, Any]:
    fields.setdefault("next", True)
    return desk.must(wire.Finish.model_validate({"id": desk.new_id(), "task": task, "token": token, **fields}), "w1")


def test_the_answer_brings_the_next_in_line_and_it_runs() -> None:
    """Ended, assigned and started in one decision; no notice is sent for it, and its token is a new one."""
    desk = Desk()
    desk.register()
    first, second = desk.submit(), desk.submit(payload=b"two")
    _, token = running(desk)
    told = len(desk.told)
    begun = finish(desk, first, token)["next"]
    assert (begun["task"], begun["payload"], begun["attempt"]) == (second, b"two", 1)
    assert desk.state.tasks[second].state == "running"
    assert desk.state.tasks[second].token == begun["token"] != token
    assert [event[0] for event in desk.journal[-3:]] == [events.ENDED, events.ASSIGNED, events.STARTED]
    assert [notice.body["what"] for notice in desk.told[told:]] == ["ended"]
    finish(desk, second, begun["token"])


def test_who_does_not_ask_for_it_is_told_by_a_notice() -> None:
    """As a worker in another language may prefer: assign, start, finish."""
    desk = Desk()
    desk.register()
    first, second = desk.submit(), desk.submit()
    _, token = running(desk)
    assert "next" not in finish(desk, first, token, next=False)
    assert desk.state.tasks[second].state == "assigned"
    assert desk.told[-1].body["what"] == "assign"


def test_nothing_is_brought_when_nothing_waits_or_the_worker_drains() -> None:
    """Nothing that waits may be taken by this worker: the answer is as ever."""
    desk = Desk()
    desk.register()
    first = desk.submit()
    _, token = running(desk)
    assert "next" not in finish(desk, first, token)
    desk.submit(), desk.submit()
    task, token = running(desk)
    desk.must(wire.Drain(id=desk.new_id(), session=desk.state.workers["w1"].session), "w1")
    assert "next" not in finish(desk, task, token)


def test_a_large_payload_comes_in_a_notice() -> None:
    """Answers are kept in the journal and remembered: no payload of any size is to be copied there."""
    desk = Desk()
    desk.register()
    first, second = desk.submit(), desk.submit(payload=b"x" * (MAX_NEXT + 1))
    _, token = running(desk)
    assert "next" not in finish(desk, first, token)
    assert desk.state.tasks[second].state == "assigned"


def test_a_failure_brings_the_next_one_too() -> None:
    """The slot is as free as after a success."""
    desk = Desk()
    desk.register()
    first, second = desk.submit(), desk.submit()
    _, token = running(desk)
    body = wire.Fail(id=desk.new_id(), task=first, token=token, retryable=False, next=True)
    assert desk.must(body, "w1")["next"]["task"] == second


def test_a_void_attempt_brings_nothing() -> None:
    """Only the current token is heard."""
    desk = Desk()
    desk.register()
    first = desk.submit()
    _, token = running(desk)
    desk.cancel(first)
    desk.submit()
    body = wire.Finish(id=desk.new_id(), task=first, token=token, next=True)
    assert desk.code(body, "w1") == "stale_attempt"


def test_what_it_brought_is_lost_with_the_worker_and_goes_to_another() -> None:
    """The answer may never arrive: without a sign of life the lease ends."""
    desk = Desk()
    desk.register()
    first, second = desk.submit(), desk.submit(lease_ms=1_000)
    _, token = running(desk)
    finish(desk, first, token)
    desk.advance(5_000)
    assert desk.state.tasks[second].state != "running"
