"""Queries: one task, several, pages of them, and the whole. They change nothing."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from bursar.contracts.base import MAX_INT
from bursar.contracts.scheduler import BANDS, Ended, Find, List
from bursar.kernel.decider import Command, Fence, Outcome, Refuse, Reject
from bursar_scheduler.board import Board
from bursar_scheduler.lifecycle import ASSIGNED, PREEMPTING, READY, RUNNING, SUBMITTED
from bursar_scheduler.state import State
from bursar_scheduler.task import Task, Worker

MAX_CLASSES: Final = 64
MAX_WORKERS: Final = 200
OPERATOR: Final = "ops"


def decide_find(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Find = command.body
    name = body.task
    if name.partition(".")[0] != command.principal:
        return Reject("not_yours", "only who submitted a task may ask for it", {"task": name})
    task = state.find(name)
    if task is not None:
        return Refuse(_found(task))
    ended = state.how_it_ended(name)
    if ended is not None:
        known = {
            "task_class": ended.task_class, "state": ended.state, "kept": True, "result": ended.result,
            "reason": ended.reason, "error": ended.error, "attempts": ended.attempts, "worker": ended.worker or None,
        }  # fmt: skip
        return Refuse(_blank(name) | known)
    known_name = state.known(name)
    if known_name is None:
        return Reject("unknown_task", "no such task", {"task": name})
    return Refuse(_blank(name) | {"state": known_name[1]})


def _blank(name: str) -> dict[str, Any]:
    return {
        "ok": True, "task": name, "task_class": None, "state": "", "priority": None, "kept": False, "result": None,
        "reason": "", "error": "", "attempts": 0, "worker": None, "progress_permille": None, "note": None,
    }  # fmt: skip


def _found(task: Task) -> dict[str, Any]:
    return _blank(task.id) | {
        "task_class": task.lane[0], "state": task.state, "priority": task.priority, "reason": task.reason,
        "error": task.error, "attempts": task.attempts, "worker": task.worker or None,
        "progress_permille": task.permille, "note": task.note,
    }  # fmt: skip


def decide_ended(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Tasks of others count as unknown."""
    body: Ended = command.body
    over: list[list[str]] = []
    unknown: list[str] = []
    for name in body.tasks:
        known = state.known(name) if name.partition(".")[0] == command.principal else None
        if known is None:
            unknown.append(name)
        elif name not in state.tasks:
            over.append([name, known[1]])
    return Refuse({"ok": True, "ended": over, "unknown": unknown})


def decide_list(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Own tasks. (The same question by an operator is `decide_list_all`.)"""
    body: List = command.body
    if body.principal not in {None, command.principal}:
        return Reject("not_yours", "an agent may list its own tasks", {"principal": body.principal})
    return _page(state, body, command.principal, now)


class ListAll(List):
    """The same question on the subject of the operators."""


def decide_list_all(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: List = command.body
    return _page(state, body, body.principal, now)


def _page(state: State, body: List, principal: str | None, now: int) -> Refuse:
    """Tasks in their order. A page begins after a task even when that has ended meanwhile, if it is still there to be
    found; else at the beginning."""
    everything = state.dead if body.dead else state.tasks
    names = list(everything)
    if principal is not None:
        owner = state.owners.get(principal)
        names = [] if owner is None else list(owner.tasks)
        if body.dead:
            names = [name for name in state.dead if name.partition(".")[0] == principal]
    start = names.index(body.after) + 1 if body.after in everything and body.after in names else 0
    page = list(islice(names, start, start + body.limit))
    rows = [_row(everything[name], now) for name in page]
    return Refuse({"ok": True, "tasks": rows, "more": start + len(page) < len(names)})


def _row(task: Task, now: int) -> dict[str, Any]:
    return {
        "task": task.id, "task_class": task.lane[0], "priority": task.priority, "state": task.state,
        "attempts": task.attempts, "worker": task.worker or None, "age_ms": now - task.submitted_at,
        "reason": task.reason, "error": task.error[:200],
    }  # fmt: skip


def decide_status(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    board = state.awake(now)
    bands: dict[str, dict[str, int]] = {band: {"waiting": 0, "running": 0} for band in BANDS}
    classes: dict[str, dict[str, int]] = {}
    states = dict.fromkeys((SUBMITTED, READY, ASSIGNED, RUNNING, PREEMPTING), 0)
    for (task_class, band, where), count in state.census.items():
        states[where] += count
        column = "waiting" if where in {SUBMITTED, READY} else "running"
        bands[BANDS[band]][column] += count
        if task_class in classes or len(classes) < MAX_CLASSES:
            classes.setdefault(task_class, {"waiting": 0, "running": 0})[column] += count
    listed = sum(lane.count for lane in board.lanes.values())
    workers = [_worker(worker, board.heard.get(worker.name, now), now)
               for worker in islice(state.workers.values(), MAX_WORKERS)]  # fmt: skip
    return Refuse(
        {
            "ok": True, "now_ms": now, "policy": state.config.policy,
            "shadow": _shadow(board), "waiting": listed,
            "delayed": states[READY] - listed, "blocked": states[SUBMITTED], "assigned": states[ASSIGNED],
            "running": states[RUNNING] + states[PREEMPTING], "dead": len(state.dead),
            "bytes": min(MAX_INT, state.bytes), "bands": bands, "classes": classes,
            "workers": workers, "more_workers": len(state.workers) - len(workers),
            "counts": dict(sorted(state.counts.items())) | {"refused": state.refused} | _plans(board),
        }
    )  # fmt: skip


def _shadow(board: Board) -> dict[str, Any] | None:
    """Of whatever kind it is."""
    if board.shadow is not None:
        return board.shadow.told()
    planner = board.planner
    return planner.told() if planner is not None and planner.shadow == board.config.shadow else None


def _plans(board: Board) -> dict[str, int]:
    """What has become of moves, since this owner began."""
    return {} if board.planner is None else {f"moves_{what}": n for what, n in sorted(board.planner.counts.items())}


def _worker(worker: Worker, heard: int, now: int) -> dict[str, Any]:
    return {
        "name": worker.name, "kind": worker.kind, "host": worker.place.get("host"),
        "preemptible": worker.place.get("preemptible", False), "slots": worker.slots, "used": len(worker.attempts),
        "heard_ms": max(0, now - heard), "draining": worker.draining, "suspect": worker.suspect, "ended": worker.ended,
        "load_permille": worker.load,
    }  # fmt: skip
