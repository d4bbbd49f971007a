"""What the passing of time does to a task: it expires, its start is overdue, its lease or its time is over.

Each task has one entry in the agenda, for the first of its moments. Signs of life only move the lease: the entry is met
too early then, and set anew.
"""

from __future__ import annotations

from typing import NamedTuple

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome
from bursar_scheduler import bugs, events, telling
from bursar_scheduler.attempts import failure
from bursar_scheduler.evolve import life_of
from bursar_scheduler.lifecycle import (
    ASSIGNED,
    AT_WORK,
    DEAD,
    DEADLINE,
    EXPIRED,
    LEASE_LOST,
    LOST_TOO_OFTEN,
    NOT_STARTED,
    NOT_YIELDED,
    PREEMPTING,
    QUARANTINE,
    TIME_OUT,
    TIME_OUT_LAST,
    WORKER_GONE,
)
from bursar_scheduler.state import State
from bursar_scheduler.task import Config, Task
from bursar_scheduler.timing import lease_until, start_by


class Moment(NamedTuple):
    """A task's time has come."""

    task: str
    what: str


def next_moment(state: State, now: int) -> Moment | None:
    """The next task to which something happens now. Pauses that are over need no decision."""
    board = state.awake(now)
    while (task := board.next_due(now)) is not None:
        board.place(task, now)
        what = what_happens(task, state.config, now)
        if what:
            return Moment(task.id, what)
    return None


def what_happens(task: Task, config: Config, now: int) -> str:
    if task.deadline_at and now >= task.deadline_at:
        return DEADLINE
    if task.state == ASSIGNED and now >= start_by(task, config):
        return NOT_STARTED
    if task.state == PREEMPTING and now >= task.yield_by:
        return NOT_YIELDED
    if task.state not in AT_WORK:
        return ""
    if task.timeout_ms and now >= task.since + task.timeout_ms:
        return TIME_OUT
    gang = task.gang
    if gang is not None and len(gang.begun) < len(gang.members) and now >= task.since + config.start_within_ms:
        return NOT_STARTED
    return LEASE_LOST if now >= lease_until(task) else ""


def decide_moment(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Moment = command.body
    task = state.tasks[body.task]
    stop = telling.stop_of(task)
    if body.what == DEADLINE:
        event: Event = (events.ENDED, now, task.id, EXPIRED, None, 0, DEADLINE, "")
        return Accept([event], {}, [*stop, telling.ended(task.id, EXPIRED, DEADLINE, task.error)])
    if body.what in {NOT_STARTED, NOT_YIELDED}:
        return Accept([(events.WAITS, now, task.id, body.what, "", 0)], {}, stop)
    if body.what == TIME_OUT:
        event = failure(task, "the attempt took too long", now)
        dead = [telling.ended(task.id, DEAD, TIME_OUT_LAST, event[4])] if event[0] == events.DEAD else []
        return Accept([event], {}, [*stop, *dead])
    event = loss(state, task, now, LEASE_LOST)
    dead = [telling.ended(task.id, DEAD, event[3])] if event[0] == events.DEAD else []
    return Accept([event], {}, [*stop, *dead])


def loss(state: State, task: Task, now: int, why: str, worker: str = "") -> Event:
    """An attempt that ran is lost: it waits again at once, unless that has happened too often, or so many workers have
    died while it ran that it may be what kills them. ``worker``: that is gone."""
    config = state.config
    if task.state in AT_WORK:
        killed = {*task.killed, life_of(state, worker)} if why == WORKER_GONE else set()
        if len(killed) >= config.max_kills and not seeded(bugs.KILLS_FOR_EVER):
            return (events.DEAD, now, task.id, QUARANTINE, f"died: {', '.join(sorted(killed))}")
        if task.losses + 1 >= config.max_losses:
            return (events.DEAD, now, task.id, LOST_TOO_OFTEN, "")
    return (events.WAITS, now, task.id, why, "", 0)
