"""Work that goes on behind the agent's back: settlements above all. None of it is lost silently."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from bursar.errors import BursarError

log = logging.getLogger("bursar.client")

T = TypeVar("T")
MAX_RUNNING: Final = 1_024
"""Number of tasks from which on `room` makes its caller wait."""


class Background:
    """A bounded set of tasks; `drain` awaits them all."""

    def __init__(self, limit: int = MAX_RUNNING) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._limit = limit
        self.failed = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def room(self) -> None:
        """Return when fewer than the limit run: back pressure for whoever makes more work than gets done."""
        while len(self._tasks) >= self._limit:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self, timeout: float) -> int:
        """Await all, at most ``timeout`` seconds; then cancel the rest and return their number."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while self._tasks and loop.time() < until:
            await asyncio.wait(self._tasks, timeout=until - loop.time())
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        self.failed += 1
        code = error.code if isinstance(error, BursarError) else type(error).__name__
        log.warning("background_failed", extra={"code": code})
