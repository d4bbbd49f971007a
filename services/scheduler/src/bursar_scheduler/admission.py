"""Back-pressure: whether a task may still come, and when its submitter should come again.

What waits takes time. With ``drain`` task milliseconds of work done per millisecond (as measured from the ends of the
last while) a queue of ``work`` is a wait of ``work / drain``. Above a band's share of the limit its submissions are
turned away: proactive ones first, reactive ones last, so that what matters still comes in when the rest is too much.
Whoever is turned away is told when the queue will have fallen below its bound again, and not all the same moment, so
that they do not all come back at once.

Integers of the scheduler's events and its clock alone.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bursar_scheduler.dice import draw

SHARE_PERMILLE: Final = (1_000, 900, 700)
"""How full the queue may be, by band, before its submissions are turned away."""

LEAST_MS: Final = 100
MOST_MS: Final = 60_000
SPREAD_PERMILLE: Final = 250
"""By how much the moments of those who come again are spread."""

HALF_LIFE_MS: Final = 10_000
"""Ends count half after this time, when it is told how fast the queue drains."""

PPM: Final = 1_000_000
LN_2: Final = 693_147
"""In millionths."""


class Pressure(NamedTuple):
    """What stands in the way of one more task: ``level`` of ``limit``, and when to come again."""

    level: int
    limit: int
    retry_in_ms: int


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


def pressure(band: int, level: int, limit: int, coming: int, drain: Drain, now: int, number: int) -> Pressure | None:
    """Whether ``coming`` more tasks are too many where ``level`` of ``limit`` are there. ``number``: another one for
    each who asks, to spread them."""
    bound = limit * SHARE_PERMILLE[band] // 1_000
    if level + coming <= bound:
        return None
    return Pressure(level, bound, come_again_ms(level + coming - bound, drain.per_minute(now), number))


def come_again_ms(excess: int, per_minute: int, number: int) -> int:
    """When so many tasks will have ended, a little later for some than for others."""
    wait = excess * 60_000 // per_minute if per_minute else MOST_MS
    wait = max(LEAST_MS, min(MOST_MS, wait))
    return wait + wait * draw(number, SPREAD_PERMILLE) // 1_000
