"""Back-pressure: when a submitter that was turned away should come again.

When the queue is full there is room again as soon as enough of its tasks have ended. How fast they end is measured (a
count that halves every ten seconds), so it can be told when that will be; a little later for some than for others, so
that they do not all come back at once. Integers of the scheduler's events and its clock alone.
"""

from __future__ import annotations

from typing import Any, Final

from bursar_scheduler.dice import draw

LEAST_MS: Final = 100
MOST_MS: Final = 60_000
SPREAD_PERMILLE: Final = 250
"""By how much the moments of those who come again are spread."""

HALF_LIFE_MS: Final = 10_000
"""Ends count half after this time, when it is told how fast the queue drains."""

PPM: Final = 1_000_000
LN_2: Final = 693_147
"""In millionths."""


class Drain:
    """How many tasks end in a second, smoothed: each end adds to a count that halves every `HALF_LIFE_MS`."""

    __slots__ = ("at", "ends")

    SCALE: Final = 1 << 16

    def __init__(self, at: int = 0, ends: int = 0) -> None:
        self.at = at
        self.ends = ends

    def ended(self, now: int) -> None:
        """One task is done; it makes room."""
        self.ends = self._faded(now) + self.SCALE
        self.at = now

    def per_minute(self, now: int) -> int:
        """Ends a minute: a rate r keeps the count at r * half-life / ln 2."""
        return self._faded(now) * 60_000 * LN_2 // (HALF_LIFE_MS * PPM * self.SCALE)

    def _faded(self, now: int) -> int:
        """Whole half-lives by shifts, the rest by the first four terms of the exponential: within a hundredth."""
        gone = max(0, now - self.at)
        ends = self.ends >> min(63, gone // HALF_LIFE_MS)
        x = gone % HALF_LIFE_MS * LN_2 // HALF_LIFE_MS
        return ends * (PPM - x + x * x // (2 * PPM) - x * x * x // (6 * PPM * PPM)) // PPM

    def dump(self) -> Any:
        return [self.at, self.ends]


def come_again_ms(excess: int, per_minute: int, number: int) -> int:
    """When so many tasks will have ended, a little later for some than for others."""
    wait = excess * 60_000 // per_minute if per_minute else MOST_MS
    wait = max(LEAST_MS, min(MOST_MS, wait))
    return wait + wait * draw(number, SPREAD_PERMILLE) // 1_000
