"""Budgets of agents and runs that are at rest: whether such a one is there is nobody's business.

A decision may make one (for a request that is then refused, or waits), and another may drop those at rest: nothing of
that is in the journal, so a replica that replays it has others of them. Hence whatever applies an event to many budgets
at once first drops all at rest (`forget`), waited for or not; what they are needed for makes them again. Who stands in
their lines finds a place in the new ones (`seat`).

What a lease is of stays, at rest or not: what the lease holds may count only in the objects above it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from bursar.kernel.bugs import seeded
from bursar_limiter import bugs, lining, tree
from bursar_limiter.budget import SPARE, Budget
from bursar_limiter.state import State


def room_for(state: State, base: Budget) -> bool:
    """Whether another may be made below. Drops those at rest when they have become many: at rest as of the last event,
    so that nobody can tell."""
    if base.made >= base.tidy_made:
        drop_idle(state, base)
        base.tidy_made = min(2 * base.made + SPARE, tree.MAX_MADE)
    return base.made < tree.MAX_MADE


def drop_idle(state: State, base: Budget) -> None:
    """Forget the agents' and runs' budgets below this one in which nothing differs from new ones, and nobody waits."""
    leased = state.leases.leaves()
    for budget in _runs_first(other for other in state.budgets.values() if other.base is base):
        at_rest = not budget.count if seeded(bugs.DROPPED_IN_USE) else budget.at_rest(state.at)
        if at_rest and not budget.waiting and not budget.children and budget.name not in leased:
            tree.drop(state, budget)
    state.paths.clear()


def forget(state: State, now: int, kept: Container[str] = ()) -> dict[str, Budget]:
    """Drop all that are at rest, but for these; returns those in whose lines somebody stands, by name."""
    leased, aside = state.leases.leaves(), {}
    for name in sorted(leased):
        tree.find(state, name)
    for budget in _runs_first(other for other in state.budgets.values() if other.base is not None):
        if budget.name not in kept and budget.name not in leased and not budget.children and budget.at_rest(now):
            tree.drop(state, budget)
            if budget.waiting:
                aside[budget.name] = budget
    state.forget_paths()
    return aside


def seat(state: State, aside: Mapping[str, Budget], now: int) -> None:
    """Everything has its new rules and places: who stood in these lines goes on waiting, or is sent away where there
    is no such budget any more."""
    for name, before in aside.items():
        budget = tree.find(state, name)
        if budget is not None and not budget.retired:
            budget.lined = before.lined
            state.standing[name] = budget
            continue
        assert before.base is not None
        base = state.budgets.get(before.base.name)
        why = "over_limit" if base is not None and base.is_offered else ""
        for waiter in list(before.line.waiters.values()):
            lining.send_away(state, before, waiter, why, now)
        state.forget_paths()


def _runs_first(budgets: Iterable[Budget]) -> list[Budget]:
    return sorted(budgets, key=lambda budget: -budget.name.count("/"))
