"""What the limiter knows of each lease and slice, durably; `Leases` is that part of the state.

A lease's account, by dimension: ``lent`` is what its holder may still spend or has in open calls, and counts on every
object of its path. Below zero the holder owes: its calls have used more than it had. ``charges`` remembers, by report
period, what was taken then and when it was charged, as long as refunds may come back to that window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final, NamedTuple

from bursar.contracts.limiter import DIMENSIONS
from bursar.kernel.bugs import seeded
from bursar_limiter import leasing_bugs as bugs
from bursar_limiter.dimensions import NOTHING, Quantities

ALL: Final = range(len(DIMENSIONS))

MAX_CHARGES: Final = 128
"""Report periods of a lease that refunds may still come back to."""

SPARE: Final = 64


def drift_ms(length: int) -> int:
    """How much later than its holder the limiter lets a lease end: far more than two clocks drift apart in it."""
    return length // 100 + 10


def seven(values: Iterable[int]) -> Quantities:
    r, i, o, c, u, t, b = values
    return (r, i, o, c, u, t, b)


class Charge(NamedTuple):
    """What was taken in one period: charged at that time, when that many grants had been made (`Meter.since`)."""

    period: int
    at: int
    ordinal: int
    amounts: Quantities


class Record:
    """One lease. ``budget``: its leaf. ``limited``, ``held``: bits by dimension, as when it was granted. ``period``:
    the last report. ``until``: when the holder stops; ``ends_at``: when what is left counts as spent (0: it has);
    ``gone_at``: when its open calls count as over, and the record goes. ``granted_at``: when something was last added.
    ``rates``: per second, what it has of each object's rate; ``demand``: per second, what its holder would use."""

    __slots__ = (
        "also", "budget", "calls", "charges", "demand", "ends_at", "gone_at", "granted_at", "held", "key", "lent",
        "limited", "period", "principal", "rates", "ttl", "until",
    )  # fmt: skip

    def __init__(self, key: str, budget: str, also: tuple[str, ...], principal: str, ttl: int) -> None:
        self.key = key
        self.budget = budget
        self.also = also
        self.principal = principal
        self.ttl = ttl
        self.limited = self.held = 0
        self.period = self.calls = 0
        self.until = self.ends_at = self.gone_at = self.granted_at = 0
        self.lent: Quantities = NOTHING
        self.rates: Quantities = NOTHING
        self.demand: Quantities = NOTHING
        self.charges: deque[Charge] = deque(maxlen=MAX_CHARGES)

    @property
    def counts(self) -> Quantities:
        """What of it counts against limits."""
        return seven(max(0, amount) for amount in self.lent)

    def over(self, index: int) -> tuple[int, int]:
        """When what it holds of a dimension is over if nothing is heard of it again (`budget.Holder`)."""
        at = self.gone_at if self.held >> index & 1 else self.ends_at or self.gone_at
        return at, max(0, self.lent[index])

    def charge(self, period: int, now: int, ordinal: int, amounts: Quantities) -> None:
        """Remember what was taken in a period, and forget what no call can refund any more."""
        while self.charges and self.charges[0].at < now - self.ttl:
            self.charges.popleft()
        if any(amounts):
            self.charges.append(Charge(period, now, ordinal, amounts))

    def refund(self, period: int, amounts: Sequence[int]) -> Charge | None:
        """Take refunds out of what a period is remembered to have taken; returns them with the time of the charge."""
        for at, charge in enumerate(self.charges):
            if charge.period == period:
                back = seven(min(amounts[d], charge.amounts[d]) for d in ALL)
                self.charges[at] = charge._replace(amounts=seven(charge.amounts[d] - back[d] for d in ALL))
                return charge._replace(amounts=back)
        return None

    def dump(self) -> list[Any]:
        fixed = [self.key, self.budget, list(self.also), self.principal, self.ttl, self.limited, self.held]
        moving = [self.period, self.calls, self.until, self.ends_at, self.gone_at, self.granted_at]
        charges = [[charge.period, charge.at, charge.ordinal, list(charge.amounts)] for charge in self.charges]
        return [*fixed, *moving, list(self.lent), list(self.rates), list(self.demand), charges]


def load_record(value: Sequence[Any]) -> Record:
    key, budget, also, principal, ttl, limited, held, *moving, lent, rates, demand, charges = value
    record = Record(key, budget, tuple(also), principal, ttl)
    record.limited, record.held = limited, held
    record.period, record.calls, record.until, record.ends_at, record.gone_at, record.granted_at = moving
    record.lent, record.rates, record.demand = seven(lent), seven(rates), seven(demand)
    record.charges.extend(Charge(period, at, ordinal, seven(amounts)) for period, at, ordinal, amounts in charges)
    return record


class Slice(NamedTuple):
    """A part of a budget's limits that somebody may use unasked. ``principal`` empty: it may have been handed out in
    what was lost. ``free_at``: when everything that it may have allowed has left the windows."""

    key: str
    budget: str
    principal: str
    until: int
    free_at: int
    amounts: Quantities

    def over(self, index: int) -> tuple[int, int]:
        return self.free_at, self.amounts[index]


class Leases:
    """All leases and slices, and how many calls went without a permit (``uncovered``, by budget). Made from these:
    ``agenda`` (when to look at which) and ``rated`` (by object, the sums of the leases' rates). Volatile: ``shares``
    (see `leasing_share`) and ``heads`` (whose turn it is at an object, and since when)."""

    __slots__ = ("agenda", "heads", "rated", "records", "shares", "slices", "tidy_at", "uncovered")

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.slices: dict[str, Slice] = {}
        self.uncovered: dict[str, int] = {}
        self.agenda: list[tuple[int, str]] = []
        self.rated: dict[str, list[int]] = {}
        self.tidy_at = SPARE
        self.shares: Any = None
        self.heads: dict[str, tuple[int, int]] = {}

    def at(self, when: int, key: str) -> None:
        """Look at it then."""
        if len(self.agenda) >= self.tidy_at:
            self.agenda = sorted({(self._next_of(key), key) for _, key in self.agenda if self._next_of(key)})
            self.tidy_at = 2 * len(self.agenda) + SPARE
        heappush(self.agenda, (when, key))

    def next_due(self, now: int) -> str | None:
        """A lease or slice of which something ends now."""
        agenda = self.agenda
        while agenda and agenda[0][0] <= now:
            _, key = heappop(agenda)
            when = self._next_of(key)
            if when and when <= now:
                return key
            if when:
                heappush(agenda, (when, key))
        return None

    def _next_of(self, key: str) -> int:
        """When something of it ends next; 0 when it is not there."""
        record = self.records.get(key)
        if record is not None:
            return record.ends_at or record.gone_at
        return self.slices[key].free_at if key in self.slices else 0

    def leaves(self) -> set[str]:
        """The budgets that leases and slices are of."""
        return {record.budget for record in self.records.values()} | {entry.budget for entry in self.slices.values()}

    def of_leaf(self, name: str) -> Iterator[Record]:
        return (record for record in self.records.values() if record.budget == name)

    def dump(self) -> list[Any]:
        records = [] if seeded(bugs.LEASE_NOT_DUMPED) else [record.dump() for record in self.records.values()]
        slices = [[*entry[:5], list(entry.amounts)] for entry in self.slices.values()]
        return [records, slices, sorted(self.uncovered.items())]


def load_leases(value: Sequence[Any]) -> Leases:
    leases = Leases()
    records, slices, uncovered = value
    for told in records:
        record = load_record(told)
        leases.records[record.key] = record
    for key, budget, principal, until, free_at, amounts in slices:
        leases.slices[key] = Slice(key, budget, principal, until, free_at, seven(amounts))
    leases.uncovered = dict(uncovered)
    for key in (*leases.records, *leases.slices):
        leases.agenda.append((leases._next_of(key), key))
    heapify(leases.agenda)
    return leases
