"""Tasks that come after others.

A task can only come after tasks that are known when it is submitted (or stand before it in the same graph), so there
are no cycles. It is *submitted* until all of them have ended, and *ready* then. When one has ended other than
``done``, it is cancelled, and by the same rule so are those after it; unless it is to run all the same
(``after_failure``). A dead letter has not ended: those after it wait for an operator. A task whose end nobody knows any
more, because the journal has lost it, counts as failed.

The end of a task is one decision, however many come after it: `due` hands out their part (`Settle`) a piece at a time.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bursar.contracts.scheduler_graph import PAGE, Inputs
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_scheduler import bugs, events, telling
from bursar_scheduler.attempts import current
from bursar_scheduler.lifecycle import CANCELLED, DEPENDENCY_FAILED, DONE, FINISH
from bursar_scheduler.state import State
from bursar_scheduler.task import Task

PIECE: Final = 64
"""Tasks that are settled by one decision."""


class Settle(NamedTuple):
    """This task is over; it is the turn of those after it."""

    task: str


def next_settled(state: State, now: int) -> Settle | None:
    settled = state.awake(now).settled
    while settled:
        name = next(iter(settled))
        if name in state.links.waiting and state.find(name) is None:
            return Settle(name)
        del settled[name]
    return None


def decide_settle(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    name = command.body.task
    found: list[Event] = []
    told: list[Notice] = []
    for other in list(state.links.waiting[name])[:PIECE]:
        task = state.tasks[other]
        if task.runs_anyway or how(state, task, name) == DONE or seeded(bugs.FAILED_DEPENDENCY_RUNS):
            found.append((events.MET, now, other, name))
        else:
            event, notice = cancelled(task, name, how(state, task, name), now)
            found.append(event)
            told.append(notice)
    return Accept(found, {}, told)


def how(state: State, task: Task, name: str) -> str:
    """The state of a task that another comes after; "unknown" also for what is not its submitter's."""
    known = state.known(name)
    return "unknown" if known is None or name.partition(".")[0] != task.principal else known[1]


def cancelled(task: Task, name: str, end: str, now: int) -> tuple[Event, Notice]:
    """What a task comes after has failed."""
    error = f"{name} is {end}"
    event = (events.ENDED, now, task.id, CANCELLED, None, 0, DEPENDENCY_FAILED, error)
    return event, telling.ended(task.id, CANCELLED, DEPENDENCY_FAILED, error)


def link(state: State, task: Task, refs: tuple[str, ...]) -> Reject | None:
    """Note what a draft comes after. The task must know all of it, and it must be its submitter's."""
    if not refs:
        return None
    task.after = tuple(dict.fromkeys(ref if "." in ref else f"{task.principal}.{ref}" for ref in refs))
    task.unmet = tuple(
        name for name in task.after if state.find(name) is not None or how(state, task, name) == "unknown"
    )
    for name in task.after:
        if name.partition(".")[0] != task.principal:
            return Reject("not_yours", "a task comes after tasks of the same submitter", {"task": name})
        if name == task.id or state.known(name) is None:
            return Reject("unknown_task", "a task comes after tasks that are known", {"task": name})
    return None


def failed_already(state: State, task: Task) -> str:
    """The first task that has failed before this one was submitted; "" when it does not matter, or none has."""
    if task.runs_anyway or not task.after:
        return ""
    over = (name for name in task.after if name not in task.unmet)
    return next((name for name in over if how(state, task, name) != DONE), "")


def decide_inputs(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """For the worker of the current attempt only."""
    body: Inputs = command.body
    task = current(state, command, FINISH, now)
    if isinstance(task, Reject):
        return task
    names = task.after[body.first : body.first + PAGE]
    rows = [_input(state, task, name) for name in names]
    return Refuse({"ok": True, "inputs": rows, "more": body.first + PAGE < len(task.after)})


def _input(state: State, task: Task, name: str) -> dict[str, Any]:
    where = how(state, task, name)
    ended = state.how_it_ended(name) if where != "unknown" else None
    return {
        "task": name, "state": where, "kept": ended is not None, "result": None if ended is None else ended.result,
    }  # fmt: skip
