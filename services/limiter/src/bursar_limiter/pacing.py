"""Pacing: how fast a limit is used, so that the guard is seldom reached and demand is spread over the window.

`Pace` is a token bucket with rate u·L/W and capacity B that may go into debt: a request larger than B waits at the
head of the line until the bucket is full and then takes all of its cost, so that it delays the next ones instead of
being refused for ever. Pacing is a courtesy, not a guard: refunds come back to the bucket whatever their age, and
debt ends at one limit, so that an absurd report of usage does not close a budget for good.

`Burst` is a second hard guard, for a provider whose own bucket is smaller than the limit of a window: capacity C,
refilled at R = L/W. With charges up to J late the provider may see in a stretch of length D what was granted in
D + J. Call d the debt of an ordinary bucket fed with the grants. What the provider's bucket lacks in the worst case is
then at most e = max(0, d + R·J), d counted on below zero. So: admit while e + amount <= C; afterwards
e = max(e, R·J) + amount, at most C + R·J, since the provider's bucket is never more than empty. A single request of C
passes when nothing went before it. Refunds do not come back here: by the time that they are known the bucket has long
refilled.

All arithmetic is exact: quantities are scaled by the window's length, so that every rate is an integer per ms.
"""

from __future__ import annotations

from typing import Final

FULL: Final = -(1 << 200)
"""The zero of a bucket that nothing was ever taken from: so long ago that it is full at any time."""


class Pace:
    """The pacing bucket. One token is ``unit``, one ms adds ``rate``. Its level at a time is ``now * rate - zero``, at
    most ``cap``; so one number, the ``zero`` at which the bucket would be empty, says both how full it is and when.

    Without pacing a token weighs nothing (``unit`` 0), and all that is left is that nothing passes before ``zero``.
    """

    __slots__ = ("cap", "rate", "unit", "zero")

    def __init__(self, limit: int, window_ms: int, utilisation_permille: int, burst_permille: int) -> None:
        self.unit = 1000 * window_ms
        self.rate = utilisation_permille * limit
        self.cap = burst_permille * limit * window_ms
        self.zero = FULL

    def unpaced(self) -> None:
        self.unit, self.rate, self.cap, self.zero = 0, 1, 1, -1

    def level_at(self, now: int) -> int:
        return min(self.cap, now * self.rate - self.zero)

    def ready(self, now: int, amount: int) -> bool:
        """Whether the bucket holds the amount, or is full (then even a larger one may go, into debt)."""
        return self.level_at(now) >= min(self.cap, amount * self.unit)

    def ready_at(self, now: int, amount: int, ahead: int = 0) -> int:
        """The first ms at which `ready` holds, after ``ahead`` more has been taken."""
        lacking = min(self.cap, amount * self.unit) + ahead * self.unit - self.level_at(now)
        return now if lacking <= 0 else now + -(-lacking // self.rate)

    def pay(self, now: int, amount: int) -> None:
        """Take an amount; for one that `ready` has let pass. The hot path of grants does the same in place."""
        full = now * self.rate - self.cap
        zero = self.zero
        self.zero = (zero if zero > full else full) + amount * self.unit  # noqa: FURB136 - the hot path

    def owe(self, now: int, amount: int, most: int) -> None:
        """Take an amount that nothing has bounded; the debt ends at ``most``."""
        self.pay(now, amount)
        self.zero = min(self.zero, now * self.rate + most * self.unit)

    def give_back(self, now: int, amount: int) -> None:
        """A refund, up to the cap."""
        full, zero = now * self.rate - self.cap, self.zero - amount * self.unit
        self.zero = zero if zero > full else full  # noqa: FURB136 - the hot path

    def debt(self, now: int) -> int:
        """How much below zero, in whole tokens."""
        return max(0, -(self.level_at(now) // self.unit)) if self.unit else 0


class Burst:
    """The guard of a small provider bucket. ``debt`` holds at ``at``; scaled: one token is ``unit`` = the window."""

    __slots__ = ("at", "cap", "capacity", "debt", "rate", "slack", "unit")

    def __init__(self, limit: int, window_ms: int, capacity: int, jitter_ms: int) -> None:
        self.capacity = capacity
        self.unit = window_ms
        self.rate = limit
        self.cap = capacity * window_ms
        self.slack = limit * (jitter_ms + 1)
        self.debt = 0
        self.at = 0

    def debt_at(self, now: int) -> int:
        return max(0, self.debt - (now - self.at) * self.rate)

    def fits(self, now: int, amount: int) -> bool:
        return self.debt_at(now) + amount * self.unit <= self.cap

    def fits_at(self, now: int, amount: int) -> int:
        """The first ms at which `fits` holds, for an amount that the capacity can hold."""
        excess = self.debt_at(now) + amount * self.unit - self.cap
        return now if excess <= 0 else now + -(-excess // self.rate)

    def take(self, now: int, amount: int) -> None:
        debt = max(self.debt_at(now), self.slack) + amount * self.unit
        self.debt = min(debt, self.cap + self.slack)
        self.at = now
