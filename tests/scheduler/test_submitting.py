"""Accepting tasks: once per name, within bounds, by request and from the inbox."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_graph import Graph, Item
from bursar.kernel.decider import Accept, Refuse
from bursar_scheduler import state as bounds
from tests.scheduler.desk import Desk


def submit(number: int, **fields: Any) -> wire.Submit:
    return wire.Submit.model_validate({"id": f"t-{number}", "task_class": "work", **fields})


def test_a_submitted_task_waits_for_a_worker() -> None:
    """It is named by its submitter and the id of the request."""
    desk = Desk()
    reply = desk.must(submit(1, payload=b"x"))
    assert reply == {"ok": True, "task": "ann.t-1", "state": "ready", "known": False}
    assert desk.where("ann.t-1") == "ready"
    desk.check()


def test_the_same_name_and_content_is_the_same_task() -> None:
    """Whatever the request id, while the task waits, runs, and after it has ended."""
    desk = Desk()
    first = desk.submit(key="daily", payload={"day": 3})
    again = desk.hears(submit(90, key="daily", payload={"day": 3}))
    assert (again["task"], again["known"], again["state"]) == (first, True, "ready")
    desk.register()
    desk.run(first)
    assert desk.hears(submit(91, key="daily", payload={"day": 3}))["state"] == "done"
    assert desk.state.counts["accepted"] == 1


def test_a_request_that_comes_again_after_the_kernel_forgot_it_is_not_run_again() -> None:
    """The id of the request is the name of its task."""
    desk = Desk()
    desk.must(submit(1))
    assert desk.hears(submit(1))["known"] is True


def test_the_same_name_with_other_content_is_an_error() -> None:
    """Any field that says what is to be done counts."""
    desk = Desk()
    desk.submit(key="k", payload="a")
    for other in ({"payload": "b"}, {"payload": "a", "priority": "reactive"}, {"payload": "a", "retries": 5}):
        assert desk.code(submit(90, key="k", **other)) == "id_reused"
    assert desk.code(submit(90, key="k", payload="a", needs={"labels": {"a": "b"}})) == "id_reused"


def test_names_of_two_principals_are_two_tasks() -> None:
    """A name belongs to who uses it."""
    desk = Desk()
    assert desk.submit(key="k") == "ann.k"
    assert desk.submit(key="k", principal="bob") == "bob.k"


def test_an_ended_name_is_remembered_after_its_result_is_forgotten() -> None:
    """Results are kept for their time, names for at least an hour more."""
    desk = Desk(keep_results_ms=1_000)
    desk.register(slots=4)
    first = desk.submit(key="k")
    desk.run(first, result=b"r")
    desk.now += 5_000
    desk.register()
    desk.run(desk.submit())
    told = desk.find(first)
    assert (told["state"], told["kept"], told["result"]) == ("done", False, None)
    assert desk.hears(submit(90, key="k"))["state"] == "done"
    desk.now += bounds.REMEMBER_MS
    desk.register()
    desk.run(desk.submit())
    desk.now += 2_000
    desk.register()
    desk.run(desk.submit())
    assert desk.hears(submit(91, key="k"))["state"] == "done"
    desk.check()


def test_results_are_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest goes first."""
    monkeypatch.setattr(bounds, "KEEP_COUNT", 3)
    desk = Desk()
    desk.register(slots=9)
    tasks = [desk.submit() for _ in range(5)]
    for task in tasks:
        desk.run(task)
    assert [desk.find(task)["kept"] for task in tasks] == [False, False, True, True, True]
    desk.check()


@pytest.mark.parametrize(
    ("rules", "fields", "dimension", "scope"),
    [
        ({"max_tasks": 2}, {}, "tasks", "all"),
        ({"max_tasks_per_principal": 2}, {}, "tasks", "principal"),
        ({"max_bytes": 25}, {"payload": b"0123456789"}, "bytes", "all"),
    ],
)
def test_a_full_queue_refuses_and_says_what_is_full(
    rules: dict[str, int], fields: dict[str, Any], dimension: str, scope: str
) -> None:
    """Nothing changes, and there is room again when something has ended."""
    desk = Desk(**rules)
    first, _ = [desk.submit(**fields) for _ in range(2)]
    before = desk.dump()
    refused = desk.hears(submit(90, **fields))
    assert (refused["ok"], refused["reason"]) == (False, "queue_full")
    assert (refused["dimension"], refused["scope"]) == (dimension, scope)
    assert refused["level"] <= refused["limit"]
    assert refused["retry_in_ms"] > 0
    assert desk.dump() == before
    desk.cancel(first)
    desk.submit(**fields)


def test_the_limit_of_one_principal_leaves_others_alone() -> None:
    """One that floods the queue fills its own share."""
    desk = Desk(max_tasks_per_principal=1)
    desk.submit()
    assert desk.hears(submit(90))["scope"] == "principal"
    desk.submit(principal="bob")


def test_kinds_of_needs_are_bounded_per_principal() -> None:
    """Each kind costs a lane; a kind that is open already costs nothing."""
    desk = Desk()
    for number in range(64):
        desk.submit(needs={"labels": {"n": str(number)}})
    refused = desk.hears(submit(90, needs={"labels": {"n": "65"}}))
    assert (refused["dimension"], refused["limit"]) == ("needs", 64)
    desk.submit(needs={"labels": {"n": "1"}})
    desk.check()


def test_a_payload_above_its_limit_does_not_pass_the_border() -> None:
    """32 KB, whatever the form of the value."""
    for payload in (b"x" * 32_769, "x" * 32_769, {"a": "x" * 32_769}):
        with pytest.raises(ValueError, match="1 validation error"):
            submit(1, payload=payload)
    submit(1, payload=b"x" * 32_768)


# ---- the inbox


def test_a_posted_task_is_accepted_once() -> None:
    """Delivered again, or posted again, it is the same task; the position moves with each message."""
    desk = Desk()
    task = desk.post("p1", payload=b"x")
    assert desk.where(task) == "ready"
    message = wire.Post(name="p1", task_class="work", payload=b"x")
    assert isinstance(desk.deliver(1, message), Refuse), "delivered twice"
    assert desk.state.position == 1
    assert isinstance(desk.deliver(2, message), Accept)
    assert desk.state.position == 2
    assert len(desk.state.tasks) == 1
    desk.check()


def test_a_post_and_a_submission_share_their_names() -> None:
    """The same name and content by either way is one task; other content is left aside and counted."""
    desk = Desk()
    desk.post("same", payload=b"x")
    assert desk.hears(submit(90, key="same", payload=b"x"))["known"] is True
    desk.post("same", payload=b"y")
    assert desk.state.counts["posts_name_reused"] == 1
    assert len(desk.state.tasks) == 1


def test_an_unreadable_message_moves_the_position() -> None:
    """It must not be read for ever."""
    desk = Desk()
    assert isinstance(desk.deliver(7, None), Accept)
    assert desk.state.position == 7
    assert desk.state.counts["posts_unreadable"] == 1


def test_a_post_that_finds_no_room_is_a_dead_letter() -> None:
    """Nobody waits for an answer that could say no; the submitter is told, and an operator can requeue it."""
    desk = Desk(max_tasks=1)
    desk.submit()
    task = desk.post("p1", payload=b"x")
    assert desk.where(task) == "dead"
    assert desk.notices("ann", "ended")[-1]["reason"] == "posted, not accepted: queue_full"
    desk.must(wire.Requeue(id="o-1", task=task), "ops")
    assert desk.where(task) == "ready"
    desk.check()


def test_who_is_refused_is_told_when_there_will_be_room() -> None:
    """At the pace at which tasks have ended in the last while, spread so that not all come again at once."""
    desk = Desk(max_tasks=20, max_tasks_per_principal=20)
    desk.register(slots=40)
    assert desk.state.drain.per_minute(desk.now) == 0
    for _ in range(120):
        desk.run(desk.submit())
        desk.advance(500)
        desk.beat("w1")
    for _ in range(20):
        desk.submit(task_class="later")
    one = desk.hears(submit(900))["retry_in_ms"]
    items = tuple(Item(name=f"i{number}") for number in range(20))
    many = desk.hears(Graph(id="g-1", name="g", template=wire.Task(task_class="later"), items=items))["retry_in_ms"]
    assert 450 <= one <= 750, "two end each second"
    assert 9_000 <= many <= 14_000, "twenty have to end first"
    desk.check()
