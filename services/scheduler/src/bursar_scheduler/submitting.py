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

from bursar.contracts.scheduler import BANDS, Data, Hints, Post, Submit, size_of
from bursar.contracts.scheduler import Task as Told
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar.kernel.inbox import Delivered
from bursar_scheduler import bugs, depending, dispatch, events, telling
from bursar_scheduler.accounts import Who
from bursar_scheduler.admission import come_again_ms
from bursar_scheduler.lifecycle import ASSIGNED, CANCELLED, DEAD, ENDS, POST_REFUSED, READY, SUBMITTED
from bursar_scheduler.resources import demands_of, labels_needed
from bursar_scheduler.state import State
from bursar_scheduler.task import Hint, LaneKey, Task
from bursar_scheduler.uses import of_task

DOUBT_MS: Final = 600_000
RETRY_MS: Final = 1_000
MAX_NEEDS: Final = 64
"""Different combinations of class and needs that one principal may have open at a time."""

NO_HINT: Final = Hint()
_BAND: Final = {name: index for index, name in enumerate(BANDS)}
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Full(NamedTuple):
    """``level`` of ``limit``; ``excess``: so many tasks have to end first."""

    dimension: str
    scope: str
    limit: int
    level: int
    excess: int = 1


def decide_submit(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Submit = command.body
    name = f"{command.principal}.{body.key or command.request_id}"
    task = draft(state, name, body, now, body.trace)
    known = known_as(state, name)
    if known is not None:
        return _again(name, known, task.digest)
    wrong = depending.link(state, task, body.after) or state.blobs.unusable(command.principal, body.payload, now)
    if wrong is not None:
        return wrong
    if is_doubtful(state, body.seen, now, fence, named=body.key is not None):
        return in_doubt(state)
    full = what_is_full(state, command.principal, [task])
    if full is not None:
        return refused(state, full, now)
    found, notices, where = begin(state, task, now, fence)
    return Accept(found, {"ok": True, "task": name, "state": where, "known": False}, notices)


def begin(state: State, task: Task, now: int, fence: Fence) -> tuple[list[Event], list[Notice], str]:
    """A task is accepted: it waits for others, is cancelled because one has failed, is ready, or is assigned at once.
    Events, notices, and its state after them."""
    if task.unmet:
        return [accepted(task, now)], [], SUBMITTED
    failed = depending.failed_already(state, task)
    if failed:
        event, notice = depending.cancelled(task, failed, depending.how(state, task, failed), now)
        task.unmet = (failed,)
        return [accepted(task, now), event], [notice], CANCELLED
    made = dispatch.at_once(state, task, now, fence)
    if made is None:
        return [accepted(task, now)], [], READY
    return [accepted(task, now), made[0]], [made[1]], ASSIGNED


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
    task = draft(state, name, post, now, post.trace)
    known = known_as(state, name)
    if known is not None:
        what = "repeated" if known[0] == task.digest else "name_reused"
        return Accept([(events.POSTED, now, sequence, what)], {})
    why = _why_not(state, principal, post, task, now, fence)
    if why:
        aside = (*accepted(task, now), why)
        told = telling.ended(name, DEAD, f"{POST_REFUSED}: {why}")
        return Accept([(events.POSTED, now, sequence, why), (events.SET_ASIDE, *aside[1:])], {}, [told])
    found, notices, _ = begin(state, task, now, fence)
    return Accept([(events.POSTED, now, sequence, "accepted"), *found], {}, notices)


def _why_not(state: State, principal: str, post: Post, task: Task, now: int, fence: Fence) -> str:
    """Why a posted task is not accepted; "": it is."""
    if state.rights is not None and not all(state.rights.may(principal, *use) for use in of_task(post)):
        return "forbidden"
    wrong = depending.link(state, task, post.after) or state.blobs.unusable(principal, post.payload, now)
    if is_doubtful(state, post.seen, now, fence, named=post.seen is None):
        return "in_doubt"
    if wrong is not None:
        return wrong.code
    return "" if what_is_full(state, principal, [task]) is None else "queue_full"


def draft(state: State, name: str, told: Told, now: int, trace: str | None) -> Task:
    """The task that would be accepted."""
    task = Task()
    needs = told.needs
    task.id, task.submitted_at, task.trace = name, now, trace or ""
    task.lane = lane_of(told)
    task.band = _BAND[told.priority]
    task.who = Who(state.teams.get(task.principal, ""), task.principal, told.program or "")
    task.payload, task.size = told.payload, size_of(told.payload)
    task.retries, task.backoff_ms, task.lease_ms = told.retries, told.backoff_ms, told.lease_ms
    task.timeout_ms = told.timeout_ms or 0
    task.deadline_at = now + told.deadline_ms if told.deadline_ms else 0
    task.runs_anyway = told.after_failure == "run"
    task.preemptible = told.preemptible and needs.gang == 1
    task.takes = None if told.takes is None else told.takes.model_dump(exclude={"v"}, exclude_none=True)
    task.hints = None if told.hints is None else hint_from(told.hints)
    content = [told.task_class, told.payload, told.priority, told.deadline_ms, told.retries, told.backoff_ms,
               told.lease_ms, told.timeout_ms, needs.kind, *task.lane[2:], told.after, told.after_failure,
               told.preemptible, told.program, task.hints, task.takes]  # fmt: skip
    task.digest = hashlib.blake2b(_pack(content), digest_size=8).digest()
    return task


def lane_of(told: Told) -> LaneKey:
    needs = told.needs
    return told.task_class, needs.kind or "", labels_needed(needs), demands_of(needs), needs.gang


def hint_from(told: Hints) -> Hint | None:
    """As it is kept; None when nothing is said."""
    data = told.data or Data()
    hint = Hint(data.host or "", -1 if data.numa_node is None else data.numa_node, data.region or "", data.bytes,
                told.model or "", told.prefix, told.prefix_tokens if told.prefix else 0, told.prompt_tokens or 0,
                told.expected_ms or 0)  # fmt: skip
    return None if hint == NO_HINT else hint


def accepted(task: Task, now: int) -> Event:
    task_class, kind, labels, *_ = task.lane
    return (
        events.ACCEPTED, now, task.id, task_class, kind, labels, task.band, task.payload, task.size, task.digest,
        task.retries, task.backoff_ms, task.lease_ms, task.timeout_ms, task.deadline_at, besides(task),
    )  # fmt: skip


def besides(task: Task) -> dict[str, Any]:
    """What only some tasks have."""
    rest = {"demands": task.lane[3], "gang": task.lane[4] if task.lane[4] > 1 else 0, "hints": task.hints,
            "after": task.after, "unmet": task.unmet, "runs_anyway": task.runs_anyway,
            "preemptible": task.preemptible, "team": task.who.team, "program": task.who.program,
            "trace": task.trace, "takes": task.takes}  # fmt: skip
    return {name: value for name, value in rest.items() if value}


def is_doubtful(state: State, seen: str | None, now: int, fence: Fence, *, named: bool) -> bool:
    """Whether this may be about a task that was accepted in what the journal has lost."""
    if state.lost_at < 0:
        return False
    if seen is not None and int(seen.partition(".")[0]) < fence[0]:
        return True
    return (seen is None or named) and now < state.lost_at + DOUBT_MS


def known_as(state: State, name: str) -> tuple[bytes, str] | None:
    known = state.known(name)
    return None if known is not None and known[1] in ENDS and seeded(bugs.ENDED_ID_FORGOTTEN) else known


def what_is_full(state: State, principal: str, tasks: list[Task]) -> Full | None:
    """What leaves no room for these tasks, which are accepted together or not at all."""
    config, owner = state.config, state.owners.get(principal)
    if len(state.tasks) + len(tasks) > config.max_tasks:
        return Full(
            "tasks", "all", config.max_tasks, len(state.tasks), len(state.tasks) + len(tasks) - config.max_tasks
        )
    there = state.bytes + state.links.held_bytes
    if there + sum(task.size for task in tasks) > config.max_bytes:
        return Full("bytes", "all", config.max_bytes, there)
    mine = 0 if owner is None else len(owner.tasks)
    if mine + len(tasks) > config.max_tasks_per_principal:
        excess = mine + len(tasks) - config.max_tasks_per_principal
        return Full("tasks", "principal", config.max_tasks_per_principal, mine, excess)
    if owner is None and len(tasks) == 1:
        return None
    needs = {} if owner is None else owner.needs
    new = {task.lane for task in tasks if task.lane not in needs}
    if len(needs) + len(new) > MAX_NEEDS:
        return Full("needs", "principal", MAX_NEEDS, len(needs))
    return None


def _again(name: str, known: tuple[bytes, str], digest: bytes) -> Outcome:
    if known[0] != digest:
        return Reject("id_reused", "another task was submitted under this name", {"task": name})
    return Refuse({"ok": True, "task": name, "state": known[1], "known": True})


def refused(state: State, full: Full, now: int) -> Refuse:
    """Told when to come again: when enough will have ended, at the pace of the last while."""
    state.refused += 1
    per_minute = state.drain.per_minute(now)
    retry = come_again_ms(full.excess, per_minute, state.refused) if per_minute else RETRY_MS
    told = {name: value for name, value in full._asdict().items() if name != "excess"}
    whose = "there are" if full.scope == "all" else "you have"
    text = f"the queue is full: {whose} {full.level} of at most {full.limit} ({full.dimension})"
    return Refuse({"ok": False, "reason": "queue_full", **told, "retry_in_ms": retry, "text": text})


def in_doubt(state: State) -> Refuse:
    state.refused += 1
    text = "the journal has lost entries, maybe this task with them; if it may run twice, submit it anew"
    nothing = dict.fromkeys(("dimension", "scope", "limit", "level", "retry_in_ms"))
    return Refuse({"ok": False, "reason": "in_doubt", **nothing, "text": text})
