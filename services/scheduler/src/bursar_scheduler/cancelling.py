"""What ends or revives a task from outside: cancel by its submitter, requeue by an operator.

A whole program is cancelled by one decision, which is durable and notes where the program ended; its tasks end by the
decisions that follow (`due`), a piece at a time, before anything else is given to a worker. So it makes no difference
how many there are, and neither a crash nor a take-over in between leaves some of them running.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bursar.contracts.scheduler import Cancel, Requeue
from bursar.contracts.scheduler_graph import CancelProgram
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_scheduler import bugs, events, telling
from bursar_scheduler.evolve import first_state
from bursar_scheduler.lifecycle import CANCEL, CANCELLED, ENDS
from bursar_scheduler.state import State
from bursar_scheduler.task import Task

PIECE: Final = 64
"""Tasks of a program that end by one decision."""


class EndProgram(NamedTuple):
    """Some of its tasks have not ended yet."""

    agent: str
    program: str


def decide_cancel(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """The token is void at once; a worker that is on it is told to stop, and keeps its slot until it has."""
    body: Cancel = command.body
    if body.task.partition(".")[0] != command.principal:
        return Reject("not_yours", "only who submitted a task may cancel it", {"task": body.task})
    task = state.find(body.task)
    if task is None:
        return gone(state, body.task)
    event, told = _cancelled(task, now)
    found: list[Event] = [] if seeded(bugs.CANCELLED_TASK_RUNS) else [event]
    return Accept(found, {"ok": True, "task": task.id, "state": CANCELLED}, told)


def _cancelled(task: Task, now: int) -> tuple[Event, list[Notice]]:
    event = (events.ENDED, now, task.id, CANCELLED, None, 0, CANCEL, "")
    return event, [*telling.stop_of(task), telling.ended(task.id, CANCELLED, CANCEL)]


def decide_cancel_program(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Tasks that are submitted under its name from now on are not part of it."""
    body: CancelProgram = command.body
    count = len(_members(state, command.principal, body.program, state.order))
    reply = {"ok": True, "program": body.program, "tasks": count}
    if not count:
        return Refuse(reply)
    return Accept([(events.PROGRAM_ENDS, now, command.principal, body.program, state.order)], reply)


def _members(state: State, agent: str, program: str, before: int) -> list[Task]:
    """Its tasks that have not ended, live ones first."""
    owner = state.owners.get(agent)
    live = [] if owner is None else [state.tasks[name] for name in owner.tasks]
    whose = (agent, program)
    return [task for task in (*live, *state.dead.values()) if task.who[1:] == whose and task.order < before]


def next_ending(state: State) -> EndProgram | None:
    return EndProgram(*next(iter(state.ending))) if state.ending else None


def decide_end_program(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    agent, program = command.body
    tasks = _members(state, agent, program, state.ending[agent, program])
    found: list[Event] = []
    told: list[Notice] = []
    for task in tasks[:PIECE]:
        event, notices = _cancelled(task, now)
        found.append(event)
        told += notices
    if len(tasks) <= PIECE or seeded(bugs.PROGRAM_HALF_CANCELLED):
        found.append((events.PROGRAM_ENDS, now, agent, program, 0))
    return Accept(found, {}, told)


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
