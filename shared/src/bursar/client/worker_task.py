"""What a worker's function is given: the task, and a way to tell how far it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bursar.client.scheduler_values import unpack_value


class TaskRefused(Exception):
    """Raise this in a task: it has failed, and to try it again would be in vain."""


class WorkerTask:
    """One attempt. ``fence`` is its token, which grows with every attempt: give it to what the task writes to, so that
    an older attempt can be told from a newer one. ``is_void``: the attempt counts no more (for functions that run in a
    thread and cannot be cancelled: look at it now and then)."""

    def __init__(self, notice: dict[str, Any], tell: Callable[[float | None, str | None], Awaitable[None]]) -> None:
        self.id: str = notice["task"]
        self.fence: str = notice["token"]
        self.task_class: str = notice["task_class"]
        self.attempt: int = notice["attempt"]
        self.payload: Any = unpack_value(notice["payload"])
        deadline = notice.get("deadline_in_ms")
        self.deadline_in: float | None = None if deadline is None else deadline / 1000.0
        self.is_void = False
        self._tell = tell

    def __repr__(self) -> str:
        return f"<WorkerTask {self.id} attempt {self.attempt}>"

    async def progress(self, part: float | None = None, note: str | None = None) -> None:
        """Tell how far it is (0 to 1), and a note of up to 200 characters. Not needed to keep the lease.

        When the attempt is void it is cancelled by this."""
        await self._tell(part, note)
