"""Error budgets: how many readings were bad over the last minutes, hours and days, and how fast the budget burns.

After Google's SRE workbook, chapter 5 ("multiwindow, multi-burn-rate alerts"). The burn rate is the share of bad
readings over the share that the objective allows: at 1 the budget of a month lasts a month. An alert looks at a long
window, so that a moment does not raise it, and at a short one, a twelfth as long, so that it ends soon after the cause
has: its signal is the smaller of the two rates.

Readings are counted in buckets of three widths. A window begins with the bucket that its beginning falls into, so it
may be longer by up to one bucket than it is called: a tenth, and for the five minutes 30 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bursar_monitor.bugs import LONG_WINDOW_ONLY, seeded

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
MONTH: Final = 30 * DAY

TIERS: Final = ((MINUTE // 2, HOUR), (5 * MINUTE, 6 * HOUR), (HOUR, MONTH))
"""(width of a bucket, length of what is kept), ms."""

WINDOWS: Final = {
    "burn_1h": (HOUR, HOUR // 12),
    "burn_6h": (6 * HOUR, HOUR // 2),
    "burn_1d": (DAY, 2 * HOUR),
    "burn_3d": (3 * DAY, 6 * HOUR),
}
"""Signal -> its long and its short window, ms."""


class Series:
    """Good and bad readings of one objective and subject over the last month."""

    __slots__ = ("_tiers",)

    def __init__(self) -> None:
        self._tiers: tuple[dict[int, tuple[int, int]], ...] = tuple({} for _ in TIERS)

    def add(self, at: int, good: int, bad: int) -> None:
        """Count readings of the time ``at``; times do not go back."""
        for (width, length), tier in zip(TIERS, self._tiers, strict=True):
            bucket = at // width
            was = tier.get(bucket, (0, 0))
            tier[bucket] = (was[0] + good, was[1] + bad)
            while next(iter(tier)) < bucket - length // width:
                del tier[next(iter(tier))]

    def within(self, now: int, window: int) -> tuple[int, int]:
        """Good and bad readings of the last ``window`` ms, from the finest buckets that reach so far back."""
        for (width, length), tier in zip(TIERS, self._tiers, strict=True):
            if window <= length:
                first = (now - window) // width
                found = [counts for bucket, counts in tier.items() if bucket >= first]
                return sum(good for good, _ in found), sum(bad for _, bad in found)
        raise ValueError(f"nothing is kept for {window} ms")

    def dump(self) -> list[list[list[int]]]:
        return [[[bucket, *counts] for bucket, counts in tier.items()] for tier in self._tiers]

    @classmethod
    def load(cls, value: Iterable[Any]) -> Series:
        made = cls()
        made._tiers = tuple({bucket: (good, bad) for bucket, good, bad in tier} for tier in value)
        return made


def rate_milli(good: int, bad: int, objective_ppm: int) -> int:
    """The burn rate in thousandths; 0 without readings."""
    total = good + bad
    return 0 if total == 0 else bad * 1_000_000 * 1_000 // (total * (1_000_000 - objective_ppm))


def burn_milli(series: Series, signal: str, now: int, objective_ppm: int, at_least: int) -> int | None:
    """The burn rate of a signal of `WINDOWS`, in thousandths: that of the slower of its two windows. None when the
    short one has fewer than ``at_least`` readings: too few to say anything."""
    long, short = (series.within(now, window) for window in WINDOWS[signal])
    if sum(short) < at_least:
        return None
    rates = (rate_milli(*long, objective_ppm), rate_milli(*short, objective_ppm))
    return rates[0] if seeded(LONG_WINDOW_ONLY) else min(rates)


def left_permille(series: Series, now: int, objective_ppm: int) -> int | None:
    """What is left of the error budget of the last 30 days, in thousandths; negative when it is overdrawn, None
    without readings."""
    good, bad = series.within(now, MONTH)
    return None if good + bad == 0 else 1000 - rate_milli(good, bad, objective_ppm)
