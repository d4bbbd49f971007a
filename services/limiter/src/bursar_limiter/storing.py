"""The durable state as one value, and back (see `state`).

Budgets that were made below another for an agent or a run are told only while something in them differs from a new
one: when they are dropped and made again is nobody's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify
from typing import Any

from bursar.contracts.limiter import BudgetSpec
from bursar.kernel.bugs import seeded
from bursar.kernel.rights import load as load_rights
from bursar_limiter import bugs, tree
from bursar_limiter.budget import Budget, Reservation
from bursar_limiter.dimensions import NOTHING, Quantities, as_quantities
from bursar_limiter.ledger import NEVER
from bursar_limiter.parts import PARTS, holdings
from bursar_limiter.state import Ended, State


def dump(state: State) -> dict[str, Any]:
    live = {} if seeded(bugs.NOT_DUMPED) else state.live
    return {
        "at": state.at,
        "source": state.source,
        "rights": None if state.rights is None else state.rights.dump(),
        "lost_at": state.lost_at,
        "ordinal": state.ordinal,
        "budgets": [
            _dump_budget(budget, state.at) for _, budget in sorted(state.budgets.items()) if budget.base is None
        ],
        "made": _dump_all_made(state),
        "live": [_dump_live(key, entry) for key, entry in live.items()],
        "ended": _dump_ended(state.ended),
        "ended_before": _dump_ended(state.ended_before),
        "ended_since": state.ended_since,
        "parts": {part.name: part.dump(state) for part in PARTS},
    }


def _dump_live(key: str, entry: Reservation) -> list[Any]:
    return [key, *entry[:4], list(entry.amounts), entry.ordinal, list(entry.also), list(entry.done)]


def load(value: Any) -> State:
    state = State()
    state.at, state.source, state.lost_at = value["at"], value["source"], value["lost_at"]
    state.rights = load_rights(value["rights"])
    state.ended_since, state.ordinal = value["ended_since"], value["ordinal"]
    for key, budget, principal, granted_at, expires_at, amounts, ordinal, also, done in value["live"]:
        state.live[key] = Reservation(
            budget, principal, granted_at, expires_at, as_quantities(amounts), ordinal, tuple(also), _done(done)
        )
    state.ended, state.ended_before = _load_ended(value["ended"]), _load_ended(value["ended_before"])
    for text, *rest in value["budgets"]:
        budget = Budget(BudgetSpec.model_validate_json(text), state.live)
        state.budgets[budget.name] = budget
        budget.retired, budget.granted, budget.recovering_until, meters = rest
        _restore(budget, meters)
    tree.connect(state)
    for name, meters in value["made"]:
        _restore(tree.made(state, name), meters)
    for part in PARTS:
        part.load(state, value["parts"][part.name])
    _count_in_flight(state)
    return state


def _count_in_flight(state: State) -> None:
    """What follows from the reservations."""
    for key, entry in state.live.items():
        path = state.path_of(state.budgets[entry.budget], entry.also)
        path.leaf.hold(entry.principal)
        for node in path.watchers:
            node.track(entry.expires_at, key)
        if not seeded(bugs.EXPIRY_LOST):
            state.expiries.append((entry.expires_at, key))
    for leaf, also, amounts, done in holdings(state):
        state.path_of(state.budgets[leaf], also).adopt(amounts, done)
    heapify(state.expiries)


def _done(values: Iterable[int]) -> Quantities:
    """The very object of nothing, where it is that: the hot path asks by identity."""
    done = as_quantities(values)
    return done if any(done) else NOTHING


def _dump_ended(generation: dict[str, Ended]) -> list[Any]:
    return [[key, *entry[:4], list(entry.amounts), list(entry.also)] for key, entry in generation.items()]


def _load_ended(entries: Iterable[Any]) -> dict[str, Ended]:
    return {
        key: Ended(principal, how, at, budget, as_quantities(amounts), tuple(also))
        for key, principal, how, at, budget, amounts, also in entries
    }


def _dump_budget(budget: Budget, at: int) -> list[Any]:
    meters = [meter.dump(at) for meter in budget.meters]
    return [budget.text, budget.retired, budget.granted, budget.recovering_until, meters]


def _dump_all_made(state: State) -> list[Any]:
    oldest, leased = tree.oldest_below(state), state.leases.leaves()
    return sorted(
        _dump_made(state, budget, oldest.get(budget.name, NEVER))
        for budget in state.budgets.values()
        if budget.base is not None and (budget.name in leased or not budget.at_rest(state.at))
    )


def _dump_made(state: State, budget: Budget, oldest: int) -> list[Any]:
    """Without what only says that it was there before: since when a meter is there matters only to reservations that
    are older, and how it recovers follows from when entries were lost."""
    meters = [meter.dump(state.at) for meter in budget.meters]
    for meter, told in zip(budget.meters, meters, strict=True):
        if oldest >= meter.since and meter.since_at:
            told[meter.since_at] = 0
    return [budget.name, meters]


def _restore(budget: Budget, meters: Iterable[Any]) -> None:
    for meter, told in zip(budget.meters, meters, strict=True):
        meter.load(told)
