"""Tasks that come after others: order, failures, cancellation, results for those after, graphs."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_graph import PAGE, Graph, Inputs
from bursar_scheduler import depending
from tests.scheduler.desk import Desk


def graph(desk: Desk, *items: dict[str, Any], name: str = "g", **template: Any) -> list[str]:
    body = {"id": desk.new_id(), "name": name, "template": {"task_class": "work", **template}, "items": tuple(items)}
    tasks: list[str] = desk.must(Graph.model_validate(body))["tasks"]
    return tasks


def test_a_task_is_ready_when_all_before_it_are_done() -> None:
    """Not before the last one; by its id or by its name alone."""
    desk = Desk()
    desk.register(slots=4)
    one, two = desk.submit(key="one"), desk.submit()
    last = desk.submit(after=("one", two))
    assert desk.where(last) == "submitted"
    desk.run(one)
    assert desk.where(last) == "submitted"
    desk.run(two)
    assert desk.where(last) == "assigned"
    desk.check()


def test_a_task_after_one_that_is_done_is_ready_at_once() -> None:
    """Nothing is left to wait for."""
    desk = Desk()
    desk.register()
    one = desk.submit()
    desk.run(one)
    assert desk.where(desk.submit(after=(one,))) == "assigned"


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
def test_when_one_fails_those_after_it_are_cancelled_one_after_the_other(end: str) -> None:
    """By the rule ``cancel``; their submitter is told, and why."""
    desk = Desk()
    desk.register()
    first = desk.submit(deadline_ms=1_000 if end == "expired" else None)
    second = desk.submit(after=(first,))
    third = desk.submit(after=(second,))
    if end == "failed":
        desk.start(first)
        desk.fail(first, retryable=False)
    elif end == "cancelled":
        desk.cancel(first)
    else:
        desk.advance(1_000)
    assert [desk.where(task) for task in (first, second, third)] == [end, "cancelled", "cancelled"]
    assert desk.find(second)["reason"] == "dependency failed"
    assert desk.find(third)["error"] == f"{second} is cancelled"
    assert [notice["task"] for notice in desk.notices("ann", "ended")] == [first, second, third]
    desk.check()


def test_a_task_may_run_though_one_before_it_failed() -> None:
    """By the rule ``run``: it is told how it ended."""
    desk = Desk()
    desk.register()
    first = desk.submit()
    cleanup = desk.submit(after=(first,), after_failure="run")
    desk.cancel(first)
    desk.release(first, desk.notices("w1", "stop")[0]["token"], "w1")
    token = desk.start(cleanup)
    told = desk.hears(Inputs(task=cleanup, token=token), "w1")
    assert told["inputs"] == [{"task": first, "state": "cancelled", "kept": True, "result": None}]


def test_after_a_failure_that_is_known_already_the_rule_is_the_same() -> None:
    """It does not matter who was faster."""
    desk = Desk()
    first = desk.submit()
    desk.cancel(first)
    reply = desk.must(wire.Submit(id="x-1", task_class="work", after=(first,)))
    assert reply["state"] == desk.where(reply["task"]) == "cancelled"
    assert desk.where(desk.submit(after=(first,), after_failure="run")) == "ready"
    desk.check()


def test_a_dead_letter_has_not_ended() -> None:
    """Those after it wait until an operator has decided."""
    desk = Desk()
    desk.register()
    first = desk.submit(retries=0)
    second = desk.submit(after=(first,))
    desk.start(first)
    desk.fail(first)
    assert (desk.where(first), desk.where(second)) == ("dead", "submitted")
    desk.must(wire.Requeue(id="o-1", task=first), "ops")
    desk.run(first)
    assert desk.where(second) == "assigned"
    desk.check()


def test_only_own_tasks_that_are_known_can_come_before() -> None:
    """So there are no cycles; what is refused changes nothing."""
    desk = Desk()
    other = desk.submit(principal="bob")
    for after, code in (((other,), "not_yours"), (("none",), "unknown_task"), (("x-1",), "unknown_task")):
        assert desk.code(wire.Submit(id="x-1", task_class="work", after=after)) == code
    task = desk.post("p", after=(other,))
    assert (desk.where(task), desk.find(task)["reason"]) == ("dead", "posted, not accepted: not_yours")
    desk.register()
    desk.run(other)
    desk.must(wire.Requeue(id="o-1", task=task), "ops")
    assert desk.where(task) == "cancelled", "what is another's counts as unknown"
    desk.check()


def test_results_are_there_for_those_after_however_long_it_takes() -> None:
    """And are forgotten when nobody needs them any more."""
    desk = Desk(keep_results_ms=1_000)
    desk.register()
    first = desk.submit()
    last = desk.submit(after=(first,))
    desk.run(first, result={"n": 7})
    token = desk.start(last)
    for _ in range(20):
        desk.advance(1_000)
        desk.beat("w1", token)
    desk.register("w2", classes=("tick",))
    desk.run(desk.submit("tick"))
    assert first not in desk.state.ended
    desk.check()
    told = desk.hears(Inputs(task=last, token=token), "w1")
    assert told["inputs"] == [{"task": first, "state": "done", "kept": True, "result": {"n": 7}}]
    assert not told["more"]
    desk.take_over()
    assert desk.find(first)["result"] == {"n": 7}
    desk.finish(last)
    assert not desk.state.links.held
    assert desk.find(first)["kept"] is False
    desk.check()


def test_only_the_current_attempt_sees_the_results() -> None:
    """Another worker, or a token of before, is refused."""
    desk = Desk()
    desk.register()
    first = desk.submit()
    last = desk.submit(after=(first,))
    desk.run(first, result=b"secret")
    token = desk.token(last)
    assert desk.code(Inputs(task=last, token=token), "w1") == "not_started"
    desk.start(last)
    assert desk.code(Inputs(task=last, token=token), "w2") == "not_yours"
    assert desk.code(Inputs(task=last, token="9.9.9"), "w1") == "stale_attempt"


def test_a_map_with_a_gather() -> None:
    """One request, many tasks, and one after all of them that gets their results in pages."""
    desk = Desk()
    desk.register(slots=20)
    names = [f"i{number}" for number in range(10)]
    items = [{"name": name, "payload": {"n": number}} for number, name in enumerate(names)]
    *parts, last = graph(desk, *items, {"name": "all", "after": tuple(names)})
    assert desk.where(last) == "submitted"
    for task in reversed(parts):
        desk.run(task, result=desk.state.tasks[task].payload)
    token = desk.start(last)
    pages = [desk.hears(Inputs(task=last, token=token, first=first), "w1") for first in (0, PAGE)]
    assert [row["result"]["n"] for page in pages for row in page["inputs"]] == list(range(10))
    assert [page["more"] for page in pages] == [True, False]
    desk.check()


def test_a_graph_is_accepted_once() -> None:
    """The same items are the same tasks, new ones beside them are new; other content under a name is refused."""
    desk = Desk()
    assert graph(desk, {"name": "a"}, {"name": "b", "after": ("a",)}) == ["ann.g:a", "ann.g:b"]
    again = Graph.model_validate(
        {"id": "x-1", "name": "g", "template": {"task_class": "work"}, "items": ({"name": "a"},)}
    )
    assert desk.hears(again)["known"] == 1
    assert graph(desk, {"name": "a"}, {"name": "c"}) == ["ann.g:a", "ann.g:c"]
    other = again.model_copy(update={"template": again.template.model_copy(update={"retries": 9})})
    assert desk.code(other) == "id_reused"
    assert len(desk.state.tasks) == 3
    desk.check()


def test_a_graph_is_accepted_whole_or_not_at_all() -> None:
    """Bounds count all of it; a wrong edge refuses all of it."""
    desk = Desk(max_tasks=3)
    desk.submit()
    items = tuple({"name": f"i{number}"} for number in range(3))
    body = {"id": "x-1", "name": "g", "template": {"task_class": "work"}, "items": tuple(items)}
    refused = desk.hears(Graph.model_validate(body))
    assert (refused["ok"], refused["dimension"], refused["level"]) == (False, "tasks", 1)
    for wrong, code in (("later", "unknown_task"), ("i0", "unknown_task")):
        bad = {**body, "items": ({"name": "i0", "after": (wrong,)}, {"name": "later"})}
        assert desk.code(Graph.model_validate(bad)) == code
    twice = {**body, "items": ({"name": "i0"}, {"name": "i0"})}
    assert desk.code(Graph.model_validate(twice)) == "bad_request"
    assert len(desk.state.tasks) == 1


def test_a_graph_behind_a_failure_is_cancelled() -> None:
    """The first by the decision itself, the rest after it."""
    desk = Desk()
    bad = desk.submit(key="bad")
    desk.cancel(bad)
    tasks = graph(desk, {"name": "a", "after": ("bad",)}, {"name": "b", "after": ("a",)}, {"name": "c"})
    assert [desk.where(task) for task in tasks] == ["cancelled", "cancelled", "ready"]
    desk.check()


def test_the_end_of_a_task_is_one_decision_however_many_come_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are settled piece by piece; a take-over in between loses none."""
    monkeypatch.setattr(depending, "PIECE", 4)
    desk = Desk()
    desk.register(slots=20)
    first = desk.submit()
    others = [desk.submit(after=(first,)) for _ in range(10)]
    token = desk.start(first)
    desk.decide_only(wire.Finish(id="f-1", task=first, token=token), "w1")
    settle = depending.next_settled(desk.state, desk.now)
    assert settle is not None
    command = desk.decider.due(desk.state, desk.now)
    assert command is not None
    desk.decide(command)
    assert [desk.state.tasks[task].state for task in others].count("ready") == 4
    desk.take_over()
    desk.settle()
    assert {desk.where(task) for task in others} == {"assigned"}
    desk.check()


def test_after_a_loss_what_nobody_knows_counts_as_failed() -> None:
    """A task that comes after it was set aside with the rest; requeued, it is cancelled."""
    desk = Desk()
    first = desk.submit(key="first")
    second = desk.submit(key="second", after=(first,))
    desk.lose(0)
    assert desk.where(second) == "dead"
    desk.must(wire.Requeue(id="o-1", task=second), "ops")
    assert desk.where(second) == "submitted", "the other one is a dead letter, and has not ended"
    desk.cancel(first)
    assert desk.where(second) == "cancelled"
    desk.check()
