"""The engine: virtual time, one generator, a list of what will happen, and a trace of what has.

Everything that is left to chance is drawn from `Simulator.random`, and nothing depends on hashing, identities or the
real clock, so a seed is a whole history. Coroutines (the journal's) are run step by step: wherever one awaits, other
things may happen before it goes on, and it may never go on.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from heapq import heappop, heappush
from typing import Any, TypeVar

TRACE_LINES = 40


class Violation(AssertionError):
    """A promise was broken. ``kind`` is a stable word for the promise."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Simulator:
    """Virtual time in whole milliseconds. ``hashed``: fold every trace line into `digest` (slower)."""

    def __init__(self, seed: int, *, hashed: bool = False) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0
        self.digest = 0
        self.steps = 0
        self._hashed = hashed
        self._trace: deque[tuple[Any, ...]] = deque(maxlen=TRACE_LINES)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def at(self, delay: int, call: Callable[..., None], *arguments: Any) -> None:
        """Have something happen ``delay`` ms from now; what is due at the same time happens in the order of calls."""
        self._serial += 1
        heappush(self._heap, (self.now + delay, self._serial, call, arguments))

    def run(self, until: int) -> None:
        """Let time pass to ``until``."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call, arguments = heappop(heap)
            self.steps += 1
            call(*arguments)
        self.now = max(self.now, until)

    def jump(self, ms: int) -> None:
        """The whole world is suspended: time passes, nothing happens, and then all goes on."""
        self.now += ms
        self._heap[:] = [(at + ms, serial, call, arguments) for at, serial, call, arguments in self._heap]

    def log(self, *facts: Any) -> None:
        line = (self.now, *facts)
        self._trace.append(line)
        if self._hashed:
            self.digest = zlib.crc32(repr(line).encode(), self.digest)

    def trace(self) -> str:
        return "\n".join(" ".join(map(str, line)) for line in self._trace)

    # ---- chance

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        """Like ``randint``, but several times faster."""
        return low + int(self.random.random() * (high - low + 1))


class Suspend:
    """``await Suspend()``: let other things happen."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


SUSPEND = Suspend()


T = TypeVar("T")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end at once, whatever it awaits."""
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            value: T = end.value
            return value
