"""A task's trace: it stands in the journal, reaches the worker by every way, and decides nothing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_graph import Graph, Item
from bursar.kernel.desk import digest_of
from tests.scheduler.desk import Desk

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1bf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def replayed(desk: Desk) -> Desk:
    """Another owner: its state is what the journal says."""
    made = Desk(desk.now)
    for event in desk.journal:
        made.decider.evolve(made.state, event)
    return made


def test_a_task_takes_its_trace_through_the_journal_to_its_worker() -> None:
    """Submitted, posted, or one of a graph; also from a snapshot, and by another owner than the one that accepted it;
    with the time that it has waited."""
    desk = Desk()
    desk.submit(key="a", trace=TRACE)
    desk.post("b", trace=TRACE)
    items = (Item(name="i"),)
    desk.must(Graph(id="g-1", name="g", template=wire.Task(task_class="work"), items=items, trace=TRACE))
    desk.submit(key="plain")
    heir = replayed(desk)
    loaded = heir.decider.load(heir.decider.dump(heir.state))
    assert {task.id: task.trace for task in loaded.tasks.values()} == {
        "ann.a": TRACE, "ann.b": TRACE, "ann.g:i": TRACE, "ann.plain": "",
    }  # fmt: skip
    heir.state = loaded
    heir.now += 700
    heir.register(slots=4)
    told = {notice["task"]: (notice["trace"], notice["waited_ms"]) for notice in heir.notices("w1", "assign")}
    assert told == {
        "ann.a": (TRACE, 700), "ann.b": (TRACE, 700), "ann.g:i": (TRACE, 700), "ann.plain": (None, 700),
    }  # fmt: skip


def test_the_end_of_an_attempt_brings_the_next_ones_trace() -> None:
    """As an assignment does; one that was made at once has not waited."""
    desk = Desk()
    desk.register()
    first = desk.submit(trace=TRACE)
    assert [(told["trace"], told["waited_ms"]) for told in desk.notices("w1", "assign")] == [(TRACE, 0)]
    desk.submit(trace=OTHER)
    desk.advance(250)
    token = desk.start(first)
    reply = desk.must(wire.Finish(id="f-1", task=first, token=token, next=True), "w1")
    assert (reply["next"]["trace"], reply["next"]["waited_ms"]) == (OTHER, 250)


def test_a_trace_is_no_content() -> None:
    """A task that is submitted again within another trace is the same task, and a request the same request."""
    desk = Desk()
    task = desk.submit(key="a", trace=TRACE)
    again = desk.hears(wire.Submit(id=desk.new_id(), task_class="work", key="a", trace=OTHER))
    assert (again["task"], again["known"]) == (task, True)
    desk.post("b", trace=TRACE)
    desk.post("b", trace=OTHER)
    assert desk.where("ann.b") == "ready"
    traced, plain = (wire.Submit(id="s-1", task_class="work", trace=trace) for trace in (TRACE, None))
    assert digest_of(traced) == digest_of(plain)


@pytest.mark.parametrize("trace", ["", "x", TRACE[:-1], TRACE.upper(), f"{TRACE}-00", "01" + TRACE[2:]])
def test_what_is_no_trace_is_refused(trace: str) -> None:
    """It goes into the journal, so its form is fixed."""
    with pytest.raises(ValidationError):
        wire.Submit(id="s-1", task_class="work", trace=trace)
