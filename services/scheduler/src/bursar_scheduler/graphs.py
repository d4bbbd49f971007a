"""Several tasks accepted together, or none of them: a map over many items, a chain, any graph without cycles.

The names of the items make their tasks known, as the key of a single submission does; those that are there already with
the same content are the same tasks. What is ready is given to workers by the decisions that follow.
"""

from __future__ import annotations

from typing import Any

from bursar.contracts.scheduler import Task as Told
from bursar.contracts.scheduler_graph import Graph, Item
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_scheduler import depending, submitting
from bursar_scheduler.state import State
from bursar_scheduler.task import Task


def decide_graph(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Graph = command.body
    drafts = drafts_of(state, command.principal, body, now)
    if isinstance(drafts, Reject):
        return drafts
    known = [state.known(task.id) for task in drafts]
    for task, there in zip(drafts, known, strict=True):
        if there is not None and there[0] != task.digest:
            return Reject("id_reused", "another task was submitted under this name", {"task": task.id})
    new = [task for task, there in zip(drafts, known, strict=True) if there is None]
    reply = {"ok": True, "tasks": [task.id for task in drafts], "known": len(drafts) - len(new)}
    if not new:
        return Refuse(reply)
    for task in new:
        unusable = state.blobs.unusable(command.principal, task.payload, now)
        if unusable is not None:
            return unusable
    if submitting.is_doubtful(state, body.seen, now, fence, named=True):
        return submitting.in_doubt(state)
    full = submitting.what_is_full(state, command.principal, new)
    return submitting.refused(state, full, now) if full is not None else _accept(state, new, reply, now)


def _accept(state: State, new: list[Task], reply: dict[str, Any], now: int) -> Accept:
    """One that comes after a task which has failed is cancelled with the same decision; those after it, by `due`."""
    found: list[Event] = []
    told: list[Notice] = []
    for task in new:
        failed = "" if task.unmet else depending.failed_already(state, task)
        if not failed:
            found.append(submitting.accepted(task, now))
            continue
        event, notice = depending.cancelled(task, failed, depending.how(state, task, failed), now)
        task.unmet = (failed,)
        found += [submitting.accepted(task, now), event]
        told.append(notice)
    return Accept(found, reply, told)


def drafts_of(state: State, principal: str, body: Graph, now: int) -> list[Task] | Reject:
    """The tasks that would be accepted, each linked to what it comes after."""
    ids: dict[str, str] = {}
    drafts = []
    for item in body.items:
        name = f"{principal}.{body.name}:{item.name}"
        if item.name in ids:
            return Reject("bad_request", "two items have the same name", {"task": name})
        refs = body.template.after if item.after is None else item.after
        told = _told(body.template, item)
        task = submitting.draft(state, name, told, now, body.trace)
        wrong = _link(state, task, refs, ids)
        if wrong is not None:
            return wrong
        ids[item.name] = name
        drafts.append(task)
    return drafts


def _told(template: Told, item: Item) -> Told:
    names = ("task_class", "needs", "after", "after_failure")
    own = {name: value for name in names if (value := getattr(item, name)) is not None}
    return template.model_copy(update={**own, "payload": template.payload if item.payload is None else item.payload})


def _link(state: State, task: Task, refs: tuple[str, ...], ids: dict[str, str]) -> Reject | None:
    """To earlier items, and to tasks that are there."""
    inner = [ids[ref] for ref in refs if ref in ids]
    wrong = depending.link(state, task, tuple(ref for ref in refs if ref not in ids))
    task.after = tuple(dict.fromkeys((*inner, *task.after)))
    fresh = tuple(dict.fromkeys(name for name in inner if state.known(name) is None or state.find(name) is not None))
    task.unmet = (*fresh, *task.unmet)
    return wrong
