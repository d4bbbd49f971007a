"""What can go wrong with tasks. All derive from `bursar.errors.BursarError`.

::

    BursarError
      ServiceError
        QueueFull             not now: ``retry_in`` seconds
        SchedulerUnavailable  no answer within the caller's patience; ``facts["task"]`` may have been accepted
        TaskError             a task that has not ended well; ``task``, ``state``, ``reason``, ``error``
          TaskFailed          it failed for good, or is a dead letter
            TaskInDoubt       it may have run: the journal has lost entries
          TaskExpired         its deadline has passed
          TaskCancelled       its submitter has cancelled it
          TaskForgotten       it has ended, and its result is not kept any more
"""

from __future__ import annotations

from typing import Any

from bursar.errors import ServiceError


class SchedulerUnavailable(ServiceError):
    """No answer within the caller's patience. What was asked may have been accepted."""

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__("scheduler_unavailable", text, **facts)

    @property
    def advice(self) -> str:
        return "Try again later, with the same key; or post the task, which works while the scheduler is away."


class QueueFull(ServiceError):
    """Nothing was accepted: there is no room. ``retry_in``: seconds."""

    def __init__(self, text: str, retry_in: float, /, **facts: Any) -> None:
        super().__init__("queue_full", text, **facts)
        self.retry_in = retry_in

    @property
    def advice(self) -> str:
        return f"Submit again in {self.retry_in:.1f} s, or pass wait= to have that done."

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_full, (self.text, self.retry_in, self.facts))


def _rebuild_full(text: str, retry_in: float, facts: dict[str, Any]) -> QueueFull:
    return QueueFull(text, retry_in, **facts)


class TaskError(ServiceError):
    """A task that has not ended well. ``state`` and ``reason`` say how; ``error`` is what its worker said."""

    CODE = "task_failed"

    def __init__(self, task: str, state: str, reason: str = "", error: str = "") -> None:
        text = f"{task} is {state}" + (f" ({reason})" if reason else "") + (f": {error}" if error else "")
        super().__init__(self.CODE, text, task=task, state=state, reason=reason, error=error)
        self.task = task
        self.state = state
        self.reason = reason
        self.error = error

    @property
    def advice(self) -> str:
        return "Look at the error; a dead letter can be requeued by an operator."

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.task, self.state, self.reason, self.error))


class TaskFailed(TaskError):
    """Its last attempt has failed: it ended as failed, or is a dead letter."""


class TaskInDoubt(TaskFailed):
    """The scheduler's journal has lost entries: this task may have run, and may even have ended."""

    CODE = "task_in_doubt"

    @property
    def advice(self) -> str:
        return "Find out whether it has run; if it may run twice, submit it under another name or have it requeued."


class TaskExpired(TaskError):
    """Its deadline has passed before its end."""

    CODE = "task_expired"


class TaskCancelled(TaskError):
    """Its submitter has cancelled it."""

    CODE = "task_cancelled"


class TaskForgotten(TaskError):
    """It has ended, but its result is not kept any more; or it was never accepted."""

    CODE = "task_forgotten"


LOG_LOST = "log lost"


def error_of(task: str, state: str, reason: str, error: str) -> TaskError:
    """The exception for a task that has not ended as ``done``."""
    if state == "cancelled":
        return TaskCancelled(task, state, reason, error)
    if state == "expired":
        return TaskExpired(task, state, reason, error)
    doubt = reason == LOG_LOST or reason.endswith("in_doubt")
    return (TaskInDoubt if doubt else TaskFailed)(task, state, reason, error)
