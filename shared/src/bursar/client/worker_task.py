"""What a worker's function is given: the task, a way to tell how far it is, and whether it should stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from bursar.client.scheduler_errors import TaskError, error_of
from bursar.client.scheduler_values import pack_value, unpack_value

if TYPE_CHECKING:
    from bursar.client.worker_saga import Held

MAX_ERROR: Final = 500
"""Characters of an exception that the submitter gets to see."""

Message = dict[str, Any]
"""``part`` and ``note``: how far it is. ``checkpoint``: packed, to go on from."""


class TaskRefused(Exception):
    """Raise this in a task: it has failed, and to try it again would be in vain."""


class TaskExited(Exception):
    """The function called `sys.exit`: that ends the task and not the worker with all that it runs."""


class TaskYielded(Exception):
    """Raise this in a task that should stop: it is given back, which counts as no failure, and goes on elsewhere.
    ``checkpoint``: what to go on from (None: what was kept last)."""

    def __init__(self, checkpoint: Any = None) -> None:
        super().__init__("given back")
        self.checkpoint = checkpoint


class FailedInProcess(Exception):
    """The function raised in a process of its own; the text is what `in_words` made of it there."""


class WorkerTask:
    """One attempt. ``fence`` is its token, which grows with every attempt: give it to what the task writes to, so that
    an older attempt can be told from a newer one. ``notice``: the assignment as it came. ``saved``: the checkpoint of
    an attempt before, None when there is none. ``inputs``: what the tasks that this one comes after have given, in
    their order; an exception for one that has not ended well, or whose result is not kept any more. ``members``: of a
    task that takes several workers all of them, and ``rank`` which of them this one is: each runs the function, rank 0
    gives the result, and the task ends when all have returned. ``held``: what was taken for it before it started
    (`bursar.client.worker_saga`); None when it takes nothing, and in a process."""

    def __init__(
        self,
        notice: dict[str, Any],
        tell: Callable[[Message], Awaitable[None]] | None = None,
        tell_soon: Callable[[Message], None] | None = None,
    ) -> None:
        self.notice = notice
        self.id: str = notice["task"]
        self.fence: str = notice["token"]
        self.task_class: str = notice["task_class"]
        self.attempt: int = notice["attempt"]
        self.payload: Any = unpack_value(notice["payload"])
        self.saved: Any = unpack_value(notice.get("checkpoint"))
        self.inputs: list[Any] = []
        self.held: Held | None = None
        self.take_inputs(notice.get("inputs") or ())
        self.members: tuple[str, ...] = tuple(notice.get("members") or ())
        self.rank: int = notice.get("rank", 0)
        deadline = notice.get("deadline_in_ms")
        self.deadline_in: float | None = None if deadline is None else deadline / 1000.0
        self._is_void = False
        self._should_stop = False
        self._when_stopped: Callable[[], None] | None = None
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
        """Whoever can stop early should do so now: the attempt is void, a more urgent task wants its place, or the
        worker has to end. Look at it every 100 ms or so, above all in threads and processes, which cannot be cancelled
        from without; then raise `TaskYielded`, or end."""
        return self._should_stop

    def stop(self, *, is_void: bool) -> None:
        """For the worker: ask the function to stop."""
        self._should_stop = True
        self._is_void = self._is_void or is_void
        if self._when_stopped is not None:
            self._when_stopped()

    def take_payload(self, packed: bytes) -> None:
        """For the worker: what the payload refers to."""
        self.notice["payload"] = packed
        self.payload = unpack_value(packed)

    def take_inputs(self, rows: Sequence[dict[str, Any]]) -> None:
        """For the worker: how the tasks before this one have ended."""
        self.notice["inputs"] = rows
        self.inputs = [_input(row) for row in rows]

    def when_stopped(self, hear: Callable[[], None] | None) -> None:
        """For what runs the function elsewhere: be told of each `stop`."""
        self._when_stopped = hear

    async def progress(self, part: float | None = None, note: str | None = None) -> None:
        """Tell how far it is (0 to 1), and a note of up to 200 characters. Not needed to keep the lease.

        When the attempt is void it is cancelled by this."""
        await self._say({"part": part, "note": note})

    def report(self, part: float | None = None, note: str | None = None) -> None:
        """The same from any thread or process, without waiting for it to be heard."""
        self.say_soon({"part": part, "note": note})

    async def checkpoint(self, value: Any) -> None:
        """Keep what the next attempt is to go on from (`saved`), if there has to be one; returns when it is on disk.
        Up to 32 KB: the place of a file, rather than the file. When the attempt is void it is cancelled by this."""
        await self._say({"checkpoint": pack_value(value)})

    def keep(self, value: Any) -> None:
        """The same from any thread or process, without waiting; of several in short order the last one is kept."""
        self.say_soon({"checkpoint": pack_value(value)})

    async def _say(self, message: Message) -> None:
        if self._tell is not None:
            await self._tell(message)
        else:
            self.say_soon(message)

    def say_soon(self, message: Message) -> None:
        """For what runs the function elsewhere: pass on what it told."""
        if self._tell_soon is not None:
            self._tell_soon(message)


def _input(row: dict[str, Any]) -> Any:
    if row["state"] == "done" and row["kept"]:
        return unpack_value(row["result"])
    if row["state"] == "done":
        return TaskError(row["task"], row["state"], "its result is not kept any more")
    return error_of(row["task"], row["state"], "", "")


def in_words(error: BaseException) -> str:
    """What the submitter gets to see of an exception."""
    if isinstance(error, FailedInProcess):
        return str(error)
    return f"{type(error).__name__}: {error}"[:MAX_ERROR]
