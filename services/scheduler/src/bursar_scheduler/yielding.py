"""Preemption at the end of a chunk.

A task that may be stopped (``preemptible``) runs in chunks. When one of a higher band is ready and finds no worker, the
scheduler asks such an attempt to yield (`Stop` with ``preempt``): its worker stops at the end of the chunk, within 100
ms, and hands the task back with a checkpoint, from which it goes on later, here or elsewhere. It may as well finish
before. One that has not yielded in time is taken away, and its slot stays taken until the worker has stopped it.

Rules (Agent.xpu, arXiv 2506.24045; kueue#9770 for the minimum run time): only for a higher band; only after
``min_run_ms``; the lowest band first, and of it who has begun last; one for each task that waits. A notice that its
host will be taken away (`Drain` with ``within_ms``) asks all of a worker's at once.

Looking costs nothing while nothing that runs may be preempted, or nobody above it waits: `Board.watched` holds both,
and says when it is worth to look again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bursar.contracts.scheduler import Checkpoint, Yield, size_of
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Reject
from bursar_scheduler import attempts, bugs, events, telling
from bursar_scheduler.lifecycle import FINISH, READY, RUNNING, YIELD
from bursar_scheduler.state import State
from bursar_scheduler.task import Task, Worker

LOOKED_AT: Final = 32
"""Tasks for which somebody is looked for in one go; those behind them wait for the next."""


class Preempt(NamedTuple):
    """This one waits, and that one is to yield for it."""

    task: str
    victim: str


def next_preempt(state: State, now: int) -> Preempt | None:
    watched = state.awake(now).watched
    if watched.look_at is None or now < watched.look_at:
        return None
    for task in watched.waiting(LOOKED_AT):
        victim = victim_for(state, task, now)
        if victim is not None:
            return Preempt(task.id, victim.id)
    watched.looked(now, state.config.min_run_ms)
    return None


def victim_for(state: State, task: Task, now: int) -> Task | None:
    """Who is to yield for a task; None when nobody may be asked to, or it would not help."""
    ripe = now - state.config.min_run_ms
    running = state.awake(now).watched.running.values()
    those = [
        other for other in running if other.since <= ripe and goes_before(task, other) and helps(state, task, other)
    ]
    return max(those, key=lambda other: (other.band, other.since, other.order), default=None)


def goes_before(task: Task, other: Task) -> bool:
    return task.band < other.band or (seeded(bugs.PREEMPTS_EQUALS) and task.band == other.band)


def helps(state: State, task: Task, victim: Task) -> bool:
    """Whether the task could be given to the worker then."""
    worker = state.workers[victim.worker]
    if worker.draining or worker.suspect or worker.held or len(worker.attempts) > worker.slots:
        return False
    return worker.serves(task.lane) and worker.fits_after(task.lane, victim.token)


def decide_preempt(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Preempt = command.body
    event, notice = ask(state, state.tasks[body.victim], now)
    state.awake(now).watched.serve(state.tasks[body.task], state.tasks[body.victim])
    return Accept([event], {}, [notice])


def ask(state: State, victim: Task, now: int, within_ms: int | None = None) -> tuple[Event, Notice]:
    """To yield, by then at the latest."""
    within = min(state.config.yield_within_ms, within_ms or state.config.yield_within_ms)
    return (events.PREEMPTING, now, victim.id, now + within), telling.yields(victim, within)


def ask_all(state: State, worker: Worker, now: int, within_ms: int) -> tuple[list[Event], list[Notice]]:
    """The host of a worker will be taken away."""
    those = [task for name in worker.attempts.values() if (task := state.tasks.get(name)) is not None]
    asked = [ask(state, task, now, within_ms) for task in those
             if task.worker == worker.name and task.state == RUNNING and task.preemptible]  # fmt: skip
    return [event for event, _ in asked], [notice for _, notice in asked]


def decide_checkpoint(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Checkpoint = command.body
    task = attempts.current(state, command, FINISH, now)
    if isinstance(task, Reject):
        return task
    task.heard_from(command.principal, now + task.lease_ms)
    size = size_of(body.checkpoint)
    return Accept([(events.CHECKPOINT, now, task.id, body.checkpoint, size)], {"ok": True, "lease_ms": task.lease_ms})


def decide_yield(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """It does not count as a failure; who asked for the slot has it next."""
    body: Yield = command.body
    task = attempts.current(state, command, YIELD, now, ends=True)
    if isinstance(task, Reject):
        return task
    found: list[Event] = [(events.WAITS, now, task.id, YIELD, "", 0)]
    if body.checkpoint is not None and not seeded(bugs.YIELDS_WITHOUT_CHECKPOINT):
        found.insert(0, (events.CHECKPOINT, now, task.id, body.checkpoint, size_of(body.checkpoint)))
    return Accept(found, {"ok": True, "task": task.id, "state": READY, "retry_in_ms": 0})
