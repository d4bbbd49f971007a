"""What ends or revives a task from outside: cancel by its submitter, requeue by an operator."""

from __future__ import annotations

from bursar.contracts.scheduler import Cancel, Requeue
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Reject
from bursar_scheduler import bugs, events, telling
from bursar_scheduler.evolve import first_state
from bursar_scheduler.lifecycle import CANCEL, CANCELLED, ENDS
from bursar_scheduler.state import State


def decide_cancel(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """The token is void at once; a worker that is on it is told to stop, and keeps its slot until it has."""
    body: Cancel = command.body
    if body.task.partition(".")[0] != command.principal:
        return Reject("not_yours", "only who submitted a task may cancel it", {"task": body.task})
    task = state.find(body.task)
    if task is None:
        return gone(state, body.task)
    event = (events.ENDED, now, task.id, CANCELLED, None, 0, CANCEL, "")
    told = [*telling.stop_of(task), telling.ended(task.id, CANCELLED, CANCEL)]
    found: list[Event] = [] if seeded(bugs.CANCELLED_TASK_RUNS) else [event]
    return Accept(found, {"ok": True, "task": task.id, "state": CANCELLED}, told)


def decide_requeue(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Requeue = command.body
    if body.task not in state.dead:
        if body.task in state.tasks:
            return Reject("conflict", "the task is not a dead letter", {"task": body.task})
        return gone(state, body.task)
    where = first_state(state.dead[body.task])
    return Accept([(events.REQUEUED, now, body.task)], {"ok": True, "task": body.task, "state": where})


def gone(state: State, name: str) -> Reject:
    """The task has ended, or was never there."""
    known = state.known(name)
    if known is None or known[1] not in ENDS:
        return Reject("unknown_task", "no such task", {"task": name})
    return Reject("already_ended", f"the task has ended: {known[1]}", {"task": name, "state": known[1]})
