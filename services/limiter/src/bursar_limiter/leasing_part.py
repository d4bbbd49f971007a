"""Leases and slices as a part of the limiter (`parts`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from bursar.contracts.limiter_lease import Island, Lease, Renew, Return, Terms, Uncovered
from bursar.kernel.decider import Command
from bursar_limiter import leasing, leasing_events, leasing_islands, tree
from bursar_limiter.dimensions import NOTHING
from bursar_limiter.leasing_records import ALL, load_leases
from bursar_limiter.leasing_share import rate_of
from bursar_limiter.meter import Admission, Production
from bursar_limiter.parts import Holding, Part, Rule
from bursar_limiter.state import State


class LeasingPart(Part):
    """See `leasing` for the promises."""

    name = "leases"
    rules: Mapping[type, Rule] = {
        Lease: leasing.decide_lease,
        Renew: leasing.decide_renew,
        Return: leasing.decide_return,
        leasing.Ends: leasing.decide_ends,
        Terms: leasing_islands.decide_terms,
        Island: leasing_islands.decide_island,
        Uncovered: leasing_islands.decide_uncovered,
    }
    apply = leasing_events.APPLY
    words = leasing_events.WORDS

    def dump(self, state: State) -> Any:
        return state.leases.dump()

    def load(self, state: State, value: Any) -> None:
        state.leases = load_leases(value)
        leasing_events.aside_again(state)

    def holdings(self, state: State) -> Iterator[Holding]:
        for record in state.leases.records.values():
            counts = record.counts
            if any(counts):
                yield record.budget, record.also, counts
        for entry in state.leases.slices.values():
            yield entry.budget, (), entry.amounts

    def due(self, state: State, now: int) -> Command | None:
        return leasing.next_due(state, now)

    def wake_at(self, state: State) -> int | None:
        return state.leases.agenda[0][0] if state.leases.agenda else None

    def reloaded(self, state: State, now: int) -> None:
        """Leases go on under the rules of their time until they end; whose budget is gone has nothing any more."""
        for record in list(state.leases.records.values()):
            if tree.find(state, record.budget) is None:
                del state.leases.records[record.key]
        leasing_islands.keep_slices(state)
        for budget in state.budgets.values():
            for meter in budget.meters:
                if isinstance(meter, Admission):
                    meter.set_aside(-meter.aside)
        for record in state.leases.records.values():  # until they are renewed, under the new rules
            record.rates = NOTHING
        leasing_events.aside_again(state)
        state.leases.shares = None

    def lost(self, state: State, now: int) -> None:
        leasing_islands.fear_slices(state, now)

    def validate(self, state: State, now: int) -> None:
        aside: Counter[int] = Counter()
        rated: Counter[tuple[str, int]] = Counter()
        for leaf, also, counts in self.holdings(state):
            for index, meter in state.path_of(tree.made(state, leaf), also).meters:
                aside[id(meter)] += counts[index] if not isinstance(meter, Production) else 0
        for record in state.leases.records.values():
            for node in leasing_events.path_of(state, record).nodes:
                for index in ALL:
                    rated[node.name, index] += record.rates[index]
        for budget in state.budgets.values():
            for meter in budget.meters:
                if isinstance(meter, Admission):
                    assert meter.aside == aside[id(meter)], f"{budget.name}: what is lent of dimension {meter.index}"
        for (name, index), rate in rated.items():
            assert state.leases.rated[name][index] == rate, f"{name}: sum of rates of dimension {index}"
            assert rate <= rate_of(state.budgets[name], index, tuned=False), f"{name}: rates of leases above its own"
