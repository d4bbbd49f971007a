"""What a worker says of an attempt: started, progressing, finished, failed, given back.

The token is the fence: only the task's current one is heard. Everything else is ``stale_attempt``: the lease was lost,
the task was cancelled, has expired or was given to another. A worker that is told so stops, and what it has done does
not count. When it says so by ending the attempt, its slot is free from then on (`Free`, handed out by `due`: a refusal
changes nothing).

An end whose slot goes to the next in line may bring that along in its answer, started: the worker that asks for it is
there and has the room, so nothing is left for a start to prove.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bursar.contracts.scheduler import Fail, Finish, Progress, Release, Start, size_of
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_scheduler import bugs, dispatch, events, gangs, telling
from bursar_scheduler.board import Board
from bursar_scheduler.dice import pause_of
from bursar_scheduler.lifecycle import (
    ASSIGNED,
    BEGIN,
    DEAD,
    DONE,
    FAIL,
    FAIL_FOR_GOOD,
    FAIL_LAST,
    FAILED,
    FINISH,
    READY,
    RELEASE,
    TIME_OUT,
    TIME_OUT_LAST,
    next_state,
)
from bursar_scheduler.state import State
from bursar_scheduler.task import Task

MAX_NEXT: Final = 2_048
"""Bytes of a payload that an answer brings along; a larger one comes in a notice, since the journal keeps answers."""


class Free(NamedTuple):
    """A void attempt has been ended by its worker."""

    worker: str
    token: str


def decide_start(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Start = command.body
    task = current(state, command, BEGIN, now)
    if isinstance(task, Reject):
        return task
    if task.gang is not None:
        return gangs.decide_start(task, command.principal, now)
    reply = {"ok": True, "task": task.id, "token": body.token, "lease_ms": task.lease_ms}
    return Accept([(events.STARTED, now, task.id)], reply)


def decide_progress(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Progress = command.body
    task = current(state, command, FINISH, now)
    if isinstance(task, Reject):
        return task
    task.heard_from(command.principal, now + task.lease_ms)
    task.permille = body.permille if body.permille is not None else task.permille
    task.note = body.note if body.note is not None else task.note
    return Refuse({"ok": True, "lease_ms": task.lease_ms})


def decide_finish(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Finish = command.body
    task = current(state, command, FINISH, now, ends=True)
    if isinstance(task, Reject):
        return task
    unusable = state.blobs.unusable(command.principal, body.result, now)
    if unusable is not None:
        return unusable
    if task.gang is not None:
        return gangs.decide_finish(task, command.principal, body.result, now)
    size = size_of(body.result)
    event = (events.ENDED, now, task.id, DONE, body.result, size, FINISH, "")
    told = telling.ended(task.id, DONE, FINISH, result=body.result)
    return _then_next(state, task, (event, told), _reply(task, DONE), body.next, now, fence)


def decide_fail(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Fail = command.body
    task = current(state, command, FAIL, now, ends=True)
    if isinstance(task, Reject):
        return task
    if not body.retryable:
        event = (events.ENDED, now, task.id, FAILED, None, 0, FAIL_FOR_GOOD, body.error)
        told = telling.ended(task.id, FAILED, FAIL_FOR_GOOD, body.error)
        return _then_next(state, task, (event, told), _reply(task, FAILED), body.next, now, fence)
    event = failure(task, body.error, now, FAIL, FAIL_LAST)
    if event[0] == events.DEAD:
        told = telling.ended(task.id, DEAD, FAIL_LAST, body.error)
        return _then_next(state, task, (event, told), _reply(task, DEAD), body.next, now, fence)
    not_before: int = event[5]
    return Accept([event], _reply(task, READY, not_before - now))


def failure(task: Task, error: str, now: int, why: str = TIME_OUT, last: str = TIME_OUT_LAST) -> Event:
    """One more failure: a pause and another attempt, or a dead letter when there are no retries left."""
    if task.failures >= task.retries:
        return (events.DEAD, now, task.id, last, error)
    pause = pause_of(task.backoff_ms, task.failures + 1, task.order)
    return (events.WAITS, now, task.id, why, error, now + pause)


def decide_release(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Given back without counting; or a void attempt that has been stopped."""
    body: Release = command.body
    worker = state.workers.get(command.principal)
    name = body.task or ("" if worker is None else worker.attempts.get(body.token, ""))
    reply = {"ok": True, "task": name or None, "state": _where(state, name), "retry_in_ms": None}
    if worker is None or body.token not in worker.attempts:
        return Refuse(reply)
    task = state.tasks.get(name)
    if task is not None and task.token == body.token:
        if task.gang is not None and command.principal in task.gang.over:
            return Refuse(reply)  # its slot comes back with those of the others
        after = body.after_ms or 0
        event = (events.WAITS, now, task.id, RELEASE, body.reason, now + after if after else 0)
        return Accept([event], _reply(task, READY, after))
    return Accept([(events.FREED, now, worker.name, body.token)], reply)


def next_free(board: Board) -> Free | None:
    if not board.free:
        return None
    worker, token = next(iter(board.free))
    del board.free[worker, token]
    return Free(worker, token)


def decide_free(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Free = command.body
    worker = state.workers.get(body.worker)
    if worker is None or body.token not in worker.attempts:
        return Refuse({})
    return Accept([(events.FREED, now, worker.name, body.token)], {})


def current(state: State, command: Command, what: str, now: int, *, ends: bool = False) -> Task | Reject:
    """The task whose current attempt speaks, in a state in which it may do that; or why it is not heard."""
    name, token, principal = command.body.task, command.body.token, command.principal
    task = state.tasks.get(name)
    if task is not None and task.token == token and task.worker != principal and principal not in task.members:
        return Reject("not_yours", "this attempt is another worker's", {"task": name})
    is_current = task is not None and (task.token == token or seeded(bugs.STALE_TOKEN_FINISHES))
    if task is None or not is_current:
        return _stale(state, name, token, principal, now, ends=ends)
    if task.gang is not None:
        return gangs.wrong(task, principal, what) or task
    if next_state(task.state, what) is None:
        if task.state == ASSIGNED:
            return Reject("not_started", "the attempt was assigned and not started", {"task": name})
        return Reject("stale_attempt", "the attempt has started already", {"task": name, "state": task.state})
    return task


def _stale(state: State, name: str, token: str, principal: str, now: int, *, ends: bool) -> Reject:
    worker = state.workers.get(principal)
    if ends and worker is not None and token in worker.attempts:
        state.awake(now).free[principal, token] = None
    ended = state.ended.get(name)
    if ended is not None and ended.token == token and ended.worker == principal and ended.state in {DONE, FAILED}:
        return Reject("already_ended", f"this attempt has ended: {ended.state}", {"task": name, "state": ended.state})
    where = _where(state, name)
    if where == "unknown":
        return Reject("unknown_task", "no such task", {"task": name})
    return Reject("stale_attempt", f"this attempt is void: the task is {where}", {"task": name, "state": where})


def _where(state: State, name: str) -> str:
    known = state.known(name)
    return "unknown" if known is None else known[1]


def _then_next(
    state: State, task: Task, end: tuple[Event, Notice], reply: dict[str, Any], brings: bool, now: int, fence: Fence
) -> Accept:
    """The attempt has ended; its slot may go to the next in line with the same decision. ``brings``: the worker
    wants that one in the answer, started."""
    event, told = end
    worker = None if task.gang is not None else state.workers.get(task.worker)
    made = None if worker is None else dispatch.next_in_line(state, worker, task.token, now, fence)
    if made is None:
        return Accept([event], reply, [told])
    assigned, notice = made
    if not brings or size_of(notice.body["payload"]) > MAX_NEXT or "takes" in notice.body:
        return Accept([event, assigned], reply, [told, notice])
    started = (events.STARTED, now, notice.body["task"])
    return Accept([event, assigned, started], {**reply, "next": telling.begun(notice)}, [told])


def _reply(task: Task, state: str, retry_in: int | None = None) -> dict[str, Any]:
    return {"ok": True, "task": task.id, "state": state, "retry_in_ms": retry_in}
