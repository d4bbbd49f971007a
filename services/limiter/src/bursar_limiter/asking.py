"""What a request names: from a budget, an agent, a run and other objects to the path of all that it takes from."""

from __future__ import annotations

from bursar.kernel.decider import Reject
from bursar_limiter import resting, tree
from bursar_limiter.budget import Budget
from bursar_limiter.path import MAX_OBJECTS, Path
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State


def find_path(
    state: State, budget: Budget, principal: str, run: str | None = None, also: tuple[str, ...] = ()
) -> Path | Reject:
    """The path, or why there is none. May make the budget of an agent or a run: that is nothing durable yet."""
    leaf = budget
    if budget.gives:
        name = tree.leaf_name(budget, principal, run)
        found = state.budgets.get(name)
        if found is None and not resting.room_for(state, budget):
            facts = {"budget": budget.name, "most": tree.MAX_MADE}
            return Reject("too_many_agents", f"Budget {budget.name} has no room for another agent or run.", facts)
        leaf = found or tree.made(state, name)
    if not also:
        return leaf.path or state.path_of(leaf)
    for name in also:
        linked = state.budgets.get(name)
        if linked is None or not linked.is_offered:
            return unknown_budget(state, name)
    path = state.path_of(leaf, tuple(sorted(set(also))))
    if len(path.nodes) > MAX_OBJECTS:
        return Reject("too_many_objects", f"A request may take from {MAX_OBJECTS} objects.", {"most": MAX_OBJECTS})
    return path
