"""One meter per limited dimension of a budget: how it counts, when a request fits, what an end changes.

Four kinds, told apart when the budget is made and never asked about on the hot path:

- `Admission`: the provider charges as the call arrives. The amount stands in the ledger from the grant on; the end
  corrects it (less: out of the grain of the grant; more: from now on).
- `Production`: the provider charges output as it is produced, at any time between grant and end. What is in flight
  counts in full however old it is; the end moves what was really produced into the ledger at the time of the end.
- `Level`: calls in flight. No window: a reservation counts until it ends.
- `Spent`: money that is spent once and never comes back, but for refunds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.dimensions import CONCURRENT, INDEX, MONEY
from bursar_limiter.ledger import Ledger
from bursar_limiter.meter_base import Ends, Meter
from bursar_limiter.pacing import Burst, Pace

__all__ = ["Admission", "Level", "Meter", "Production", "Spent", "meters_of"]

MOST_SPENT = 1 << 62
"""Where the count of money ends: far beyond any limit."""


class Admission(Meter):
    """A rate that is charged as the call arrives."""

    __slots__ = ("burst", "ledger", "pace")
    kind = "admission"

    def __init__(self, index: int, spec: LimitSpec, budget: BudgetSpec) -> None:
        super().__init__(index, spec)
        window, limit = spec.window_ms, spec.limit
        self.ledger = Ledger(window if seeded(bugs.JITTER_IGNORED) else window + budget.jitter_ms)
        self.pace: Pace | None = None
        if spec.paced:
            self.pace = Pace(limit, window, budget.utilisation_permille, budget.burst_permille)
        self.burst: Burst | None = None
        if spec.bucket is not None and spec.bucket < limit:
            self.burst = Burst(limit, window, spec.bucket, budget.jitter_ms)

    def fits(self, now: int, amount: int) -> bool:
        ledger = self.ledger
        if now >= ledger.leaves_at:
            ledger.age(now)
        if ledger.used + amount > self.limit:
            return False
        pace = self.pace
        if pace is not None:
            level = pace.level + (now - pace.at) * pace.rate
            if level < pace.cap and level < amount * pace.unit:
                return False
        return self.burst is None or self.burst.fits(now, amount)

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        self.ledger.age(now)
        need = self.ledger.used + ahead + amount - self.limit
        when = now if need <= 0 else self.ledger.free_at(now, need)
        return max(when, self._paced_at(now, amount, ahead))

    def soonest(self, now: int, amount: int) -> int | None:
        self.ledger.age(now)
        need = self.ledger.used - self.in_flight + amount - self.limit
        when = now if need <= 0 else self.ledger.free_at(now, need)
        return max(when, self._paced_at(now, amount, -self.in_flight))

    def _paced_at(self, now: int, amount: int, ahead: int) -> int:
        when = now if self.pace is None else self.pace.ready_at(now, amount, ahead)
        return when if self.burst is None else max(when, self.burst.fits_at(now, amount))

    def take(self, now: int, amount: int) -> None:
        self.in_flight += amount
        self.ledger.add(now, amount)
        if self.pace is not None:
            self.pace.take(now, amount)
        if self.burst is not None:
            self.burst.take(now, amount)

    def end(self, now: int, granted_at: int, reserved: int, actual: int, charged: int) -> None:
        self.in_flight -= reserved
        if actual > reserved:
            self.correct(now, actual - reserved)
        elif actual < reserved and charged:
            self.ledger.take_back(granted_at, now, reserved - actual)
            if self.pace is not None:
                self.pace.give_back(now, reserved - actual)

    def correct(self, now: int, more: int) -> None:
        if seeded(bugs.OVERAGE_FORGOTTEN):
            return
        self.ledger.add_excess(now, more)
        if self.pace is not None:
            self.pace.take(now, more)
        if self.burst is not None:
            self.burst.take(now, more)

    def lose(self, now: int) -> None:
        """Refunds in flight may make room in older grains, never in what is added here."""
        self.ledger.age(now)
        missing = self.limit - self.ledger.used
        if missing > 0:
            self.ledger.add(now, missing)

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        return self.ledger.leaves_when(now)

    def used(self, now: int) -> int:
        self.ledger.age(now)
        return self.ledger.used

    def counted(self, now: int) -> int:
        return self.used(now)

    def debt(self, now: int) -> int:
        return 0 if self.pace is None else self.pace.debt(now)

    def validate(self, now: int) -> None:
        super().validate(now)
        self.ledger.age(now)
        assert self.ledger.used == sum(amount for _, amount in self.ledger.entries(now)), "used is not the sum"
        assert min(self.ledger.ring) >= 0, "an amount below zero"
        assert self.pace is None or self.pace.level <= self.pace.cap, "pace above its cap"

    def dump(self, at: int) -> list[Any]:
        pace, burst = self.pace, self.burst
        return [
            self.ledger.entries(at),
            None if pace is None else [pace.at, *divmod(pace.level, 1 << 62)],
            None if burst is None else [burst.at, *divmod(burst.debt, 1 << 62)],
        ]

    def load(self, value: Sequence[Any]) -> None:
        entries, pace, burst = value
        self.ledger.restore(entries)
        if self.pace is not None:
            debtless = seeded(bugs.DEBT_FORGOTTEN) and pace[1] < 0
            self.pace.at, self.pace.level = pace[0], 0 if debtless else (pace[1] << 62) + pace[2]
        if self.burst is not None:
            self.burst.at, self.burst.debt = burst[0], (burst[1] << 62) + burst[2]


class Production(Admission):
    """A rate that is charged as output is produced: what is in flight counts until it ends."""

    __slots__ = ()
    kind = "production"

    def fits(self, now: int, amount: int) -> bool:
        ledger, flying = self.ledger, self.in_flight
        if now >= ledger.leaves_at:
            ledger.age(now)
        if ledger.used + flying + amount > self.limit:
            return False
        pace = self.pace
        if pace is not None:
            level = pace.level + (now - pace.at) * pace.rate
            if level < pace.cap and level < amount * pace.unit:
                return False
        return self.burst is None or self.burst.fits(now, flying + amount)

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        self.ledger.age(now)
        ledger, when = self.ledger, now
        need = ledger.used + self.in_flight + ahead + amount - self.limit
        if need > 0:
            when = ledger.free_at(now, need)
        if need > ledger.used:
            timed_out = ends.freed(self.index, max(1, need - ledger.used - ahead))
            when = when if timed_out is None else ledger.leaves_when(timed_out)
        return max(when, self._paced_at(now, amount, ahead))

    def soonest(self, now: int, amount: int) -> int | None:
        self.ledger.age(now)
        need = self.ledger.used + amount - self.limit
        when = now if need <= 0 else self.ledger.free_at(now, need)
        return max(when, self._paced_at(now, amount, -self.in_flight))

    def take(self, now: int, amount: int) -> None:
        self.in_flight += amount
        if self.pace is not None:
            self.pace.take(now, amount)

    def end(self, now: int, granted_at: int, reserved: int, actual: int, charged: int) -> None:
        self.in_flight -= reserved
        if actual:
            self.ledger.add_excess(now, actual)
        if self.pace is None:
            return
        if actual > reserved:
            self.pace.take(now, actual - reserved)
        elif actual < reserved and charged:
            self.pace.give_back(now, reserved - actual)

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        return self.ledger.leaves_when(now + max_ttl_ms)

    def may_adopt(self, amount: int) -> bool:
        return self.in_flight + amount <= self.limit

    def counted(self, now: int) -> int:
        return self.used(now) + self.in_flight


class Level(Meter):
    """Calls in flight."""

    __slots__ = ()
    kind = "level"

    def fits(self, now: int, amount: int) -> bool:
        return self.in_flight + amount <= self.limit

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        need = self.in_flight + ahead + amount - self.limit
        return now if need <= 0 else ends.freed(self.index, max(1, need - ahead))

    def soonest(self, now: int, amount: int) -> int | None:
        return now

    def take(self, now: int, amount: int) -> None:
        self.in_flight += amount

    def end(self, now: int, granted_at: int, reserved: int, actual: int, charged: int) -> None:
        if actual and seeded(bugs.CALLS_LEAK):  # which is so at a time-out
            return
        self.in_flight -= reserved

    def correct(self, now: int, more: int) -> None:
        """A call that has ended is not in flight."""

    def lose(self, now: int) -> None:
        """Nothing is granted until unknown calls are over, so they need not be guessed here."""

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        return now + max_ttl_ms

    def may_adopt(self, amount: int) -> bool:
        return self.in_flight + amount <= self.limit

    def used(self, now: int) -> int:
        return self.in_flight

    def counted(self, now: int) -> int:
        return self.in_flight

    def dump(self, at: int) -> list[Any]:
        return []

    def load(self, value: Sequence[Any]) -> None:
        """All there is follows from the reservations."""


class Spent(Meter):
    """Money that is spent once: only a refund, or a higher limit, makes room again."""

    __slots__ = ("total",)
    kind = "spent"

    def __init__(self, index: int, spec: LimitSpec) -> None:
        super().__init__(index, spec)
        self.total = 0

    def fits(self, now: int, amount: int) -> bool:
        return self.total + amount <= self.limit

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        return now if self.total + ahead + amount <= self.limit else None

    def soonest(self, now: int, amount: int) -> int | None:
        return now if self.total - self.in_flight + amount <= self.limit else None

    def take(self, now: int, amount: int) -> None:
        self.in_flight += amount
        self.total += amount

    def end(self, now: int, granted_at: int, reserved: int, actual: int, charged: int) -> None:
        self.in_flight -= reserved
        if charged or actual > reserved:
            self.total = min(MOST_SPENT, self.total + actual - reserved)

    def correct(self, now: int, more: int) -> None:
        self.total = min(MOST_SPENT, self.total + more)

    def lose(self, now: int) -> None:
        self.total = max(self.total, self.limit)

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        """The money is held as spent from here on, so nothing has to be waited for."""
        return now

    def used(self, now: int) -> int:
        return self.total

    def counted(self, now: int) -> int:
        return self.total

    def dump(self, at: int) -> list[Any]:
        return [self.total]

    def load(self, value: Sequence[Any]) -> None:
        (self.total,) = value


def meters_of(budget: BudgetSpec) -> tuple[Meter, ...]:
    """Fresh meters for a budget, in the order of the dimensions."""
    made = [meter_of(INDEX[name], spec, budget) for name, spec in budget.limits.items()]
    return tuple(sorted(made, key=lambda meter: meter.index))


def meter_of(index: int, spec: LimitSpec, budget: BudgetSpec) -> Meter:
    if index == CONCURRENT:
        return Level(index, spec)
    if index == MONEY and spec.window_ms == 0:
        return Spent(index, spec)
    kind = Production if spec.charge == "production" else Admission
    return kind(index, spec, budget)
