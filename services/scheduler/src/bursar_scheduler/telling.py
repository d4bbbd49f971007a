"""The notices: what a worker or a submitter is told after the commit. Each may be lost; what repairs it:

| notice | repaired by |
|---|---|
| assign | a heartbeat that does not list it has it sent again; not started in time, it goes to another |
| stop | every heartbeat that lists a void token has it sent again |
| register | sent again while heartbeats of a stranger come |
| ended | the submitter asks now and then (`Ended`, `Find`) |
"""

from __future__ import annotations

from typing import Any, Final

from bursar.kernel.decider import Notice
from bursar_scheduler.task import Config, Task, Worker

_NEXT: Final = (
    "task",
    "token",
    "task_class",
    "payload",
    "attempt",
    "lease_ms",
    "deadline_in_ms",
    "after",
    "checkpoint",
    "waited_ms",
    "trace",
)


def assign(
    worker: Worker, task: Task, token: str, attempt: int, config: Config, now: int, members: tuple[str, ...] = ()
) -> Notice:
    """``members``: of its gang, if it is one."""
    body = {
        "v": 1,
        "what": "assign",
        "session": worker.session,
        "task": task.id,
        "token": token,
        "task_class": task.lane[0],
        "payload": task.payload,
        "attempt": attempt,
        "lease_ms": task.lease_ms,
        "start_within_ms": config.start_within_ms,
        "deadline_in_ms": task.deadline_at - now if task.deadline_at else None,
        "after": list(task.after),
        "checkpoint": task.checkpoint,
        "waited_ms": (task.since if task.token == token else now) - task.submitted_at,
        "trace": task.trace or None,
    }
    if task.takes is not None:
        body["takes"] = task.takes
    if members:
        body["members"], body["rank"] = list(members), members.index(worker.name)
    return Notice(worker.name, body)


def begun(assignment: Notice) -> dict[str, Any]:
    """The same in the answer to the end of another attempt: it has begun."""
    return {name: assignment.body[name] for name in _NEXT}


def stop(worker: str, task: str, token: str) -> Notice:
    return Notice(worker, {"v": 1, "what": "stop", "task": task or None, "token": token})


def yields(task: Task, within_ms: int) -> Notice:
    """For its worker: stop at the end of the chunk."""
    body = {"v": 1, "what": "stop", "task": task.id, "token": task.token, "preempt": True, "within_ms": within_ms}
    return Notice(task.worker, body)


def stop_of(task: Task) -> list[Notice]:
    """For the worker of the present attempt, if there is one; for all of a gang that may still work on it."""
    if task.gang is not None:
        return [stop(name, task.id, task.token) for name in task.members if name not in task.gang.over]
    return [stop(task.worker, task.id, task.token)] if task.token else []


def register(worker: str) -> Notice:
    return Notice(worker, {"v": 1, "what": "register"})


def ended(task: str, state: str, reason: str, error: str = "", result: Any = None) -> Notice:
    """For who submitted the task: its end, or that it is a dead letter."""
    body = {
        "v": 1,
        "what": "ended",
        "task": task,
        "state": state,
        "result": result,
        "reason": reason,
        "error": error,
    }
    return Notice(task.partition(".")[0], body)
