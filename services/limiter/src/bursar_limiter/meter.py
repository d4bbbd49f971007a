"""One meter per limit of a budget: how it counts, what an end changes.

Four kinds, told apart when the budget is made and never asked about on the hot path:

- `Admission`: the provider charges as the call arrives. The amount stands in the ledger from the grant on; the end
  corrects it (less: out of the grain of the grant; more: from now on).
- `Production`: the provider charges output as it is produced, at any time between grant and end. What is in flight
  counts in full however old it is; the end moves what was really produced into the ledger at the time of the end.
- `Level`: what is in flight. No window: a reservation counts until it ends.
- `Spent`: an amount that is spent once and never comes back, but for refunds: a purse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from bursar.contracts.limiter import BudgetSpec, Dimension, Limits, LimitSpec, windows_of
from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.dimensions import INDEX, MONEY
from bursar_limiter.meter_base import FULL_PACE, Ends, Meter
from bursar_limiter.pacing import FULL, Burst

__all__ = ["Admission", "Level", "Meter", "Production", "Spent", "meters_of"]

MOST_SPENT = 1 << 62
"""Where the count of money ends: far beyond any limit."""


@lru_cache(maxsize=4096)
def _pace_of(limit: int, window_ms: int, utilisation: int, burst: int) -> tuple[int, int, int, int]:
    """Limit, unit, rate and cap of a pace (see `pacing.Pace`): the same objects for all with the same limit."""
    return limit, 1000 * window_ms, utilisation * limit, burst * limit * window_ms


class Admission(Meter):
    """A rate that is charged as the call arrives. ``burst``: a second guard, where the provider's bucket is small."""

    __slots__ = ("aside", "burst")
    kind = "admission"
    since_at = 3
    admits = True

    def __init__(self, index: int, spec: LimitSpec, budget: BudgetSpec) -> None:
        super().__init__(index, spec, budget)
        self.look_at = 0
        self.aside = 0
        if spec.paced:
            self.limit, self.unit, self.rate, self.cap = _pace_of(
                spec.limit, spec.window_ms, budget.utilisation_permille, budget.burst_permille
            )
            self.ceiling = self.room = self.limit
            self.zero = FULL
        self.burst: Burst | None = None
        if spec.bucket is not None and spec.bucket < spec.limit:
            self.burst = Burst(spec.limit, spec.window_ms, spec.bucket, budget.jitter_ms)

    def fits(self, now: int, amount: int) -> bool:
        return super().fits(now, amount) and (self.burst is None or self.burst.fits(now, amount))

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        self.age(now)
        need = ahead + amount - self.room
        when = now if need <= 0 else self._left_at(now, need, ends)
        return max(when, self._paced_at(now, amount, ahead))

    def _left_at(self, now: int, need: int, ends: Ends) -> int:
        """When so much will have left: what is charged by its age; what is lent counts as spent at its end."""
        when, missing = self.free_at(now, need), need - self.charged(now)
        if missing > 0 and self.aside:
            for end, amount in ends.lent(self.index):
                when, missing = max(when, self.leaves_when(end)), missing - amount
                if missing <= 0:
                    break
        return when

    def soonest(self, now: int, amount: int) -> int | None:
        self.age(now)
        need = amount - self.room - self.in_flight
        when = now if need <= 0 else self.free_at(now, need)
        return max(when, self._paced_soonest(now, amount))

    def _paced_at(self, now: int, amount: int, ahead: int) -> int:
        when = max(self.frozen_until, self.ready_at(now, amount, ahead))
        return when if self.burst is None else max(when, self.burst.fits_at(now, amount))

    def _paced_soonest(self, now: int, amount: int) -> int:
        """As `_paced_at`, all in flight refunded; a pace that was lowered may be the configured one again at once."""
        when = self._paced_at(now, amount, -self.in_flight)
        full = self.span.utilisation * self.limit
        if when <= now or not self.unit or self.rate >= full:
            return when
        burst = now if self.burst is None else self.burst.fits_at(now, amount)
        return max(self.frozen_until, burst, now + (when - now) * self.rate // full)

    def _most_of(self, limit: int) -> int:
        return limit if self.burst is None else min(limit, self.burst.capacity)

    def take(self, now: int, amount: int) -> None:
        self.in_flight += amount
        self.add(now, amount)
        self.pay(now, amount)
        if self.burst is not None:
            self.burst.take(now, amount)

    def end(self, now: int, granted_at: int, reserved: int, actual: int, *, charged: bool) -> None:
        self.in_flight -= reserved
        if actual > reserved:
            self.correct(now, actual - reserved)
        elif actual < reserved and charged:
            self.refund(now, granted_at, reserved - actual)

    def correct(self, now: int, more: int) -> None:
        if seeded(bugs.OVERAGE_FORGOTTEN):
            return
        self.add_excess(now, more)
        self._owe(now, more)

    def _owe(self, now: int, more: int) -> None:
        if self.unit:
            self.owe(now, more, self.limit)
        if now < self.frozen_until:
            self.freeze(self.frozen_until)
        if self.burst is not None:
            self.burst.take(now, more)

    def set_aside(self, amount: int) -> None:
        """So much counts from now on (or no more, below zero) without a date: what is lent, and not yet spent."""
        self.aside += amount
        self.room -= amount

    def lose(self, now: int) -> None:
        """Refunds in flight may make room in older grains, never in what is added here."""
        self.age(now)
        missing = self.limit - self.charged(now)
        if missing > 0:
            self.add(now, missing)

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        return self.leaves_when(now)

    def charged(self, now: int) -> int:
        return self.counted(now) - self.aside

    def at_rest(self, now: int) -> bool:
        calm = super().at_rest(now) and not self.entries(now) and now * self.rate - self.zero >= self.cap
        return calm and (self.burst is None or not self.burst.debt_at(now))

    def validate(self, now: int) -> None:
        super().validate(now)
        self.age(now)
        assert self.charged(now) == sum(amount for _, amount in self.entries(now)), "used is not the sum"
        assert self.open >= 0, "an amount below zero"
        assert min(self.past.amounts, default=0) >= 0, "an amount below zero"
        assert now >= self.frozen_until or self.zero >= self.frozen_until * self.rate, "a freeze was lifted"

    def dump(self, at: int) -> list[Any]:
        burst = self.burst
        zero = max(self.zero, at * self.rate - self.cap)
        return [
            self.entries(at),
            list(divmod(zero, 1 << 62)),
            None if burst is None else [burst.at, *divmod(burst.debt, 1 << 62)] if burst.debt_at(at) else [0, 0, 0],
            self.since,
            self.frozen_until if self.frozen_until > at else 0,
            self.tuned,
            self.limit,
        ]

    def load(self, value: Sequence[Any]) -> None:
        entries, zero, burst, self.since, self.frozen_until, tuned, limit = value
        if limit != self.limit:
            self.narrow(0, limit)
        if tuned != FULL_PACE:
            self.tune(0, tuned)
        self.restore(entries)
        self.zero = (zero[0] << 62) + zero[1]
        if self.unit and seeded(bugs.DEBT_FORGOTTEN):
            self.zero = min(self.zero, -self.cap)
        if self.burst is not None:
            self.burst.at, self.burst.debt = burst[0], (burst[1] << 62) + burst[2]


class Production(Admission):
    """A rate that is charged as output is produced: what is in flight counts until it ends."""

    __slots__ = ()
    kind = "production"
    admits = False

    def fits(self, now: int, amount: int) -> bool:
        return Meter.fits(self, now, amount)

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        self.age(now)
        when, need, ledger = now, ahead + amount - self.room, self.charged(now)
        if need > 0:
            when = self.free_at(now, need)
        if need > ledger:
            timed_out = ends.freed(self, max(1, need - ledger - ahead))
            when = when if timed_out is None else self.leaves_when(timed_out)
        return max(when, self._paced_at(now, amount, ahead))

    def soonest(self, now: int, amount: int) -> int | None:
        self.age(now)
        need = amount - self.room - self.in_flight
        when = now if need <= 0 else self.free_at(now, need)
        return max(when, self._paced_soonest(now, amount))

    def take(self, now: int, amount: int) -> None:
        self.in_flight += amount
        self.room -= amount
        if self.unit:
            self.pay(now, amount)

    def end(self, now: int, granted_at: int, reserved: int, actual: int, *, charged: bool) -> None:
        self.in_flight -= reserved
        self.room += reserved
        if actual:
            self.add_excess(now, actual)
        if actual > reserved:
            self._owe(now, actual - reserved)
        elif actual < reserved and charged and self.unit:
            self.refund_pace(now, reserved - actual)

    def flying(self, most: int, done: int) -> int:
        return most - done

    def passed(self, done: int) -> int:
        return done

    def progress(self, now: int, more: int, done: int) -> None:
        """What was produced counts from when it was produced, and is not in flight any more."""
        self.in_flight += more - done
        self.room += done - more
        self.add_excess(now, done)
        if more:
            self._owe(now, more)

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        return self.leaves_when(now + max_ttl_ms)

    def may_adopt(self, amount: int) -> bool:
        return self.in_flight + amount <= self.limit

    def adopt(self, amount: int) -> None:
        self.in_flight += amount
        self.room -= amount

    def restore(self, entries: Any) -> None:
        super().restore(entries)
        self.room = self.limit - sum(amount for _, amount in self.entries(0)) - self.in_flight

    def charged(self, now: int) -> int:
        return self.counted(now) - self.in_flight


class Level(Meter):
    """What is in flight."""

    __slots__ = ()
    kind = "level"

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        need = ahead + amount - self.room
        when = now if need <= 0 else ends.freed(self, max(1, need - ahead))
        return when if when is None else max(when, self.frozen_until)

    def soonest(self, now: int, amount: int) -> int | None:
        return max(now, self.frozen_until)

    def take(self, now: int, amount: int) -> None:
        self.adopt(amount)

    def end(self, now: int, granted_at: int, reserved: int, actual: int, *, charged: bool) -> None:
        if actual and seeded(bugs.CALLS_LEAK):  # which is so at a time-out
            return
        self.in_flight -= reserved
        self.room += reserved

    def progress(self, now: int, more: int, done: int) -> None:
        """The call is still in flight."""

    def correct(self, now: int, more: int) -> None:
        """A call that has ended is not in flight."""

    def lose(self, now: int) -> None:
        """Nothing is granted until unknown calls are over, so they need not be guessed here."""

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        return now + max_ttl_ms

    def may_adopt(self, amount: int) -> bool:
        return amount <= self.room

    def adopt(self, amount: int) -> None:
        self.in_flight += amount
        self.room -= amount

    def charged(self, now: int) -> int:
        return self.in_flight

    def validate(self, now: int) -> None:
        super().validate(now)
        assert self.room == self.limit - self.in_flight, "room beside what is in flight"

    def dump(self, at: int) -> list[Any]:
        """All there is follows from the reservations."""
        return [self.frozen_until if self.frozen_until > at else 0]

    def load(self, value: Sequence[Any]) -> None:
        (self.frozen_until,) = value
        self.freeze(self.frozen_until)


class Spent(Meter):
    """An amount that is spent once: only a refund, or a higher limit, makes room again."""

    __slots__ = ()
    kind = "spent"
    since_at = 1

    @property
    def total(self) -> int:
        return self.limit - self.room

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        return max(now, self.frozen_until) if ahead + amount <= self.room else None

    def soonest(self, now: int, amount: int) -> int | None:
        return max(now, self.frozen_until) if amount <= self.room + self.in_flight else None

    def take(self, now: int, amount: int) -> None:
        self.in_flight += amount
        self.room -= amount

    def end(self, now: int, granted_at: int, reserved: int, actual: int, *, charged: bool) -> None:
        self.in_flight -= reserved
        if charged or actual > reserved:
            self.correct(now, actual - reserved)

    def correct(self, now: int, more: int) -> None:
        self.room = max(self.limit - MOST_SPENT, self.room - more)

    def lose(self, now: int) -> None:
        self.room = min(0, self.room)

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        """It is held as spent from here on, so nothing has to be waited for."""
        return now

    def charged(self, now: int) -> int:
        return self.total

    def at_rest(self, now: int) -> bool:
        return super().at_rest(now) and not self.total

    def dump(self, at: int) -> list[Any]:
        return [self.total, self.since, self.frozen_until if self.frozen_until > at else 0]

    def load(self, value: Sequence[Any]) -> None:
        total, self.since, frozen = value
        self.room = self.limit - total
        self.freeze(frozen)


def meters_of(limits: dict[Dimension, Limits], budget: BudgetSpec) -> tuple[Meter, ...]:
    """Fresh meters for these limits under the rules of a budget, in the order of the dimensions and windows."""
    made = [meter_of(INDEX[name], spec, budget) for name, given in limits.items() for spec in windows_of(given)]
    return tuple(sorted(made, key=lambda meter: (meter.index, meter.window_ms)))


def meter_of(index: int, spec: LimitSpec, budget: BudgetSpec) -> Meter:
    if spec.window_ms == 0:
        spent = budget.kind == "purse" or (index == MONEY and not spec.in_flight)
        return Spent(index, spec, budget) if spent else Level(index, spec, budget)
    kind = Production if spec.charge == "production" else Admission
    return kind(index, spec, budget)
