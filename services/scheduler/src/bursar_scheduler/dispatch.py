"""Giving tasks to workers.

Order: `ordering`, over all lanes that have both a task and a worker. Place: one of the workers with a free slot that
serve the task, as the policy says.

Work conservation: after every decision no lane has both a task and a worker for it; what a decision made possible is
assigned by the ones that `due` hands out next. Where that is a single obvious assignment it is made in the same
decision, which saves a third of the work of a short task: a submission that finds a free worker, and an end whose slot
goes to the next in line.

A token is the fence of the decision that assigns, so a decision assigns one task at most.
"""

from __future__ import annotations

from typing import NamedTuple

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse
from bursar_scheduler import bugs, events, gangs, planning, telling
from bursar_scheduler.asking import ask_of
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.state import State
from bursar_scheduler.task import Task, Worker


class Dispatch(NamedTuple):
    """There is a worker for this task, and it goes first."""

    task: str


def token_of(fence: Fence) -> str:
    return f"{fence[0]}.{fence[1]}.{fence[2]}"


def decide_dispatch(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    task = state.tasks[command.body.task]
    if task.lane[4] > 1:
        return gangs.decide_dispatch(state, task, now, fence)
    worker = worker_for(state, task, now)
    if worker is None:
        return Refuse({})
    event, notice = assignment(state, worker, task, now, fence)
    return Accept([event], {}, [notice])


def worker_for(state: State, task: Task, now: int) -> Worker | None:
    """The worker that the policy gives it to; None when none has room."""
    board = state.awake(now)
    if not board.lane(task.lane).room:
        return None
    if board.planner is not None or board.is_planned:
        steered = planning.steered(state, board, task, now)
        if steered is not None:
            return steered
    ask = ask_of(board, task)
    verdict = POLICIES[state.config.policy](board.fleet, ask, state.drawn)
    assert verdict is not None, "the arrays and the lane disagree about who has room"
    board.placed(task, ask, state.drawn, verdict)
    if board.planner is not None:
        planning.compare(state, board, task, verdict.worker)
    return state.workers[verdict.worker]


def assignment(state: State, worker: Worker, task: Task, now: int, fence: Fence) -> tuple[Event, Notice]:
    token = token_of(fence)
    notice = telling.assign(worker, task, token, task.attempts + 1, state.config, now)
    return (events.ASSIGNED, now, task.id, worker.name, token), notice


def at_once(state: State, task: Task, now: int, fence: Fence) -> tuple[Event, Notice] | None:
    """The assignment of a task that is just being accepted, if nobody else is to go first."""
    if task.lane[4] > 1 or state.awake(now).next_task(now) is not None or may_be_held(state, task):
        return None
    worker = worker_for(state, task, now)
    return None if worker is None else assignment(state, worker, task, now, fence)


def next_in_line(state: State, worker: Worker, ending: str, now: int, fence: Fence) -> tuple[Event, Notice] | None:
    """Who gets the slot that this worker is just about to free, with the end of an attempt; nobody else has room for
    those who wait."""
    board = state.awake(now)
    taken = len(worker.attempts)
    if board.gangs or worker.draining or taken > worker.slots or taken > worker.cap:
        return None
    if board.next_task(now) is not None:
        return None
    task = board.best_for(worker, ending, now)
    return None if task is None else assignment(state, worker, task, now, fence)


def next_dispatch(state: State, now: int) -> Dispatch | None:
    task = state.awake(now).next_task(now)
    if task is None or (seeded(bugs.DOUBLE_ASSIGN) and task.attempts > 1):
        return None
    return Dispatch(task.id)


def may_be_held(state: State, task: Task) -> bool:
    """Whether a quota may keep a task that is not accepted yet; `due` decides then. (An account is made by events
    alone, so nobody is asked for who has none.)"""
    ledger = state.ledger
    if not ledger.quotas:
        return False
    return task.who[:2] not in ledger.agents or ledger.held(task.who)
