"""Gangs: a task that takes several workers at once, all of them or none.

One decision assigns it, with one token for all its members; the first of them has the rank 0 and speaks for it in
lists. Each member starts by itself, gives signs of life, and ends its part. The end of the last part is the end of the
task, and its result is that of rank 0; until then every member keeps its slot, and then all slots come back together.
What ends one part other than well (a failure, a loss, a release, a start that does not come) ends the attempt of all:
the others are told to stop, and the slot of each comes back when it has stopped. A gang is never preempted.

A quota counts all its slots; a gang begins when its agent may have one more, so that it may exceed a quota by its
other members.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bursar.contracts.scheduler import size_of
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_scheduler import bugs, events, telling
from bursar_scheduler.asking import ask_of
from bursar_scheduler.lifecycle import ASSIGNED, BEGIN, DONE, FINISH, RUNNING
from bursar_scheduler.placing import gang
from bursar_scheduler.state import State
from bursar_scheduler.task import Task

_ENDING: Final = frozenset({events.WAITS, events.DEAD, events.ENDED})

Rule = Callable[[State, Command, int, Fence], Outcome]


def decide_dispatch(state: State, task: Task, now: int, fence: Fence) -> Outcome:
    """All members, or nobody."""
    board = state.awake(now)
    members = gang(board.fleet, ask_of(board, task), task.lane[4])
    if not members:
        return Refuse({})
    token = f"{fence[0]}.{fence[1]}.{fence[2]}"
    told = [
        telling.assign(state.workers[name], task, token, task.attempts + 1, state.config, now, members)
        for name in members
    ]
    return Accept([(events.GANGED, now, task.id, members, token)], {}, told)


def wrong(task: Task, worker: str, what: str) -> Reject | None:
    """Why a member may not do that now."""
    gang = task.gang
    assert gang is not None
    facts = {"task": task.id, "state": task.state}
    if worker in gang.over:
        return Reject("stale_attempt", "this member's part has ended already", facts)
    if what == BEGIN:
        begun = worker in gang.begun
        return Reject("stale_attempt", "the attempt has started already", facts) if begun else None
    if worker not in gang.begun:
        return Reject("not_started", "the attempt was assigned and not started", {"task": task.id})
    return None


def decide_start(task: Task, worker: str, now: int) -> Accept:
    found: list[Event] = [(events.JOINED, now, task.id, worker)]
    if task.state == ASSIGNED:
        found.insert(0, (events.STARTED, now, task.id))
    return Accept(found, {"ok": True, "task": task.id, "token": task.token, "lease_ms": task.lease_ms})


def decide_finish(task: Task, worker: str, result: Any, now: int) -> Accept:
    """The part of one member; the last one ends the task."""
    gang = task.gang
    assert gang is not None
    is_first = worker == gang.members[0]
    kept = result if is_first else None
    part = (events.PARTED, now, task.id, worker, kept, size_of(kept))
    reply = {"ok": True, "task": task.id, "state": RUNNING, "retry_in_ms": None}
    if len(gang.over) + 1 < len(gang.members) and not (is_first and seeded(bugs.GANG_ENDS_WITH_ITS_FIRST)):
        return Accept([part], reply)
    whole = result if is_first else gang.result
    ended = (events.ENDED, now, task.id, DONE, whole, size_of(whole), FINISH, "")
    return Accept([part, ended], {**reply, "state": DONE}, [telling.ended(task.id, DONE, FINISH, result=whole)])


def as_one(rule: Rule) -> Rule:
    """A rule by which one member may end the attempt of all: its own part is over with that, the others are stopped."""

    def decide(state: State, command: Command, now: int, fence: Fence) -> Outcome:
        outcome = rule(state, command, now, fence)
        if not isinstance(outcome, Accept) or not outcome.events:
            return outcome
        end = next((event for event in outcome.events if event[0] in _ENDING), None)
        task = None if end is None else state.tasks.get(end[2])
        if task is None or task.gang is None:
            return outcome
        part = (events.PARTED, now, task.id, command.principal, None, 0)
        told = [*outcome.broadcasts, *stops(task, command.principal)]
        return Accept([part, *outcome.events], outcome.reply, told)

    return decide


def stops(task: Task, but: str) -> list[Notice]:
    """For all other members that may still work on it."""
    return [notice for notice in telling.stop_of(task) if notice.principal != but]
