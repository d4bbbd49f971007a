"""What must hold between the parts of the state: for tests and simulation, which ask after every step."""

from __future__ import annotations

from collections import Counter

from bursar_limiter.budget import Budget
from bursar_limiter.parts import PARTS, holdings
from bursar_limiter.state import State


def validate(state: State, now: int) -> None:
    """Raise AssertionError unless the parts of the state agree with one another."""
    assert not state.live.keys() & (state.ended.keys() | state.ended_before.keys()), "a reservation lives and has ended"
    listed = {key for _, key in state.expiries}
    assert state.live.keys() <= listed, "time-outs"
    flying: Counter[tuple[int, int]] = Counter()
    for leaf, also, amounts, done in holdings(state):
        for index, meter in state.path_of(state.budgets[leaf], also).meters:
            flying[id(meter), index] += meter.flying(amounts[index], done[index])
    for part in PARTS:
        part.validate(state, now)
    for budget in state.budgets.values():
        _validate_budget(state, budget, now)
        for meter in budget.meters:
            wanted = flying[id(meter), meter.index]
            assert meter.in_flight == wanted, f"{budget.name}: in flight of dimension {meter.index}"


def _validate_budget(state: State, budget: Budget, now: int) -> None:
    name = budget.name
    mine = {key: entry for key, entry in state.live.items() if entry.budget == name}
    assert budget.count == len(mine), f"{name}: count of reservations"
    assert budget.held == Counter(entry.principal for entry in mine.values()), f"{name}: who holds how many"
    if budget.watches:
        assert mine.keys() <= {key for _, key in budget.expiries}, f"{name}: time-outs"
    for meter in budget.meters:
        meter.validate(now)
    assert all(child.parent is budget for child in budget.children.values()), f"{name}: children"
    assert budget.parent is None or budget.parent.children.get(name) is budget, f"{name}: parent"
    assert (name in state.standing) == bool(budget.waiting), f"{name}: standing"
    if budget.has_line:
        budget.line.validate()
        offers = {child: entry.waiter for child, entry in budget.line.offers.items()}
        for child, waiter in offers.items():
            below = budget.children[child].line
            assert below.head(now) is waiter, f"{name}: {child} offers what is not its head"
