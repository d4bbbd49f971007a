"""A task from its submitter's side: wait for its result, ask where it stands, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from bursar.client.scheduler_errors import TaskError, TaskForgotten, error_of
from bursar.client.scheduler_values import unpack_value
from bursar.contracts.scheduler import LIVE, Found
from bursar.contracts.scheduler_blobs import is_reference
from bursar.contracts.scheduler_explain import WhyReply

if TYPE_CHECKING:
    from bursar.client.scheduler import Scheduler

COMPLETED: Final = frozenset({"done", "expired"})
"""Ends whose time the objective ``completion`` is about: one that is late because it has expired is late; to fail, or
to be cancelled, is no matter of time."""


class Handle:
    """Made by `Scheduler.submit` or `Scheduler.handle`. ``is_patient``: a task that is not known may still come.
    ``began``: local ms at which it was submitted here; None: elsewhere."""

    def __init__(
        self, scheduler: Scheduler, task: str, *, is_patient: bool = False, incarnation: int = 0,
        began: float | None = None,
    ) -> None:  # fmt: skip
        self.id = task
        self.is_patient = is_patient
        self.incarnation = incarnation
        self._scheduler = scheduler
        self._began = began
        self._over = asyncio.Event()
        self._waiting = 0
        self._result: Any = None
        self._error: TaskError | None = None

    def __repr__(self) -> str:
        return f"<Handle {self.id}>"

    @property
    def is_over(self) -> bool:
        """Whether the end is known here; if not, the task may still have ended."""
        return self._over.is_set()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for an end that is not known here yet."""
        return self._waiting > 0 and not self._over.is_set()

    async def result(self, timeout: float | None = None) -> Any:
        """What the worker returned; waits for it, at most ``timeout`` seconds.

        Raises `TaskFailed`, `TaskInDoubt`, `TaskExpired`, `TaskCancelled`, `TaskForgotten`; or `TimeoutError`, which
        says nothing about the task: it goes on.
        """
        async with asyncio.timeout(timeout):
            await self.over()
            if self._error is None and is_reference(self._result):
                self._result = unpack_value(await self._scheduler.blobs.receive(self._result, self.id))
        if self._error is not None:
            raise self._error
        return self._result

    async def over(self, timeout: float | None = None) -> None:
        """Wait until it has ended, well or not; `TimeoutError` as in `result`."""
        if self._over.is_set():
            return
        self._waiting += 1
        self._scheduler.watch(self)
        try:
            async with asyncio.timeout(timeout):
                await self._over.wait()
        finally:
            self._waiting -= 1

    async def progress(self, every: float = 1.0) -> AsyncIterator[Found]:
        """Where it stands and what its worker has told, whenever that has changed; asks so often, until it is over."""
        last: Found | None = None
        while True:
            found = await self.status()
            if last is None or _telling(found) != _telling(last):
                last = found
                yield found
            if found.state not in LIVE:
                self.found(found)
                return
            with suppress(TimeoutError):
                await self.over(every)

    async def cancel(self) -> bool:
        """End the task, wherever it stands; False when it had ended already."""
        return await self._scheduler.cancel(self.id)

    async def status(self) -> Found:
        """Where it stands now, with the progress its worker has told."""
        return await self._scheduler.find(self.id)

    async def why(self) -> WhyReply:
        """Why it waits."""
        return await self._scheduler.why(self.id)

    # ---- what the client has heard

    def ended(self, state: str, result: Any, reason: str, error: str) -> None:
        if self._over.is_set():
            return
        if state == "done":
            self._result = result if is_reference(result) else unpack_value(result)
        else:
            self._error = error_of(self.id, state, reason, error)
        self._over.set()
        if self._began is not None and state in COMPLETED:
            self._scheduler.took.note("completion", self._scheduler.clock.now() - self._began)

    def lost(self, error: TaskError) -> None:
        if not self._over.is_set():
            self._error = error
            self._over.set()

    def found(self, found: Found) -> None:
        """What a question has brought."""
        if found.state in LIVE:
            return
        if found.state == "done" and not found.kept:
            self.lost(TaskForgotten(self.id, found.state, "its result is not kept any more"))
        else:
            self.ended(found.state, found.result, found.reason, found.error)


def _telling(found: Found) -> tuple[object, ...]:
    return found.state, found.attempts, found.progress_permille, found.note
