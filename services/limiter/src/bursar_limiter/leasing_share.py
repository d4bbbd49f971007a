"""Who may have how much per second: weighted max-min fair shares of each object's rate, between those who want some.

`fill` is the whole idea (progressive filling, Bertsekas & Gallager, Data Networks, 6.5): everybody gets the same share
per weight, but nobody more than it wants, and what is left over is divided among the others. Down the tree an object's
rate is divided among its children by weight, and what a child gets among its own; among the leases of one leaf all
count alike. Who stands in a line at an object counts as one that wants everything, so that leases leave it its share;
as a quarter of one if it has a lease there, too.

Shares are volatile: made from the leases and their demand at most every `FRESH_MS`. What is given out is durable: the
rates of the leases, whose sum at each object never exceeds its own (`spare_rate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bursar_limiter import tree
from bursar_limiter.budget import NO_HOLDERS, Budget
from bursar_limiter.dimensions import NOTHING, Quantities
from bursar_limiter.leasing_records import ALL, Record
from bursar_limiter.meter import Admission, Level
from bursar_limiter.path import Path
from bursar_limiter.state import State

FRESH_MS: Final = 100
"""For so long shares are good that were found for other demands."""

ENOUGH: Final = 1 << 53
"""More than anybody could want or any object has, per second."""


class Shares:
    """Found at a time (ms): by lease, what it may have of each dimension per second. ``count``: of how many leases."""

    __slots__ = ("at", "by_lease", "count")

    def __init__(self, at: int, count: int, by_lease: Mapping[str, Sequence[int]]) -> None:
        self.at = at
        self.count = count
        self.by_lease = by_lease


def fill(capacity: int, wants: Sequence[tuple[int, int]]) -> list[int]:
    """Divide a capacity among (weight, want): the max-min fair shares, in whole units."""
    shares = [0] * len(wants)
    order = sorted(range(len(wants)), key=lambda at: wants[at][1] / wants[at][0])
    weight = sum(each for each, _ in wants)
    for at in order:
        mine, want = wants[at]
        shares[at] = min(want, capacity * mine // weight) if weight else 0
        capacity -= shares[at]
        weight -= mine
    return shares


def rate_of(budget: Budget, index: int, *, tuned: bool = True) -> int:
    """Units per second that an object lets pass of a dimension: its pace, or the limit over its window where it is not
    paced; of several windows the slowest. Of what is limited in flight it is the limit. ``tuned`` False: the most that
    the pace may be; a lease keeps the rate that it has when the pace is lowered, until it is renewed."""
    rate = ENOUGH
    for meter in budget.meters:
        if meter.index == index and isinstance(meter, Level):
            rate = min(rate, meter.limit if tuned else meter.ceiling)
        elif meter.index == index and isinstance(meter, Admission):
            rate = min(rate, _pace_of(meter) if tuned else meter.ceiling * 1000 // meter.window_ms)
    return rate


def _pace_of(meter: Admission) -> int:
    return meter.rate * 1000 // meter.unit if meter.unit else meter.limit * 1000 // meter.window_ms


def shares_of(state: State, now: int) -> Shares:
    """The present shares; those of a moment ago are good enough."""
    known: Shares | None = state.leases.shares
    records = state.leases.records
    if known is not None and 0 <= now - known.at < FRESH_MS and known.count <= len(records):
        return known
    found: dict[str, list[int]] = {key: [ENOUGH] * len(ALL) for key in records}
    for index in ALL:
        wanting = [record for record in records.values() if record.ends_at and record.demand[index]]
        if wanting:
            _share(state, index, wanting, found)
    fresh = state.leases.shares = Shares(now, len(records), found)
    return fresh


def _share(state: State, index: int, wanting: Sequence[Record], found: dict[str, list[int]]) -> None:
    """Divide one dimension: down each tree, and beside it at each linked object."""
    below: dict[str, list[Record]] = {}
    linked: dict[str, list[Record]] = {}
    for record in wanting:
        path = state.path_of(tree.made(state, record.budget), record.also)
        for node in path.tree:
            below.setdefault(node.name, []).append(record)
        for node in path.links:
            linked.setdefault(node.name, []).append(record)
    for name in below:
        if state.budgets[name].parent is None:
            _divide(state, index, state.budgets[name], ENOUGH, below, found)
    for name, records in linked.items():
        node = state.budgets[name]
        claims = [*((100, record.demand[index]) for record in records), *_standing(node, records)]
        for record, share in zip(records, fill(rate_of(node, index), claims), strict=False):
            found[record.key][index] = min(found[record.key][index], share)


def _divide(
    state: State,
    index: int,
    node: Budget,
    given: int,
    below: Mapping[str, Sequence[Record]],
    found: dict[str, list[int]],
) -> None:
    """Divide what an object has, and is given from above, among its leases and its children."""
    children = [child for child in node.children.values() if child.name in below or _is_waiting(child)]
    mine = [record for record in below.get(node.name, ()) if record.budget == node.name]
    wants = [_could_use(child, index, below) for child in children]
    claims = [*((100, record.demand[index]) for record in mine)]
    claims += [(child.weight, want) for child, want in zip(children, wants, strict=True)]
    shares = fill(min(given, rate_of(node, index)), [*claims, *_standing(node, mine)])
    for record, share in zip(mine, shares, strict=False):
        found[record.key][index] = min(found[record.key][index], share)
    for child, share in zip(children, shares[len(mine) :], strict=False):
        _divide(state, index, child, share, below, found)


def _could_use(node: Budget, index: int, below: Mapping[str, Sequence[Record]]) -> int:
    """The most that an object and those below it would make use of."""
    if _is_waiting(node):
        return rate_of(node, index)
    used = sum(record.demand[index] for record in below.get(node.name, ()) if record.budget == node.name)
    used += sum(_could_use(child, index, below) for child in node.children.values() if child.name in below)
    return min(used, rate_of(node, index))


def _is_waiting(node: Budget) -> bool:
    return node.has_line and not node.line.is_idle


def _standing(node: Budget, records: Sequence[Record]) -> Iterable[tuple[int, int]]:
    """The principals in a line at this object, each as one that wants everything."""
    if not node.has_line:
        return ()
    holders = {record.principal for record in records}
    return [(25 if principal in holders else 100, ENOUGH) for principal in node.line.queues]


def spare_rate(state: State, path: Path, record: Record | None, index: int) -> int:
    """What no other lease has of the rates of these objects."""
    rated, mine = state.leases.rated, 0 if record is None else record.rates[index]
    spare = ENOUGH
    for node in path.nodes:
        out = rated.get(node.name)
        spare = min(spare, rate_of(node, index) - (0 if out is None else out[index]) + mine)
    return max(0, spare)


def put_rates(state: State, record: Record, rates: Quantities) -> None:
    """A lease has these rates from now on; the sums of every object on its path follow."""
    before, record.rates = record.rates, rates
    for node in state.path_of(tree.made(state, record.budget), record.also).nodes:
        node.note_holder(record.key, record)
        out = state.leases.rated.setdefault(node.name, [0] * len(ALL))
        for index in ALL:
            out[index] += rates[index] - before[index]


def sum_again(state: State) -> None:
    """The sums of the rates, and who holds something where, when paths have changed."""
    state.leases.rated.clear()
    for budget in state.budgets.values():
        budget.holders = NO_HOLDERS
    for entry in state.leases.slices.values():
        for node in state.path_of(tree.made(state, entry.budget)).nodes:
            node.note_holder(entry.key, entry)
    for record in state.leases.records.values():
        rates, record.rates = record.rates, NOTHING
        put_rates(state, record, rates)
