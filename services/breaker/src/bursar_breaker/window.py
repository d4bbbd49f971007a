"""The sliding window of one target: what its reporters have seen lately, in integers and bounded memory.

By time: a ring of `BUCKETS` buckets, each as long as a tenth of the window. A bucket holds one vector of counts per
reporter; beside the ring stand the running sums, of the whole and of each reporter, to which a report adds and from
which a bucket that falls out of the ring is taken away. So a report costs the same however full the window is, and each
of its counts is added once and taken away once. By count: `bursar_breaker.counting`.

What each reporter sees itself is its *view*, some bits that change seldom: how many reporters see a fault ("voices",
for the quorum), who they are, and how much traffic they stand for, is counted when a view changes and not before.
Reporters beyond `MAX_REPORTERS`, or when the table has no room for more cells, are counted together as one, without a
name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from bursar.contracts.breaker import OUTCOMES, Rule
from bursar.kernel.bugs import seeded
from bursar_breaker.bugs import (
    BUCKET_STAYS,
    FIRST_TRIPS,
    LIAR_COUNTS,
    QUOTA_IS_FAILURE,
    SLOW_IS_FAILURE,
    STREAK_GOES_ON,
)

BUCKETS: Final = 10
MAX_REPORTERS: Final = 2_048
MAX_COMPANY: Final = 64
COMPANY_MS: Final = 60_000
"""Whoever was heard of within this time is there, and has a voice even before it has said anything in a new window."""
NAMELESS: Final = ""

OK, SLOW, TIMEOUT, ERROR, OVERLOAD, RATE_LIMITED, AUTH, CANCELLED = range(8)
TOLD: Final = 8
"""Index of the count of overloads that came with a time."""
SHUT: Final = 9
SHUT_BELOW: Final = 10
"""Indices of how often a reporter has said that it has stopped calling by itself: this target, or one below it."""
SIZE: Final = 11
_NOTHING: Final = [0] * SIZE
_NOT_OK: Final = [0] * (SIZE - SLOW)

Counts = Sequence[tuple[int, int]]
"""(index, count) of what is not zero."""

FAILING, SLOWED, TOLD_OFF, LOCKED_OUT, ACTIVE, STOPPED = 1, 2, 4, 8, 16, 32
"""The bits of a view: its calls fail at the rate that trips; are slow at the rate that trips; it was told to stay away;
the door was shut to it and never open; whether it has a view at all; and it has stopped calling by itself: this target,
without a success since, or one below it, without a success in the whole window."""
VIEWS: Final = (FAILING, SLOWED, TOLD_OFF, LOCKED_OUT, ACTIVE, STOPPED)


def good(cell: Sequence[int]) -> int:
    return cell[OK] + cell[SLOW]


def failed(cell: Sequence[int]) -> int:
    if seeded(QUOTA_IS_FAILURE):
        return cell[TIMEOUT] + cell[ERROR] + cell[OVERLOAD] + cell[RATE_LIMITED]
    return cell[TIMEOUT] + cell[ERROR] + cell[OVERLOAD] + (cell[SLOW] if seeded(SLOW_IS_FAILURE) else 0)


def slow(cell: Sequence[int]) -> int:
    return cell[SLOW]


def calls(cell: Sequence[int]) -> int:
    """Those that say something about the target."""
    return good(cell) + failed(cell)


class Seen:
    """What one reporter has seen within the window: ``sums``. ``cell``: its counts in the bucket ``index``. ``weight``:
    its calls, while they fail at the rate that trips. ``is_off``: it has stopped by itself, without a success since."""

    __slots__ = ("cell", "index", "is_off", "name", "sums", "view", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.sums = [0] * SIZE
        self.view = 0
        self.weight = 0
        self.is_off = False
        self.index = -1
        self.cell: list[int] = []


class Window:
    """See the module's text. ``streak``: failures since the last success, by the order of arrival, and ``streak_of``:
    how many of them each has reported. ``retry_until``: the latest moment that it has asked to be left alone until.
    ``failing`` and ``fine``: reporters by what they see; ``weight``: calls of those who see it fail; ``troubles``: how
    many reporters see a fault of any kind. ``company``: some who were heard of lately, though perhaps not within this
    window, and when."""

    __slots__ = ("_buckets", "_index", "_length", "cells", "company", "failing", "fine", "reporters", "retry_until",
                 "rule", "seen_at", "streak", "streak_of", "total", "troubles", "voices", "weight")  # fmt: skip

    def __init__(self, rule: Rule, company: dict[str, int] | None = None) -> None:
        self.rule = rule
        self.company = {} if company is None else company
        self._length = max(1, rule.window_ms // BUCKETS)
        self._index = -1
        self._buckets: deque[tuple[int, list[tuple[Seen, list[int]]]]] = deque()
        self.reporters: dict[str, Seen] = {}
        self.failing: dict[str, Seen] = {}
        self.fine: dict[str, Seen] = {}
        self.voices = dict.fromkeys(VIEWS, 0)
        self.troubles = 0
        self.total = [0] * SIZE
        self.weight = 0
        self.cells = 0
        self.streak = 0
        self.streak_of: dict[str, int] = {}
        self.retry_until = 0
        self.seen_at = 0

    @property
    def active(self) -> int:
        """How many reporters have made calls that say something, or were shut out."""
        return self.voices[ACTIVE]

    @property
    def known(self) -> int:
        """How many reporters there are at least, by those of the last minute; not more than the rule asks for."""
        lately = sum(self.seen_at - at <= COMPANY_MS for at in self.company.values())
        return self.active if seeded(FIRST_TRIPS) else max(self.active, lately)

    @property
    def idle_ms(self) -> int:
        """After so long without a report nothing is left in it."""
        return self._length * BUCKETS

    def note(self, now: int, reporter: str, counts: Counts, *, has_room: bool = True) -> None:
        """Add what a reporter has seen; ``has_room``: whether another cell may be made."""
        index = now // self._length
        if index > self._index:
            self._turn(index)
        self._meet(reporter, now)
        seen = self.reporters.get(reporter)
        if seen is None or seen.index != index:
            seen = self._cell_of(reporter, index, has_room=has_room)
        self._add(seen, seen.cell, counts)

    def _meet(self, reporter: str, now: int) -> None:
        self.seen_at = now
        company = self.company
        if reporter not in company and len(company) >= min(self.rule.quorum, MAX_COMPANY):
            del company[min(company, key=company.__getitem__)]
        company[reporter] = now

    def _cell_of(self, reporter: str, index: int, *, has_room: bool) -> Seen:
        seen = self._reporter(reporter if has_room else NAMELESS)
        if seen.index != index:
            seen.index, seen.cell = index, [0] * SIZE
            self._buckets[-1][1].append((seen, seen.cell))
            self.cells += 1
        return seen

    def _reporter(self, name: str) -> Seen:
        seen = self.reporters.get(name)
        if seen is None:
            if len(self.reporters) >= MAX_REPORTERS:
                name = NAMELESS
            seen = self.reporters.setdefault(name, Seen(name))
        return seen

    def _add(self, seen: Seen, cell: list[int], counts: Counts) -> None:
        sums, total = seen.sums, self.total
        for at, count in counts:
            cell[at] += count
            sums[at] += count
            total[at] += count
        if len(counts) > 1 or counts[0][0] != OK or seen.view != ACTIVE:
            if counts[0][0] <= SLOW:  # they stand in order; that it has stopped is how it ends
                seen.is_off = False
            seen.is_off = seen.is_off or any(at == SHUT for at, _ in counts)
            self._weigh(seen)
        if self.streak or counts[0][0] > SLOW:
            self._follow(seen.name, counts)

    def _follow(self, reporter: str, counts: Counts) -> None:
        """A report has no order within it: one with any success ends the streak."""
        if counts[0][0] <= SLOW and not seeded(STREAK_GOES_ON):
            self._end_streak()
            return
        bad = sum(count for at, count in counts if TIMEOUT <= at <= OVERLOAD)
        if bad:
            self.streak += bad
            self.streak_of[reporter] = self.streak_of.get(reporter, 0) + bad

    def _end_streak(self) -> None:
        self.streak = 0
        self.streak_of.clear()

    def _weigh(self, seen: Seen) -> None:
        """What this reporter sees, now that its sums have changed."""
        sums, rule = seen.sums, self.rule
        well, bad = good(sums), failed(sums)
        made, view = well + bad, 0
        if bad and bad * 1000 >= rule.failure_permille * made:
            view = FAILING
        if sums[SLOW] and sums[SLOW] * 1000 >= rule.slow_permille * made:
            view |= SLOWED
        if sums[TOLD]:
            view |= TOLD_OFF
        if sums[AUTH] and not well:
            view |= LOCKED_OUT
        if (sums[SHUT] and seen.is_off) or (sums[SHUT_BELOW] and not well):
            view |= STOPPED
        if made or sums[AUTH] or view & STOPPED:
            view |= ACTIVE
        weight = made if view & FAILING else 0
        self.weight += weight - seen.weight
        seen.weight = weight
        if view != seen.view:
            self._turn_view(seen, view)

    def _turn_view(self, seen: Seen, view: int) -> None:
        for bit in VIEWS:
            if (view ^ seen.view) & bit:
                self.voices[bit] += 1 if view & bit else -1
        self.troubles += bool(view & ~ACTIVE) - bool(seen.view & ~ACTIVE)
        seen.view = view
        for people, belongs in (
            (self.failing, view & (FAILING | STOPPED)),
            (self.fine, view & (ACTIVE | FAILING | LOCKED_OUT | STOPPED) == ACTIVE),
        ):
            if belongs:
                people[seen.name] = seen
            else:
                people.pop(seen.name, None)

    def advance(self, now: int) -> int:
        """Let what is too old fall out; returns how many cells went with it."""
        before = self.cells
        self._drop_before(now // self._length - BUCKETS + (0 if seeded(BUCKET_STAYS) else 1))
        return before - self.cells

    def _turn(self, index: int) -> None:
        """Begin the bucket of this time."""
        self._drop_before(index - BUCKETS + (0 if seeded(BUCKET_STAYS) else 1))
        self._buckets.append((index, []))
        self._index = index

    def _drop_before(self, oldest: int) -> None:
        buckets = self._buckets
        while buckets and buckets[0][0] < oldest:
            for seen, cell in buckets.popleft()[1]:
                self._take_away(seen, cell)
        if not buckets:
            self._index = -1
            self._end_streak()

    def _take_away(self, seen: Seen, cell: list[int]) -> None:
        self.cells -= 1
        sums, total = seen.sums, self.total
        if cell[SLOW:] == _NOT_OK and sums[SLOW:] == _NOT_OK and sums[OK] > cell[OK]:  # most of them: nothing to weigh
            sums[OK] -= cell[OK]
            total[OK] -= cell[OK]
            return
        for at, count in enumerate(cell):
            if count:
                sums[at] -= count
                total[at] -= count
        self._weigh(seen)
        if sums == _NOTHING:
            del self.reporters[seen.name]

    @property
    def dissenter(self) -> Seen | None:
        """The one reporter who alone disagrees with all others, where at least two others agree."""
        failing, fine = self.failing, self.fine
        alone, others = (failing, fine) if len(failing) == 1 else (fine, failing)
        if len(alone) != 1 or len(others) < 2 or NAMELESS in alone or seeded(LIAR_COUNTS):
            return None
        return next(iter(alone.values()))

    def validate(self) -> None:
        """Raise AssertionError unless the sums are those of the reporters, and nobody without calls is kept."""
        people = list(self.reporters.values())
        assert self.total == [sum(one.sums[at] for one in people) for at in range(SIZE)], "sums"
        assert all(any(one.sums) and min(one.sums) >= 0 for one in people), "a reporter without calls"
        assert self.voices == {bit: sum(bool(one.view & bit) for one in people) for bit in VIEWS}, "voices"
        assert self.troubles == sum(bool(one.view & ~ACTIVE) for one in people), "troubles"
        assert self.weight == sum(one.weight for one in people), "weight"
        assert len(self._buckets) <= BUCKETS + 1

    def named(self) -> dict[str, int]:
        """The counts by their names."""
        return {name: self.total[at] for at, name in enumerate(OUTCOMES)}


def permille(part: int, whole: int) -> int:
    return part * 1000 // whole if whole else 0
