"""When a lease is worth it, and how much to ask for.

Demand is an exponentially weighted mean over about a second of what is taken, by lease or directly. Above `ON` calls a
second a budget is held by lease; below `OFF` for `CALM` reports it is given back, so that demand around the threshold
does not switch to and fro. What to have in hand: demand for as long as until the next advance is here, and half of that
again; at least a few of the largest calls. What has been short is asked for twice as large, and that wears off.
"""

from __future__ import annotations

import math
from typing import Final

from bursar.client.local import CONCURRENT, NOTHING, Hand
from bursar.contracts.base import MAX_INT

ON: Final = 20.0
"""Calls per second from which on a lease is asked for."""

OFF: Final = 5.0
CALM: Final = 4
"""Reports in a row below `OFF` after which a lease is given back."""

MEMORY: Final = 1_000.0
"""Milliseconds over which demand is averaged."""

SLOTS: Final = 4
"""Calls in flight that are asked for beyond what is in use."""

ALL: Final = range(len(NOTHING))


class Demand:
    """``rates``: amounts per second; ``calls``: calls per second; ``largest``: amounts of the largest calls of late."""

    __slots__ = ("_at", "_count", "_sums", "calls", "calm", "largest", "pushed", "rates")

    def __init__(self, now: float) -> None:
        self.rates = [0.0] * len(NOTHING)
        self.calls = 0.0
        self.calm = 0
        self.largest = [0] * len(NOTHING)
        self.pushed = [0.0] * len(NOTHING)
        self._sums = [0] * len(NOTHING)
        self._count = 0
        self._at = now

    def note(self, amounts: Hand, now: float) -> None:
        """One call that was not taken from a lease."""
        for d in ALL:
            self._sums[d] += amounts[d]
            self.largest[d] = max(self.largest[d], amounts[d])
        self._count += 1
        if now - self._at >= MEMORY / 4:
            self.look(now)

    def took(self, amounts: Hand, calls: int) -> None:
        """What a report says was taken."""
        for d in ALL:
            self._sums[d] += max(0, amounts[d])
        self._count += calls

    def short(self, amounts: Hand, hand: Hand) -> None:
        """A call did not fit into the hand."""
        for d in ALL:
            if hand[d] < amounts[d]:
                self.pushed[d] = max(self.pushed[d], 4.0 * amounts[d])

    def look(self, now: float) -> None:
        """Bring the means up to date."""
        passed = now - self._at
        if passed <= 0.0:
            return
        weight = 1.0 - math.exp(-passed / MEMORY)
        for d in ALL:
            self.rates[d] += weight * (self._sums[d] * 1000.0 / passed - self.rates[d])
            self.pushed[d] *= 1.0 - weight
            self.largest[d] -= int(weight * 0.1 * self.largest[d])
        self.calls += weight * (self._count * 1000.0 / passed - self.calls)
        self.calm = self.calm + 1 if self.calls < OFF else 0
        self._sums, self._count, self._at = [0] * len(NOTHING), 0, now

    def want(self, ahead_ms: float, open_calls: int | None = None) -> Hand:
        """What to have in hand for so long. ``open_calls``: how many are in flight from the lease, if there is one."""
        wanted = [math.ceil(1.5 * self.rates[d] * ahead_ms / 1000.0) for d in ALL]
        wanted = [min(MAX_INT, max(wanted[d] + 2 * self.largest[d], math.ceil(self.pushed[d]))) for d in ALL]
        wanted[CONCURRENT] = self._slots(wanted[CONCURRENT] if open_calls is None else open_calls)
        r, i, o, c, u, t, b = wanted
        return (r, i, o, c, u, t, b)

    def per_second(self, open_calls: int) -> Hand:
        """The demand as the limiter divides it: amounts per second, and of calls in flight how many."""
        asked = [min(MAX_INT, max(math.ceil(self.rates[d]), math.ceil(self.pushed[d]))) for d in ALL]
        asked[CONCURRENT] = self._slots(open_calls)
        r, i, o, c, u, t, b = asked
        return (r, i, o, c, u, t, b)

    def _slots(self, open_calls: int) -> int:
        """Calls in flight to ask for: those that there are and half as many again, so that a lease that is short of
        them grows quickly."""
        return open_calls + max(SLOTS, open_calls // 2) + math.ceil(self.pushed[CONCURRENT])
