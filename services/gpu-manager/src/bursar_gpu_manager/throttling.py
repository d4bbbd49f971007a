"""Fewer requests at a time when the host, and not the card, is what an engine waits for.

An engine's step has time on the CPU (scheduling, sampling, detokenising, launching) and on the GPU. Where the CPU's is
longer the card idles between steps, and more requests at a time make that worse. So the number that may run falls by a
fifth when CPU time exceeds GPU time in three windows one after the other, and grows by one per window again while CPU
time is below four fifths of it. In between nothing changes, so that it does not swing. A window with too few steps says
nothing. The advice is for who admits requests; it is never below one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

WINDOWS: Final = 3
FEW_STEPS: Final = 10
CALM_NUMERATOR, CALM_DENOMINATOR = 4, 5


class Window(NamedTuple):
    """Sums over the steps of a window, in microseconds."""

    cpu_us: int
    gpu_us: int
    steps: int

    @property
    def is_cpu_bound(self) -> bool:
        return self.cpu_us > self.gpu_us

    @property
    def is_calm(self) -> bool:
        return self.cpu_us * CALM_DENOMINATOR < self.gpu_us * CALM_NUMERATOR


class Throttle:
    """Of one engine. ``limit``: requests that may run at a time, from 1 to ``most``."""

    __slots__ = ("_bound", "limit", "most")

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.limit = self.most
        self._bound = 0

    @property
    def is_throttled(self) -> bool:
        return self.limit < self.most

    def see(self, window: Window) -> int:
        """Fold a window in; returns the limit from now on."""
        if window.steps < FEW_STEPS:
            return self.limit
        self._bound = self._bound + 1 if window.is_cpu_bound else 0
        if self._bound >= WINDOWS:
            self.limit, self._bound = max(1, self.limit * 4 // 5), 0
        elif window.is_calm:
            self.limit = min(self.most, self.limit + 1)
        return self.limit

    def dump(self) -> Any:
        return [self.most, self.limit, self._bound]

    @classmethod
    def load(cls, value: Any) -> Throttle:
        found = cls(value[0])
        found.limit, found._bound = value[1], value[2]
        return found
