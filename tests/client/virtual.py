"""An event loop whose time jumps to the next timer: tests wait for nothing."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jump(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("deadlock: everything waits and no timer is set")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


class LoopClock:
    """The client's clock on the loop's time; ``ahead`` is a pause of the process that the loop did not see."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self.start = start
        self.ahead = 0.0

    def now(self) -> float:
        return self.start + asyncio.get_running_loop().time() * 1000.0 + self.ahead


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
