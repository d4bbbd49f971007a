"""The places for attempts in a worker: a semaphore whose size may change while it is held."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Places:
    """``async with places:`` takes one, first come first served. With a smaller ``limit`` those that are taken stay
    taken; nothing begins before there is room again."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._wake()

    async def __aenter__(self) -> None:
        if self.used < self._limit and not self._waiting:
            self.used += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._waiting.remove(turn)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self.used -= 1
        self._wake()

    def _wake(self) -> None:
        """Places go to those in line, who have them from now on."""
        while self._waiting and self.used < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.used += 1
                turn.set_result(None)
