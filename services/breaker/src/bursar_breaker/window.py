"""The sliding window of one target: what its reporters have seen lately, in integers and bounded memory.

A ring of `BUCKETS` buckets, each as long as a tenth of the window. A bucket holds one vector of counts per reporter;
beside the ring stand the running sums, of the whole and of each reporter, to which a report adds and from which a
bucket that falls out of the ring is taken away. So a report costs the same however full the window is, and each of its
counts is added once and taken away once.

How many reporters see a fault themselves ("voices", for the quorum) is counted along with the sums. Reporters beyond
`MAX_REPORTERS`, or when the table has no room for more cells, are counted together as one, without a name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from bursar.contracts.breaker import OUTCOMES, Rule
from bursar.kernel.bugs import seeded
from bursar_breaker.bugs import BUCKET_STAYS, QUOTA_IS_FAILURE

BUCKETS: Final = 10
MAX_REPORTERS: Final = 2_048
NAMELESS: Final = ""

OK, SLOW, TIMEOUT, ERROR, OVERLOAD, RATE_LIMITED, AUTH, CANCELLED = range(8)
TOLD: Final = 8
"""Index of the count of overloads that came with a time."""
SIZE: Final = 9

FAULTS: Final = (TIMEOUT, ERROR, OVERLOAD)

Counts = Sequence[tuple[int, int]]
"""(index, count) of what is not zero."""

FAILING, SLOWED, TOLD_OFF, LOCKED_OUT, ACTIVE = range(5)
"""The voices: whose calls fail at the rate that trips; are slow at the rate that trips; who was told to stay away; to
whom the door was shut and never open. And who has a voice at all."""


def good(cell: Sequence[int]) -> int:
    return cell[OK] + cell[SLOW]


def failed(cell: Sequence[int]) -> int:
    if seeded(QUOTA_IS_FAILURE):
        return cell[TIMEOUT] + cell[ERROR] + cell[OVERLOAD] + cell[RATE_LIMITED]
    return cell[TIMEOUT] + cell[ERROR] + cell[OVERLOAD]


def calls(cell: Sequence[int]) -> int:
    """Those that say something about the target."""
    return good(cell) + failed(cell)


def voices(cell: Sequence[int], rule: Rule) -> tuple[bool, bool, bool, bool, bool]:
    """What one reporter sees."""
    bad, made = failed(cell), calls(cell)
    return (
        bad > 0 and bad * 1000 >= rule.failure_permille * made,
        cell[SLOW] > 0 and cell[SLOW] * 1000 >= rule.slow_permille * made,
        cell[TOLD] > 0,
        cell[AUTH] > 0 and good(cell) == 0,
        made + cell[AUTH] > 0,
    )


class Bucket:
    """``index``: time divided by the bucket's length. ``cells``: counts by reporter."""

    __slots__ = ("cells", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.cells: dict[str, list[int]] = {}


class Window:
    """See the module's text. ``streak``: failures since the last success, by the order of arrival, and ``streak_of``:
    who reported them. ``retry_until``: the latest moment that the target has asked to be left alone until."""

    __slots__ = ("buckets", "cells", "counts", "length", "reporters", "retry_until", "rule", "seen_at", "streak",
                 "streak_of", "total")  # fmt: skip

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.length = max(1, rule.window_ms // BUCKETS)
        self.buckets: deque[Bucket] = deque()
        self.reporters: dict[str, list[int]] = {}
        self.counts = [0] * 5
        self.total = [0] * SIZE
        self.cells = 0
        self.streak = 0
        self.streak_of: set[str] = set()
        self.retry_until = 0
        self.seen_at = 0

    @property
    def active(self) -> int:
        """How many reporters have made calls that say something, or were shut out."""
        return self.counts[ACTIVE]

    def note(self, now: int, reporter: str, counts: Counts, *, has_room: bool = True) -> None:
        """Add what a reporter has seen; ``has_room``: whether another cell may be made."""
        self.advance(now)
        self.seen_at = now
        index = now // self.length
        if not self.buckets or self.buckets[-1].index < index:
            self.buckets.append(Bucket(index))
        cells = self.buckets[-1].cells
        cell = cells.get(reporter)
        if cell is None:
            if not has_room or (reporter not in self.reporters and len(self.reporters) >= MAX_REPORTERS):
                reporter = NAMELESS
            cell = cells.get(reporter)
            if cell is None:
                cell = cells[reporter] = [0] * SIZE
                self.cells += 1
        for at, count in counts:
            cell[at] += count
        self._move(reporter, counts, 1)
        self._follow(reporter, counts)

    def _follow(self, reporter: str, counts: Counts) -> None:
        """A report has no order within it: one with any success ends the streak."""
        delta = [0] * SIZE
        for at, count in counts:
            delta[at] = count
        if good(delta):
            self._end_streak()
        elif failed(delta):
            self.streak += failed(delta)
            self.streak_of.add(reporter)

    def _end_streak(self) -> None:
        self.streak = 0
        self.streak_of.clear()

    def _move(self, reporter: str, counts: Counts, sign: int) -> None:
        """Add to the sums or take away from them, and count the voices anew."""
        tally = self.reporters.get(reporter)
        if tally is None:
            tally = self.reporters[reporter] = [0] * SIZE
        total, rule = self.total, self.rule
        before = voices(tally, rule)
        for at, count in counts:
            tally[at] += sign * count
            total[at] += sign * count
        after = voices(tally, rule)
        if after != before:
            for at in range(5):
                self.counts[at] += after[at] - before[at]
        if not any(tally):
            del self.reporters[reporter]

    def advance(self, now: int) -> int:
        """Let buckets fall out of the ring; returns how many cells went with them."""
        oldest = now // self.length - BUCKETS + (0 if seeded(BUCKET_STAYS) else 1)
        buckets, gone = self.buckets, 0
        while buckets and buckets[0].index < oldest:
            cells = buckets.popleft().cells
            gone += len(cells)
            for reporter, cell in cells.items():
                self._move(reporter, [(at, count) for at, count in enumerate(cell) if count], -1)
        self.cells -= gone
        if not buckets:
            self._end_streak()
        return gone

    def named(self) -> dict[str, int]:
        """The counts by their names."""
        return {name: self.total[at] for at, name in enumerate(OUTCOMES)}


def permille(part: int, whole: int) -> int:
    return part * 1000 // whole if whole else 0
