"""How much a card's memory bandwidth and multiprocessors are in use, as one score for placement.

Decoding is bound by DRAM bandwidth, so that counts most: ``score = (7 * bandwidth + 3 * multiprocessors) / 10``, in
percent, where GPM measures both (Hopper and newer). A card is `SATURATED` when bandwidth was above 85 % in three of the
last five windows of a second. NVML's ``utilization.memory`` is no substitute and is never used: recorded, it *falls*
from 58 % to 48 % while the throughput of the same model rises 29 times.

Without GPM the curve that an engine on the card has told (`Tune`) stands in: how much a sequence more still brings
(throughput over batch times that of one), and how much slower a token has become than at batch 32. A card of which
neither is known is not idle: it counts as half in use.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

WINDOWS: Final = 5
SATURATED_WINDOWS: Final = 3
SATURATED_ABOVE: Final = 85
BUSY_ABOVE: Final = 60
UNKNOWN: Final = 50


class Load(IntEnum):
    CALM = 0
    BUSY = 1
    SATURATED = 2


class Window(NamedTuple):
    """Percent; None: not measured."""

    bandwidth: int | None
    processors: int | None

    @property
    def score(self) -> int:
        if self.bandwidth is None:
            return UNKNOWN if self.processors is None else max(UNKNOWN, self.processors)
        other = self.bandwidth if self.processors is None else self.processors
        return (7 * self.bandwidth + 3 * other) // 10


def window_of_engine(efficiency: int, slowdown: int) -> Window:
    """From an engine's curve at its present batch B, both in percent: ``efficiency`` = T(B) / (B * T(1)) and
    ``slowdown`` = ITL(B) / ITL(32). At 10 % efficiency or four times the latency the card is full."""
    by_efficiency = min(100, max(0, 100 * (100 - efficiency) // 90))
    by_latency = min(100, max(0, (slowdown - 100) * 100 // 300))
    return Window(max(by_efficiency, by_latency), None)


class Contention:
    """The last windows of one card."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        self._windows: list[Window] = []

    def see(self, window: Window) -> None:
        self._windows = [*self._windows, window][-WINDOWS:]

    @property
    def score(self) -> int:
        """Mean over the windows, in percent."""
        scores = [window.score for window in self._windows]
        return sum(scores) // len(scores) if scores else UNKNOWN

    @property
    def load(self) -> Load:
        full = sum((window.bandwidth or 0) > SATURATED_ABOVE for window in self._windows)
        if full >= SATURATED_WINDOWS:
            return Load.SATURATED
        return Load.BUSY if self.score > BUSY_ABOVE else Load.CALM

    def dump(self) -> Any:
        return [list(window) for window in self._windows]

    @classmethod
    def load_from(cls, value: Any) -> Contention:
        found = cls()
        found._windows = [Window(*row) for row in value]
        return found
