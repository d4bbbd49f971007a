"""A lease whose holder also keeps a pace: (r, b, T) of each dimension, a bucket of b that refills with r.

Between any two moments it lets pass no more than b + r·dt of a dimension, and never more than the hand. The limiter
gives out rates whose sum is no more than the pace of every object on the path, so all holders together keep it, too.

Exact integer arithmetic: levels are scaled by 10^9, so that a rate of r per second adds r per nanosecond. What a call
did not use comes back into the hand, not into the bucket: that paces what is started.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bursar.client.local import FIELDS, NOTHING, Hand, HeldLease
from bursar.client.local_book import Book
from bursar.client.local_permit import LocalPermit
from bursar.client.time import clock_ns

SECOND: Final = 1_000_000_000


class RateLease(HeldLease):
    """A held lease that is paced. ``rates``: per second, 0 where a dimension is not paced; ``bursts``: the buckets'
    sizes; ``levels`` (scaled) hold at ``at`` (ns)."""

    __slots__ = ("at", "bursts", "levels", "rates")

    def __init__(self, book: Book, clock: Callable[[], int] = clock_ns) -> None:
        super().__init__(book, clock)
        self.at = 0
        self.rates = self.bursts = self.levels = NOTHING

    def pace(self, rates: Hand, bursts: Hand) -> None:
        """Keep this pace from now on. A bucket that was not paced before begins full, others keep their level."""
        now = self.clock()
        before = self._levels(now)
        r, i, o, c, u, t, b = (
            min(bursts[d] * SECOND, before[d]) if self.rates[d] else bursts[d] * SECOND for d in range(len(FIELDS))
        )
        self.levels, self.at = (r, i, o, c, u, t, b), now
        self.rates, self.bursts = rates, bursts

    def take(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        requests: int = 1,
        concurrent: int = 1,
        usd_micros: int = 0,
        network_bytes: int = 0,
    ) -> LocalPermit | None:
        """As `HeldLease.take`; None also when the pace does not let it pass yet."""
        now = self.clock()
        r, i, o, c, u, t, b = self._levels(now)
        rr, ri, ro, rc, ru, rt, rb = self.rates
        if rr:
            r -= requests * SECOND
        if ri:
            i -= input_tokens * SECOND
        if ro:
            o -= output_tokens * SECOND
        if rc:
            c -= concurrent * SECOND
        if ru:
            u -= usd_micros * SECOND
        if rt:
            t -= (input_tokens + output_tokens) * SECOND
        if rb:
            b -= network_bytes * SECOND
        if (r | i | o | c | u | t | b) < 0:
            return None
        permit = super().take(input_tokens, output_tokens, requests, concurrent, usd_micros, network_bytes)
        if permit is not None:
            self.levels = (r, i, o, c, u, t, b)
            self.at = now
        return permit

    def _levels(self, now: int) -> Hand:
        """The levels at a moment, written out: this is on the hot path."""
        dt = now - self.at
        r, i, o, c, u, t, b = self.levels
        rr, ri, ro, rc, ru, rt, rb = self.rates
        br, bi, bo, bc, bu, bt, bb = self.bursts
        if rr:
            r = min(r + dt * rr, br * SECOND)
        if ri:
            i = min(i + dt * ri, bi * SECOND)
        if ro:
            o = min(o + dt * ro, bo * SECOND)
        if rc:
            c = min(c + dt * rc, bc * SECOND)
        if ru:
            u = min(u + dt * ru, bu * SECOND)
        if rt:
            t = min(t + dt * rt, bt * SECOND)
        if rb:
            b = min(b + dt * rb, bb * SECOND)
        return (r, i, o, c, u, t, b)
