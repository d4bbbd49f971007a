"""Accepting tasks, by request and from the inbox: once per name, within bounds, and not in doubt.

After a loss of acknowledged entries a request from before it may have been accepted, run and ended in what was lost, so
it is not accepted (again): one that shows an older fence than the loss, or none at all within ten minutes of it, or
that names its task itself within that time. The answer carries the new fence; who asks anew with it is believed.
(A task with a name of the caller's own can only be named anew once the ten minutes are over.) A posted task in doubt,
or one for which there is no room, is set aside as a dead letter: nobody waits for an answer that could say no.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bursar.contracts.scheduler import BANDS, Post, Submit, size_of
from bursar.contracts.scheduler import Task as Told
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar.kernel.inbox import Delivered
from bursar_scheduler import bugs, dispatch, events, telling
from bursar_scheduler.lifecycle import DEAD, ENDS, POST_REFUSED
from bursar_scheduler.state import State
from bursar_scheduler.task import LaneKey, Task

DOUBT_MS: Final = 600_000
RETRY_MS: Final = 1_000
MAX_NEEDS: Final = 64
"""Different combinations of class and needs that one principal may have open at a time."""

_BAND: Final = {name: index for index, name in enumerate(BANDS)}
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Full(NamedTuple):
    dimension: str
    scope: str
    limit: int
    level: int


def decide_submit(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Submit = command.body
    name = f"{command.principal}.{body.key or command.request_id}"
    task = draft(name, body, now)
    known = _known(state, name)
    if known is not None:
        return _again(name, known, task.digest)
    if is_doubtful(state, body.seen, now, fence, named=body.key is not None):
        state.refused += 1
        return Refuse(_in_doubt())
    full = what_is_full(state, command.principal, task)
    if full is not None:
        state.refused += 1
        return Refuse(_full(full))
    found: list[Event] = [accepted(task, now)]
    notices: list[Notice] = []
    made = dispatch.at_once(state, task, now, fence)
    if made is not None:
        found.append(made[0])
        notices.append(made[1])
    where = "waiting" if made is None else "assigned"
    return Accept(found, {"ok": True, "task": name, "state": where, "known": False}, notices)


def decide_delivered(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """One message of the inbox; whatever becomes of it, the position moves to it."""
    body: Delivered = command.body
    if body.sequence <= state.position:
        return Refuse({})
    if not isinstance(body.message, Post):
        return Accept([(events.POSTED, now, body.sequence, "unreadable")], {})
    return _post(state, command.principal, body.sequence, body.message, now, fence)


def _post(state: State, principal: str, sequence: int, post: Post, now: int, fence: Fence) -> Outcome:
    name = f"{principal}.{post.name}"
    task = draft(name, post, now)
    known = _known(state, name)
    if known is not None:
        what = "repeated" if known[0] == task.digest else "name_reused"
        return Accept([(events.POSTED, now, sequence, what)], {})
    full = what_is_full(state, principal, task)
    doubt = is_doubtful(state, post.seen, now, fence, named=post.seen is None)
    if full is not None or doubt:
        why = "in_doubt" if doubt else "queue_full"
        aside = (*accepted(task, now), why)
        told = telling.ended(name, DEAD, f"{POST_REFUSED}: {why}")
        return Accept([(events.POSTED, now, sequence, why), (events.SET_ASIDE, *aside[1:])], {}, [told])
    found: list[Event] = [(events.POSTED, now, sequence, "accepted"), accepted(task, now)]
    made = dispatch.at_once(state, task, now, fence)
    if made is None:
        return Accept(found, {})
    return Accept([*found, made[0]], {}, [made[1]])


def draft(name: str, told: Told, now: int) -> Task:
    """The task that would be accepted."""
    task = Task()
    needs = told.needs
    task.id = name
    task.lane = lane_of(told)
    task.band = _BAND[told.priority]
    task.payload, task.size = told.payload, size_of(told.payload)
    task.retries, task.backoff_ms, task.lease_ms = told.retries, told.backoff_ms, told.lease_ms
    task.timeout_ms = told.timeout_ms or 0
    task.deadline_at = now + told.deadline_ms if told.deadline_ms else 0
    content = [told.task_class, told.payload, told.priority, told.deadline_ms, told.retries, told.backoff_ms,
               told.lease_ms, told.timeout_ms, needs.kind, task.lane[2]]  # fmt: skip
    task.digest = hashlib.blake2b(_pack(content), digest_size=8).digest()
    return task


def lane_of(told: Told) -> LaneKey:
    return told.task_class, told.needs.kind or "", tuple(sorted(told.needs.labels.items()))


def accepted(task: Task, now: int) -> Event:
    task_class, kind, labels = task.lane
    return (
        events.ACCEPTED, now, task.id, task_class, kind, labels, task.band, task.payload, task.size, task.digest,
        task.retries, task.backoff_ms, task.lease_ms, task.timeout_ms, task.deadline_at,
    )  # fmt: skip


def is_doubtful(state: State, seen: str | None, now: int, fence: Fence, *, named: bool) -> bool:
    """Whether this may be about a task that was accepted in what the journal has lost."""
    if state.lost_at < 0:
        return False
    if seen is not None and int(seen.partition(".")[0]) < fence[0]:
        return True
    return (seen is None or named) and now < state.lost_at + DOUBT_MS


def _known(state: State, name: str) -> tuple[bytes, str] | None:
    known = state.known(name)
    return None if known is not None and known[1] in ENDS and seeded(bugs.ENDED_ID_FORGOTTEN) else known


def what_is_full(state: State, principal: str, task: Task) -> Full | None:
    config, owner = state.config, state.owners.get(principal)
    if len(state.tasks) >= config.max_tasks:
        return Full("tasks", "all", config.max_tasks, len(state.tasks))
    if state.bytes + task.size > config.max_bytes:
        return Full("bytes", "all", config.max_bytes, state.bytes)
    if owner is None:
        return None
    if len(owner.tasks) >= config.max_tasks_per_principal:
        return Full("tasks", "principal", config.max_tasks_per_principal, len(owner.tasks))
    if len(owner.needs) >= MAX_NEEDS and task.lane not in owner.needs:
        return Full("needs", "principal", MAX_NEEDS, len(owner.needs))
    return None


def _again(name: str, known: tuple[bytes, str], digest: bytes) -> Outcome:
    if known[0] != digest:
        return Reject("id_reused", "another task was submitted under this name", {"task": name})
    return Refuse({"ok": True, "task": name, "state": known[1], "known": True})


def _full(full: Full) -> dict[str, Any]:
    whose = "there are" if full.scope == "all" else "you have"
    text = f"the queue is full: {whose} {full.level} of at most {full.limit} ({full.dimension})"
    return {"ok": False, "reason": "queue_full", **full._asdict(), "retry_in_ms": RETRY_MS, "text": text}


def _in_doubt() -> dict[str, Any]:
    text = "the journal has lost entries, maybe this task with them; if it may run twice, submit it anew"
    nothing = dict.fromkeys(("dimension", "scope", "limit", "level", "retry_in_ms"))
    return {"ok": False, "reason": "in_doubt", **nothing, "text": text}
