"""The tree of budgets: who stands below whom, what each agent and each run gets of its own, and what is wrong with a
set of budgets.

A budget with ``each_agent`` (or ``each_run``) gives every agent (every run) that asks a budget of its own below it,
named ``<budget>/<agent>`` (``<budget>/<agent>/<run>``). Such a budget is made when it is first needed and dropped when
nothing in it counts any more; there are no more than `MAX_MADE` below one. An operator who declares a budget of that
name gives that agent other limits, and its name below the same parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bursar.contracts.limiter import BudgetSpec, ChildSpec, Dimension, Limits, LimitSpec, windows_of
from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.budget import CHILDLESS, Budget
from bursar_limiter.leasing_records import drift_ms
from bursar_limiter.ledger import NEVER
from bursar_limiter.path import MAX_OBJECTS
from bursar_limiter.state import State

MAX_DEPTH: Final = 24
"""Most levels of declared budgets above one another."""

MAX_MADE: Final = 10_000
"""Most budgets of agents and runs below one declared budget."""


def connect(state: State) -> None:
    """Link the declared budgets as their specifications say; those of agents and runs stay below their own. What is
    named and not there any more is left out."""
    for budget in state.budgets.values():
        budget.children = CHILDLESS
    for budget in list(state.budgets.values()):
        if budget.base is None:
            spec = budget.spec
            budget.parent = state.budgets.get(spec.parent) if spec.parent is not None else None
            budget.links = tuple(state.budgets[name] for name in spec.also if name in state.budgets)
        else:
            budget.parent = _above_made(state, budget)
    for budget in state.budgets.values():
        if budget.parent is not None:
            adopt(budget.parent, budget)
    for budget in state.budgets.values():
        budget.depth = sum(1 for _ in budget.ancestors()) - 1
    state.forget_paths()


def oldest_below(state: State) -> dict[str, int]:
    """By name of a budget, the ordinal of the oldest reservation that has not ended, or charge of a lease that may be
    refunded, which takes from it or from an agent's or a run's budget below."""
    oldest: dict[str, int] = {}
    counting = [(entry.budget, entry.ordinal) for entry in state.live.values()]
    counting += [
        (record.budget, charge.ordinal) for record in state.leases.records.values() for charge in record.charges
    ]
    for leaf, ordinal in counting:
        name = leaf
        while name and ordinal < oldest.get(name, NEVER):
            oldest[name] = ordinal
            name = name.rpartition("/")[0]
    return oldest


def declare(state: State, budget: Budget) -> None:
    """An agent's or a run's budget stands in its own right from now on. Nothing may tell how often it was dropped and
    made again before: since when a meter is there matters only to reservations that are older."""
    oldest, base = oldest_below(state).get(budget.name, NEVER), budget.base
    for meter in budget.meters:
        if oldest >= meter.since:
            meter.since = 0
    if base is not None:
        budget.base, base.made = None, base.made - 1


def adopt(parent: Budget, child: Budget) -> None:
    if parent.children is CHILDLESS:
        parent.children = {}
    parent.children[child.name] = child


def _above_made(state: State, budget: Budget) -> Budget:
    """What a run's budget stands below: the agent's, where agents have some, or like that the declared one."""
    base = budget.base
    assert base is not None
    above = budget.name.rpartition("/")[0]
    return base if above == base.name or base.spec.each_agent is None else made(state, above)


# ------------------------------------------------------------------------------------------- agents and runs


def leaf_name(budget: Budget, principal: str, run: str | None) -> str:
    """Where a request for this budget takes from: a budget of the agent's or the run's own, or itself."""
    if run is not None and budget.gives_runs:
        return f"{budget.name}/{principal}/{run}"
    return f"{budget.name}/{principal}" if budget.gives_agents else budget.name


def find(state: State, name: str) -> Budget | None:
    """The budget of this name; made below its declared one if it is not there. None if nothing gives it."""
    found = state.budgets.get(name)
    if found is not None:
        return found
    above = name.rpartition("/")[0]
    parent = state.budgets.get(above)
    if parent is not None and parent.base is None and parent.gives and parent.spec.each_agent is not None:
        return _make(state, name, parent, parent, parent.spec.each_agent)
    base = state.budgets.get(above.rpartition("/")[0])
    template = base.spec.each_run if base is not None and base.base is None else None
    if base is None or template is None:
        return None
    agent = find(state, above) if base.spec.each_agent is not None else base
    return None if agent is None else _make(state, name, agent, base, template)


def made(state: State, name: str) -> Budget:
    """As `find`, of what is known to be there."""
    budget = find(state, name)
    assert budget is not None, f"there is no budget {name}"
    return budget


def _make(state: State, name: str, parent: Budget, base: Budget, template: ChildSpec) -> Budget:
    budget = Budget(child_spec(base.spec, name, template), state.live, base)
    budget.parent = parent
    if state.lost_at >= 0 and not seeded(bugs.MADE_FRESH):
        budget.recovering_until = safe_at(budget, state.lost_at)
    budget.depth = parent.depth + 1
    adopt(parent, budget)
    state.budgets[name] = budget
    base.made += 1
    return budget


def safe_at(budget: Budget, now: int) -> int:
    """When everything that lost grants may have allowed is over and has left the windows; a lost lease may be spent
    until its end."""
    now += budget.lease_ms and budget.lease_ms + drift_ms(budget.lease_ms)
    return max((meter.safe_at(now, budget.spec.max_ttl_ms) for meter in budget.meters), default=now)


def child_spec(base: BudgetSpec, name: str, template: ChildSpec) -> BudgetSpec:
    """The rules of an agent's or a run's budget: limits and weight of its own, everything else as the base has it."""
    ours = {"limits": template.limits, "weight": template.weight, "parent": None, "also": ()}
    own = base.model_copy(update={**ours, "each_agent": None, "each_run": None})
    return own.model_copy(update={"name": name})


def drop(state: State, budget: Budget) -> None:
    del state.budgets[budget.name]
    if budget.parent is not None:
        budget.parent.children.pop(budget.name, None)
    if budget.base is not None:
        budget.base.made -= 1


# ------------------------------------------------------------------------------------------- what is wrong


def fault_of(spec: BudgetSpec) -> str | None:
    """What is wrong with a budget beyond its shape; None if nothing."""
    if not spec.limits and spec.parent is None and spec.each_agent is None and spec.each_run is None:
        return "it limits nothing"
    fault = _fault_of_limits(spec, spec.limits)
    for each, template in (("each_agent", spec.each_agent), ("each_run", spec.each_run)):
        if fault is None and template is not None:
            below = _fault_of_limits(spec, template.limits) or _fault_of_purse(spec, template)
            fault = None if below is None else f"{each}: {below}"
    if fault is None and spec.name.count("/") > 5 and (spec.each_agent is not None or spec.each_run is not None):
        return "its name has too many parts to give agents or runs budgets of their own"
    return fault


def _fault_of_purse(spec: BudgetSpec, template: ChildSpec) -> str | None:
    """A budget that comes and goes cannot hold what is spent once."""
    for name, given in template.limits.items():
        levels = any(not limit.window_ms and not limit.in_flight for limit in windows_of(given))
        if levels and (spec.kind == "purse" or name == "usd_micros"):
            return f"{name}: what is spent once needs a budget that is declared"
    return None


def _fault_of_limits(spec: BudgetSpec, limits: Mapping[Dimension, Limits]) -> str | None:
    for name, given in limits.items():
        windows = windows_of(given)
        if len({limit.window_ms for limit in windows}) < len(windows):
            return f"{name}: two limits with the same window"
        for limit in windows:
            fault = _fault_of_limit(spec, name, limit)
            if fault is not None:
                return fault
    return None


def _fault_of_limit(spec: BudgetSpec, name: str, limit: LimitSpec) -> str | None:
    windowed = limit.window_ms > 0
    if spec.kind == "purse":
        return f"{name}: what is spent once has no window" if windowed or limit.in_flight else None
    if limit.in_flight and windowed:
        return f"{name}: what is in flight has no window"
    if name == "concurrent" and windowed:
        return "concurrent counts calls in flight and has no window"
    if name not in ("concurrent", "usd_micros") and not windowed and not limit.in_flight:
        return f"{name} needs a window"
    if limit.charge == "production" and (not windowed or limit.bucket is not None):
        return f"{name}: charge as produced needs a window, and no bucket"
    if limit.bucket is not None and (not windowed or limit.bucket > limit.limit):
        return f"{name}: a bucket needs a window, and is not larger than the limit"
    return None


def fault_of_tree(specs: Mapping[str, BudgetSpec]) -> tuple[str, str] | None:
    """What is wrong between budgets: (which budget, what); None if nothing."""
    for name, spec in specs.items():
        for other in (*((spec.parent,) if spec.parent is not None else ()), *spec.also):
            if other not in specs:
                return name, f"it names {other}, which is not there"
            if other == name:
                return name, "it names itself"
        fault = _fault_of_place(specs, name)
        if fault is not None:
            return name, fault
    return None


def _fault_of_place(specs: Mapping[str, BudgetSpec], name: str) -> str | None:
    above = [name]
    while (parent := specs[above[-1]].parent) is not None:
        if parent in above:
            return f"it stands above itself, by way of {', '.join(above[1:]) or parent}"
        if parent not in specs:
            return f"it stands below {parent}, which is not there"
        above.append(parent)
        if len(above) > MAX_DEPTH:
            return f"more than {MAX_DEPTH} levels"
    linked = {link for node in above for link in specs[node].also}
    if linked & set(above):
        return f"it is linked to {min(linked & set(above))}, which stands above it"
    if any(specs[link].also for link in linked):
        return "it is linked to a budget that has links itself"
    if len(above) + sum(_height(specs, link) for link in linked) > MAX_OBJECTS:
        return f"a reservation would take from more than {MAX_OBJECTS} objects"
    return _fault_of_name(specs, name)


def _height(specs: Mapping[str, BudgetSpec], name: str) -> int:
    height, seen = 0, set()
    at: str | None = name
    while at is not None and at in specs and at not in seen:
        seen.add(at)
        height, at = height + 1, specs[at].parent
    return height


def _fault_of_name(specs: Mapping[str, BudgetSpec], name: str) -> str | None:
    """A name below a budget that gives each agent its own belongs to an agent, and so below that budget."""
    parts = name.split("/")
    for count in range(1, len(parts)):
        base = specs.get("/".join(parts[:count]))
        gives = base is not None and (base.each_agent is not None or base.each_run is not None)
        if gives and base is not None and specs[name].parent != base.name:
            return f"its name is one of an agent of {base.name}, so that must be its parent"
    return None
