"""What every meter answers, whatever it counts; the kinds stand in `meter`.

A meter is one limit: an amount of one dimension in one window, or in flight, or spent once. Every kind shows the same
numbers to the hot path, which reads them in place: an amount fits when ``room`` holds it (after `age`, from
``look_at`` on), and the pace is ready for it. Everything else is a method.

`fits` and `earliest` agree exactly: a request that does not fit now fits first at `earliest`, if nothing else happens
than that time passes (and that reservations run into their time-out). `soonest` is the same if everything in flight
came back at once: before that time waiting cannot help.

Three things may be done to a meter from outside, and are part of what it dumps: `freeze` (nothing passes before a
time), `tune` (another pace than the configured one), `narrow` (a limit below the configured one, the ``ceiling``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.ledger import NEVER, Ledger, span_of

FULL_PACE = 1000


class Ends(Protocol):
    """When what is in flight will be over if nothing is heard of it."""

    def freed(self, meter: Meter, need: int) -> int | None:
        """The end that brings the sum of what this meter has in flight, in order of ends, to ``need``; None if none."""
        ...

    def lent(self, index: int) -> Iterable[tuple[int, int]]:
        """(end, amount) of the leases and slices that hold something of this dimension, in order of ends."""
        ...


class Meter(Ledger):
    """What all kinds share: what is reserved and not ended (``in_flight``), the ``most`` that one request may ask for,
    and ``since``: the ordinal of the first grant that was charged to it (those before take nothing back)."""

    __slots__ = ("ceiling", "frozen_until", "in_flight", "index", "most", "since", "tuned")
    kind = ""
    since_at = 0
    """Where ``since`` stands in what it dumps."""
    admits = False
    """Whether a grant is charged to the ledger at once."""

    def __init__(self, index: int, spec: LimitSpec, budget: BudgetSpec) -> None:
        hold = spec.window_ms + (budget.jitter_ms if spec.window_ms and not seeded(bugs.JITTER_IGNORED) else 0)
        Ledger.__init__(self, span_of(spec.window_ms, hold, budget.utilisation_permille), spec.limit)
        self.unpaced()
        self.look_at = NEVER
        self.index = index
        self.ceiling = spec.limit
        self.most = spec.limit if spec.bucket is None else min(spec.limit, spec.bucket)
        self.in_flight = 0
        self.since = 0
        self.frozen_until = 0
        self.tuned = FULL_PACE

    @property
    def window_ms(self) -> int:
        return self.span.window

    def freeze(self, until: int) -> None:
        """Nothing passes before this time; then the pace begins with an empty bucket."""
        self.frozen_until = max(self.frozen_until, until)
        self.zero = max(self.zero, self.frozen_until * self.rate)

    def thaw(self, now: int) -> None:
        """The freeze is over now."""
        if now < self.frozen_until:
            self.frozen_until = now
            self.zero = min(self.zero, now * self.rate)

    def tune(self, now: int, permille: int) -> None:
        """Pace at so many thousandths of the configured pace, keeping the level of the bucket; while it is frozen, the
        one that it will have then."""
        if self.unit:
            at = max(now, self.frozen_until)
            level = self.level_at(at)
            self.rate = max(1, self.span.utilisation * self.limit * permille // FULL_PACE)
            self.zero = at * self.rate - level
            if now < self.frozen_until:
                self.freeze(self.frozen_until)
        self.tuned = permille

    def narrow(self, now: int, limit: int) -> None:
        """Another limit holds, from 1 to the ceiling; what counts stays, and the pace follows."""
        burst = self.cap // (self.limit * self.window_ms) if self.unit else 0
        self.age(now)
        self.room += limit - self.limit
        self.most = min(self.most, limit) if limit < self.limit else self._most_of(limit)
        self.limit = limit
        if self.unit:
            level = self.level_at(now)
            self.cap = burst * limit * self.window_ms
            self.zero = now * self.rate - min(level, self.cap)
            self.tune(now, self.tuned)

    def _most_of(self, limit: int) -> int:
        return limit

    def refund_pace(self, now: int, amount: int) -> None:
        """A refund comes back to the pace, but never lifts a freeze."""
        self.give_back(now, amount)
        if now < self.frozen_until:
            self.zero = max(self.zero, self.frozen_until * self.rate)

    def fits(self, now: int, amount: int) -> bool:
        """Whether the amount (> 0) may be granted now; `path.Path.fits` does the same in place."""
        if now >= self.look_at:
            self.age(now)
        return amount <= self.room and self.ready(now, amount)

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        """When it will fit; exact for ``ahead`` = 0, else not before this time if those ahead stay. None: never."""
        raise NotImplementedError

    def soonest(self, now: int, amount: int) -> int | None:
        """A time before which it cannot fit, even if all that is in flight were refunded now and nobody stood ahead
        (who does may give up). None: never."""
        raise NotImplementedError

    def take(self, now: int, amount: int) -> None:
        """Charge a grant; `path.Path.take` does the same in place."""
        raise NotImplementedError

    def end(self, now: int, granted_at: int, reserved: int, actual: int, *, charged: bool) -> None:
        """End a reservation with its real usage. ``charged``: whether its grant was charged to this meter."""
        raise NotImplementedError

    def refund(self, now: int, granted_at: int, amount: int) -> None:
        """What a grant has not used comes back to the window of the grant, if it still counts there, and to the pace;
        but never lifts a freeze. Done in place, because most calls use less than they asked for."""
        if now >= self.look_at:
            self.age(now)
        if amount <= self.open and granted_at // self.span.grain == self.open_grain:
            self.open -= amount
            self.room += amount
        else:
            self.take_back(granted_at, now, amount)
        unit = self.unit
        if unit:
            full, zero = now * self.rate - self.cap, self.zero - amount * unit
            self.zero = zero if zero > full else full  # noqa: FURB136 - the hot path
            if now < self.frozen_until:
                self.freeze(self.frozen_until)

    def correct(self, now: int, more: int) -> None:
        """Charge usage that was learned of after the end."""
        raise NotImplementedError

    def lose(self, now: int) -> None:
        """Acknowledged grants were lost: count the whole limit as used."""
        raise NotImplementedError

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        """When all that grants before now may have allowed is over and has left."""
        raise NotImplementedError

    def may_adopt(self, amount: int) -> bool:
        """Whether a lost reservation can have held so much."""
        return amount <= self.most

    def adopt(self, amount: int) -> None:
        """A reservation is in flight here that was not charged here."""
        self.in_flight += amount

    def flying(self, most: int, done: int) -> int:
        """What a reservation that counts ``most`` has in flight here, after so much was reported as used."""
        return most

    def passed(self, done: int) -> int:
        """How much of what was reported as used does not count at the end again."""
        return 0

    def progress(self, now: int, more: int, done: int) -> None:
        """A reservation reports that ``done`` has been used since the last report, and counts ``more`` for that."""
        if more:
            self.in_flight += more
            self.correct(now, more)

    def release(self) -> None:
        """Nothing is in flight; what is is adopted again."""
        self.adopt(-self.in_flight)

    def charged(self, now: int) -> int:
        """What has been charged, without what only counts because it is in flight."""
        raise NotImplementedError

    def counted(self, now: int) -> int:
        """What counts against the limit."""
        self.age(now)
        return self.limit - self.room

    def at_rest(self, now: int) -> bool:
        """Whether nothing in it differs from a new one at that moment."""
        return not self.in_flight and now >= self.frozen_until and self.tuned == FULL_PACE

    def validate(self, now: int) -> None:
        """Raise AssertionError if its parts disagree."""
        assert self.in_flight >= 0, "in flight below zero"

    def dump(self, at: int) -> list[Any]:
        """What is charged, as of a moment not before the last event; what is in flight follows from the
        reservations."""
        raise NotImplementedError

    def load(self, value: Sequence[Any]) -> None:
        raise NotImplementedError
