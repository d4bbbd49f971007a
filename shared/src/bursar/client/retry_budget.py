"""How many retries a target is sent at most: a part of the calls, so that retries never multiply an outage.

A token bucket, as Finagle's ``RetryBudget`` and the retry quota of the AWS SDKs. Each first call puts in ``ratio`` of a
retry; a retry takes one out, after a time-out two, since those cost a target most. Both are forgotten after ``ttl``, so
that a quiet hour pays for no burst; ``minimum`` retries a second are always there, so that somebody who calls seldom
may retry at all.

What it promises: in any ``ttl`` seconds retries cost no more than ``ratio`` of the calls of those and the tenth of
``ttl`` before them, plus ``minimum`` times ``ttl``. Amounts are integers, thousandths of a retry; time is an argument,
in milliseconds.
"""

from __future__ import annotations

from typing import Final

RATIO: Final = 0.2
MINIMUM: Final = 0.1
"""Retries a second. It holds for each process: a fleet of a thousand may retry a hundred times as often together."""

TTL: Final = 10.0
TIMEOUT_COST: Final = 2
_BUCKETS: Final = 11
_ONE: Final = 1_000


class RetryBudget:
    """``calls``, ``retries`` and ``denied`` count since it was made."""

    __slots__ = ("_at", "_deposit", "_late", "_net", "_reserve", "_sum", "_width", "calls", "denied", "retries")

    def __init__(
        self, ratio: float = RATIO, minimum: float = MINIMUM, ttl: float = TTL, *, timeout_cost: int = TIMEOUT_COST
    ) -> None:
        """``ratio``: retries per call, 0 to 10. ``minimum``: retries a second without any call. ``ttl``: seconds.
        ``timeout_cost``: what a retry after a time-out costs."""
        if not (0.0 <= ratio <= 10.0 and 0.0 <= minimum <= 10_000.0 and 0.1 <= ttl <= 3_600.0 and timeout_cost >= 1):
            raise ValueError("a retry budget has a ratio of 0 to 10, a minimum up to 10,000 and a ttl of 0.1 to 3600 s")
        self._late = timeout_cost * _ONE
        self._deposit = round(ratio * _ONE)
        self._reserve = round(minimum * ttl * _ONE)
        self._width = ttl * 1000.0 / (_BUCKETS - 1)
        self._net = [0] * _BUCKETS
        self._sum = 0
        self._at = 0
        self.calls = self.retries = self.denied = 0

    def deposit(self, now: float) -> None:
        """A call is made that is no retry."""
        self._forget(now)
        self.calls += 1
        self._net[self._at % _BUCKETS] += self._deposit
        self._sum += self._deposit

    def withdraw(self, now: float, *, after_timeout: bool = False) -> bool:
        """May a call be made again? True when it may, and then it is paid for."""
        self._forget(now)
        cost = self._late if after_timeout else _ONE
        if self._sum + self._reserve < cost:
            self.denied += 1
            return False
        self.retries += 1
        self._net[self._at % _BUCKETS] -= cost
        self._sum -= cost
        return True

    def balance(self, now: float) -> float:
        """Retries that could be made now, one after the other."""
        self._forget(now)
        return max(0, self._sum + self._reserve) / _ONE

    def _forget(self, now: float) -> None:
        at = int(now / self._width)
        steps = at - self._at
        if steps <= 0:
            return
        net = self._net
        if steps >= _BUCKETS:
            net[:] = [0] * _BUCKETS
            self._sum = 0
        else:
            for old in range(self._at + 1, at + 1):
                self._sum -= net[old % _BUCKETS]
                net[old % _BUCKETS] = 0
        self._at = at
