"""What a worker's function is given: the task, a way to tell how far it is, and whether it should stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from bursar.client.scheduler_values import unpack_value

MAX_ERROR: Final = 500
"""Characters of an exception that the submitter gets to see."""

Tell = Callable[[float | None, str | None], Awaitable[None]]
TellSoon = Callable[[float | None, str | None], None]


class TaskRefused(Exception):
    """Raise this in a task: it has failed, and to try it again would be in vain."""


class TaskExited(Exception):
    """The function called `sys.exit`: that ends the task and not the worker with all that it runs."""


class FailedInProcess(Exception):
    """The function raised in a process of its own; the text is what `in_words` made of it there."""


class WorkerTask:
    """One attempt. ``fence`` is its token, which grows with every attempt: give it to what the task writes to, so that
    an older attempt can be told from a newer one. ``notice``: the assignment as it came."""

    def __init__(self, notice: dict[str, Any], tell: Tell | None = None, tell_soon: TellSoon | None = None) -> None:
        self.notice = notice
        self.id: str = notice["task"]
        self.fence: str = notice["token"]
        self.task_class: str = notice["task_class"]
        self.attempt: int = notice["attempt"]
        self.payload: Any = unpack_value(notice["payload"])
        deadline = notice.get("deadline_in_ms")
        self.deadline_in: float | None = None if deadline is None else deadline / 1000.0
        self._is_void = False
        self._should_stop = False
        self._tell = tell
        self._tell_soon = tell_soon

    def __repr__(self) -> str:
        return f"<WorkerTask {self.id} attempt {self.attempt}>"

    @property
    def is_void(self) -> bool:
        """The attempt counts no more, whatever it still does."""
        return self._is_void

    @property
    def should_stop(self) -> bool:
        """Whoever can stop early should do so now: the attempt is void, or the worker has to end. For functions in
        threads and processes, which cannot be cancelled from within: look at it every 100 ms or so."""
        return self._should_stop

    def stop(self, *, is_void: bool) -> None:
        """For the worker: ask the function to stop."""
        self._should_stop = True
        self._is_void = self._is_void or is_void

    async def progress(self, part: float | None = None, note: str | None = None) -> None:
        """Tell how far it is (0 to 1), and a note of up to 200 characters. Not needed to keep the lease.

        When the attempt is void it is cancelled by this."""
        if self._tell is None:
            self.report(part, note)
        else:
            await self._tell(part, note)

    def report(self, part: float | None = None, note: str | None = None) -> None:
        """The same from any thread or process, without waiting for it to be heard."""
        if self._tell_soon is not None:
            self._tell_soon(part, note)


def in_words(error: BaseException) -> str:
    """What the submitter gets to see of an exception."""
    if isinstance(error, FailedInProcess):
        return str(error)
    return f"{type(error).__name__}: {error}"[:MAX_ERROR]
