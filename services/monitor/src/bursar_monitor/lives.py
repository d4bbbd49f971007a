"""Two ways in which processes fail that no single look shows: they crash again and again, and they leak memory.

A *crash* is a process that ends within `SHORT_MS` of its start. Only that of a process counts which somebody outside
its group has started: what an agent runs for a moment (a compiler, a shell) is no worker that does not come up. Ends by
order look the same, and are rare; so one crash is nothing, and several within a minute are a loop.

A *leak* is growth that does not stop: the least memory of each of `SLOTS` slots of time in a row is larger than that of
the one before, so that what a collector or a batch takes and gives back is none. How bad it is, is the part of the
free memory that the same growth takes within the slots' horizon; from 1000 (thousandths) on the host is full by then.
Two lengths of slots look at it: seconds for what fills a host within minutes, minutes for what takes hours.

Only memory of a process's own counts (no mapped files, nothing shared): an engine that maps its weights does not leak.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final, NamedTuple

SHORT_MS: Final = 30_000
MINUTE_MS: Final = 60_000
SLOTS: Final = 4
GAP: Final = 10
"""Slots without a look after which it begins anew."""
LEAST_GROWTH: Final = 65_536
"""Bytes by which a slot has to lie above the one before."""
MOST: Final = 1_000_000
"""Thousandths; more is told as this."""
MAX_CRASHES: Final = 1_000


class Scale(NamedTuple):
    """Slots of ``slot_ms``; growth is carried on for ``horizon_ms``."""

    slot_ms: int
    horizon_ms: int


SCALES: Final = (Scale(1_000, 600_000), Scale(60_000, 21_600_000))


class Growth:
    """The memory of one group over the slots of one scale."""

    __slots__ = ("_least", "_scale")

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._least: deque[tuple[int, int]] = deque(maxlen=SLOTS)

    def note(self, now: int, size: int) -> None:
        """The group has ``size`` bytes at ``now`` (ms). After a gap it begins anew."""
        slot = now // self._scale.slot_ms
        if self._least and self._least[-1][0] == slot:
            self._least[-1] = (slot, min(size, self._least[-1][1]))
            return
        if self._least and slot - self._least[-1][0] > GAP:
            self._least.clear()
        self._least.append((slot, size))

    def permille(self, free: int) -> int:
        """What it takes of ``free`` bytes within the horizon, thousandths; 0 unless it grows in every slot."""
        found = self._least
        if len(found) < SLOTS:
            return 0
        if any(after[1] - before[1] < LEAST_GROWTH for before, after in pairwise(found)):
            return 0
        grown = found[-1][1] - found[0][1]
        span = (found[-1][0] - found[0][0]) * self._scale.slot_ms
        return min(MOST, grown * self._scale.horizon_ms // span * 1_000 // max(1, free))


class Lives:
    """What has happened to the processes of one group."""

    __slots__ = ("_crashes", "_growths", "starts")

    def __init__(self) -> None:
        self.starts = 0
        self._crashes: deque[int] = deque(maxlen=MAX_CRASHES)
        self._growths = tuple(Growth(scale) for scale in SCALES)

    def started(self) -> None:
        self.starts += 1

    def ended(self, now: int, age_ms: int, is_root: bool) -> bool:
        """A process is gone that was last seen at that age; whether that was a crash."""
        if not is_root or age_ms >= SHORT_MS:
            return False
        self._crashes.append(now)
        return True

    def crashes(self, now: int) -> int:
        """In the last minute."""
        while self._crashes and self._crashes[0] <= now - MINUTE_MS:
            self._crashes.popleft()
        return len(self._crashes)

    def grew(self, now: int, size: int) -> None:
        for growth in self._growths:
            growth.note(now, size)

    def leak_permille(self, free: int) -> int:
        """The worse of the two scales."""
        return max(growth.permille(free) for growth in self._growths)

    def is_idle(self, now: int) -> bool:
        """Whether there is nothing left to tell of a group without processes."""
        return not self.crashes(now)
