"""The verdict: every limit of every scope, by all three providers at once, and who was turned away for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.oracle import providers
from tests.oracle.history import Charge, Flight, Limit, Wish
from tests.oracle.providers import Model, Row, Violation

OFFSETS = 7
"""Clock windows are tried at so many offsets: nobody knows when the provider's minute begins."""

PROOFS = 20
"""Violations that are kept with their proof; all are counted."""

IN_FLIGHT = "concurrent"


@dataclass
class Verdict:
    """``by``: how many violations, by scope, dimension and model. ``proofs``: the first of them."""

    by: dict[tuple[str, str, Model], int] = field(default_factory=dict)
    proofs: list[Violation] = field(default_factory=list)
    charges: int = 0

    @property
    def violations(self) -> int:
        return sum(self.by.values())

    def take(self, found: Iterable[Violation]) -> None:
        for violation in found:
            key = (violation.limit.scope, violation.limit.dimension, violation.model)
            self.by[key] = self.by.get(key, 0) + 1
            if len(self.proofs) < PROOFS:
                self.proofs.append(violation)

    def must_be_clean(self) -> None:
        """Raise `AssertionError` with the proofs when any limit was exceeded."""
        assert not self.violations, f"{self.violations} violations: " + "; ".join(map(str, self.proofs[:3]))


def judge(limits: Sequence[Limit], charges: Iterable[Charge], flights: Iterable[Flight] = ()) -> Verdict:
    """Try a history against all limits. A limit named ``concurrent`` is one on calls in flight."""
    verdict = Verdict()
    ordered = sorted(charges, key=lambda charge: charge.at)
    flying = list(flights)
    verdict.charges = len(ordered) + len(flying)
    scopes: dict[str, list[Charge]] = {limit.scope: [] for limit in limits}
    for charge in ordered:
        for scope in set(charge.path) & scopes.keys():
            scopes[scope].append(charge)
    for limit in limits:
        if limit.dimension == IN_FLIGHT:
            verdict.take(in_flight(limit, flying))
            continue
        rows = [
            Row(c.at, c.amounts[limit.dimension], c.call) for c in scopes[limit.scope] if limit.dimension in c.amounts
        ]
        verdict.take(_counted(limit, [row for row in rows if row.amount]))
    return verdict


def _counted(limit: Limit, rows: Sequence[Row]) -> Iterator[Violation]:
    if not limit.window:
        yield from providers.purse(limit, rows)
        return
    for part in range(OFFSETS):
        yield from providers.by_the_clock(limit, rows, part * limit.window // OFFSETS)
    yield from providers.rolling(limit, rows)
    yield from providers.bucket(limit, rows)


def in_flight(limit: Limit, flights: Iterable[Flight]) -> Iterator[Violation]:
    """Too many at once; what ends at an instant makes room for what begins at it."""
    mine = [(f, f.amounts.get(limit.dimension, 0)) for f in flights if limit.scope in f.path]
    moments = [(f.begin, 1, number) for number, (f, amount) in enumerate(mine) if amount and f.end > f.begin]
    moments += [(mine[number][0].end, 0, number) for _, _, number in moments]
    flying: dict[int, int] = {}
    used = 0
    for at, begins, number in sorted(moments):
        amount = mine[number][1]
        if not begins:
            used -= flying.pop(number, 0)
        elif used + amount <= limit.amount:
            flying[number] = amount
            used += amount
        else:
            rows = [Row(at, flown, mine[other][0].call) for other, flown in flying.items()]
            rows.append(Row(at, amount, mine[number][0].call))
            yield Violation(limit, "in_flight", at, at + 1, limit.amount, tuple(rows))


def shut_out(limits: Sequence[Limit], wishes: Iterable[Wish], patience: int) -> list[Wish]:
    """Wishes that fit every limit of their path and were yet refused for ever: told so, or left open for longer than
    ``patience``, or refused again and again for so long without ever being granted (the last wish of a call counts,
    and its first one says since when)."""
    first: dict[str, int] = {}
    last: dict[str, Wish] = {}
    found = []
    for number, wish in enumerate(wishes):
        call = wish.call or f"\0{number}"
        first.setdefault(call, wish.at)
        if wish.fate == "never" and fits(limits, wish):
            found.append(wish)
        last[call] = wish
    for call, wish in last.items():
        waited = wish.until - first[call]
        if wish.fate in {"open", "refused"} and waited > patience and fits(limits, wish):
            found.append(wish)
    return found


def fits(limits: Sequence[Limit], wish: Wish) -> bool:
    """Whether no limit of its path is smaller than the wish."""
    return all(wish.amounts.get(limit.dimension, 0) <= limit.largest for limit in limits if limit.scope in wish.path)


def utilisation(limit: Limit, charges: Iterable[Charge], backlogged: Sequence[tuple[int, int]]) -> float:
    """What was charged during the spans in which there was demand, over what the limit allows in so much time."""
    spans = sorted(backlogged)
    length = sum(end - begin for begin, end in spans)
    used = sum(
        charge.amounts.get(limit.dimension, 0)
        for charge in charges
        if limit.scope in charge.path and any(begin <= charge.at < end for begin, end in spans)
    )
    return used * limit.window / (limit.amount * length)


def excess(limit: Limit, charges: Iterable[Charge]) -> float:
    """The most that was charged in any rolling window, as a multiple of the limit; refusals take room here."""
    rows = sorted((c.at, c.amounts.get(limit.dimension, 0)) for c in charges if limit.scope in c.path)
    first = used = most = 0
    for at, amount in rows:
        used += amount
        while rows[first][0] <= at - limit.window:
            used -= rows[first][1]
            first += 1
        most = max(most, used)
    return most / limit.amount


def seen_by_all(limit: Limit, rows: Iterable[tuple[int, int]]) -> Verdict:
    """The verdict on charges of one limit, as (time, amount)."""
    return judge([limit], [Charge(at, (limit.scope,), {limit.dimension: amount}) for at, amount in rows])
