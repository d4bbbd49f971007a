"""Replacing the set of budgets while calls are in flight.

What is charged and reserved stays so. A budget that is no longer offered is kept aside as long as anything in it
counts, so that its reservations can end and so that it does not come back empty when it is offered again. Where a
change makes something unknowable, the fearful answer is taken:

- a longer window (or J) of a budget in use starts full, since what had left the shorter one is not known any more;
- an object that stands above what has been used elsewhere starts full;
- a reservation made under other rules, or below other objects, is not refunded from the new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bursar.contracts.base import Message
from bursar.contracts.limiter import DIMENSIONS, BudgetSpec, LimitSpec, Reload, windows_of
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_limiter import bugs, events, lining, resting, tree
from bursar_limiter.budget import NO_TIMES, Budget
from bursar_limiter.dimensions import MONEY
from bursar_limiter.meter import Admission, Meter, Production, Spent, meters_of
from bursar_limiter.parts import PARTS, holdings
from bursar_limiter.recovery import fear
from bursar_limiter.state import State
from bursar_limiter.tree import fault_of, fault_of_tree


class LoadFile(Message):
    """Internal, at the start: offer the budgets of the file, unless this content of the file was loaded before
    (so that a restart does not undo what an operator has reloaded since)."""

    budgets: tuple[BudgetSpec, ...]


def decide_reload(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Reload = command.body
    return _decide(state, body.budgets, "", now)


def decide_load_file(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    budgets = command.body.budgets
    source = digest(budgets)
    if source == state.source:
        return Refuse({"ok": True, "added": [], "changed": [], "removed": []})
    return _decide(state, budgets, source, now)


def _decide(state: State, budgets: Sequence[BudgetSpec], source: str, now: int) -> Outcome:
    for spec in budgets:
        fault = fault_of(spec)
        if fault is not None:
            return Reject("bad_budget", f"Budget {spec.name}: {fault}.", {"budget": spec.name})
    wanted = {spec.name: spec for spec in budgets}
    if len(wanted) < len(budgets):
        return Reject("bad_budget", "Two budgets have the same name.", {})
    wrong = fault_of_tree(wanted)
    if wrong is not None:
        return Reject("bad_budget", f"Budget {wrong[0]}: {wrong[1]}.", {"budget": wrong[0]})
    reply = _difference(state, wanted)
    if not source and not any(reply[key] for key in ("added", "changed", "removed")):
        return Refuse(reply)
    specs = [spec.model_dump(mode="json", exclude_defaults=True) for spec in budgets]
    return Accept([(events.BUDGETS, now, source, specs)], reply)


def _difference(state: State, wanted: Mapping[str, BudgetSpec]) -> dict[str, Any]:
    offered = {name: budget.spec for name, budget in state.budgets.items() if budget.is_offered}
    return {
        "ok": True,
        "added": [name for name in wanted if name not in offered],
        "changed": [name for name, spec in wanted.items() if name in offered and offered[name] != spec],
        "removed": [name for name in offered if name not in wanted],
    }


def digest(budgets: Sequence[BudgetSpec]) -> str:
    """Names the content of a file of budgets."""
    text = json.dumps([spec.model_dump(mode="json") for spec in budgets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def apply_budgets(state: State, event: Event) -> None:
    _, now, source, specs = event
    state.at = now
    state.source = source or state.source
    wanted = {spec["name"]: BudgetSpec.model_validate_json(json.dumps(spec)) for spec in specs}
    aside, leased = resting.forget(state, now), state.leases.leaves()
    above = {name: state.path_of(budget).nodes for name, budget in state.budgets.items()}
    lowest_first = sorted(state.budgets.values(), key=lambda budget: (-budget.depth, budget.name))
    declared = [budget for budget in lowest_first if budget.base is None]
    for budget in lowest_first:
        if budget.base is not None and budget.name not in wanted:
            _renew_made(state, budget, wanted, leased, now)
    for budget in declared:
        if budget.name not in wanted:
            _retire(state, budget, leased, now)
    for spec in wanted.values():
        _offer(state, spec, now)
    _settle_in(state, above, aside, now)


def replace_one(state: State, spec: BudgetSpec, now: int) -> None:
    """One budget has these rules from now on, or is new; agents' and runs' budgets of it follow."""
    aside, leased = resting.forget(state, now), state.leases.leaves()
    above = {name: state.path_of(budget).nodes for name, budget in state.budgets.items()}
    for budget in list(state.budgets.values()):
        if budget.base is not None and budget.base.name == spec.name:
            _renew_made(state, budget, {spec.name: spec}, leased, now)
    _offer(state, spec, now)
    _settle_in(state, above, aside, now)


def _offer(state: State, spec: BudgetSpec, now: int) -> None:
    """A declared budget with these rules. One that was made for an agent before, and is at rest, is like a new one,
    whether it is still there or not."""
    known = state.budgets.get(spec.name)
    base = None if known is None else known.base
    if known is None:
        known, is_new = Budget(spec, state.live), True
        state.budgets[spec.name] = known
    else:
        is_new = base is not None and known.at_rest(now)
        if base is not None:
            known.granted = 0 if is_new else base.granted
            tree.declare(state, known)
        if is_new:
            known.recovering_until = 0
            known.adopt(spec, meters_of(spec.limits, spec))
        else:
            change(known, spec, now, state.ordinal)
    fear(state, known, now, is_new=is_new)


def _settle_in(state: State, above: Mapping[str, tuple[Budget, ...]], aside: Mapping[str, Budget], now: int) -> None:
    """The budgets have their new rules: find their places, and count what is in flight there."""
    tree.connect(state)
    _move(state, above, now)
    _count_again(state)
    for part in PARTS:
        part.reloaded(state, now)
    resting.seat(state, aside, now)
    lining.rebuild(state, now)


def _renew_made(state: State, budget: Budget, wanted: Mapping[str, BudgetSpec], leased: set[str], now: int) -> None:
    """An agent's or a run's budget follows its base. Where that gives it no more it stays aside with what counts in
    it. One at rest is like a new one."""
    base = budget.base
    assert base is not None
    spec, template = wanted.get(base.name), None
    if spec is not None:
        is_agent = budget.name.count("/") == base.name.count("/") + 1
        template = spec.each_agent if is_agent else spec.each_run
    if spec is not None and template is not None:
        own = tree.child_spec(spec, budget.name, template)
        if budget.at_rest(now):
            budget.adopt(own, meters_of(own.limits, own))
        else:
            change(budget, own, now, state.ordinal)
        budget.recovering_until = tree.safe_at(budget, state.lost_at) if state.lost_at >= 0 else 0
    else:
        tree.declare(state, budget)
        budget.adopt(budget.spec.model_copy(update={"parent": base.name}), budget.meters)
        _retire(state, budget, leased, now, "over_limit" if spec is not None else "")


def _retire(state: State, budget: Budget, leased: set[str], now: int, why: str = "") -> None:
    """No longer offer a budget; who stands in its line is told so (`due` hands them out). It stays while anything in it
    counts, stands below it, or is lent from it."""
    budget.retired = True
    for waiter in list(budget.line.waiters.values() if budget.has_line else ()):
        lining.send_away(state, budget, waiter, why, now)
    if budget.idle(now) and not budget.children and budget.name not in leased:
        tree.drop(state, budget)


def change(budget: Budget, spec: BudgetSpec, now: int, ordinal: int) -> None:
    """Give a budget new limits, carrying over what counts."""
    before = {(meter.index, meter.window_ms): meter for meter in budget.meters}
    old, used_before = budget.spec, _was_used(budget)
    same = _same_rules(old, spec)
    meters = []
    for meter in meters_of(spec.limits, spec):
        had = before.get((meter.index, meter.window_ms)) or _likest(budget.meters, meter)
        if had is not None and same and _limit_of(old, had) == _limit_of(spec, meter):
            meters.append(had)
            continue
        meter.since = 0 if seeded(bugs.REFUND_AFTER_RELOAD) else ordinal + 1
        if had is not None:
            carry(had, meter, now, used_before=used_before)
        elif used_before and isinstance(meter, Admission) and meter.index != MONEY:
            meter.lose(now)  # what the provider has counted so far is not known: it may be the whole limit
        meters.append(meter)
    budget.adopt(spec, tuple(meters))
    budget.retired = False


def _was_used(budget: Budget) -> bool:
    """Whether anything was ever granted in it or below. What runs were granted below an agent's budget that stands in
    its own right is counted at the one that gives them theirs."""
    above = budget.parent
    gives_it_runs = above is not None and above.gives_runs and budget.name.startswith(f"{above.name}/")
    counted = (budget, budget.base or budget, above if above is not None and gives_it_runs else budget)
    return any(node.granted > 0 or node.recovering_until > 0 for node in counted) or any(
        _was_used(child) for child in budget.children.values()
    )


def _likest(meters: Sequence[Meter], meter: Meter) -> Meter | None:
    """What counts the same dimension in the next longer window, or else in the longest."""
    same = [had for had in meters if had.index == meter.index]
    longer = [had for had in same if had.window_ms >= meter.window_ms]
    return longer[0] if longer else same[-1] if same else None


def _limit_of(spec: BudgetSpec, meter: Meter) -> LimitSpec | None:
    given = spec.limits.get(DIMENSIONS[meter.index])
    found = [] if given is None else [limit for limit in windows_of(given) if limit.window_ms == meter.window_ms]
    return found[0] if found else None


def _same_rules(old: BudgetSpec, new: BudgetSpec) -> bool:
    return (old.utilisation_permille, old.burst_permille, old.jitter_ms, old.kind) == (
        new.utilisation_permille,
        new.burst_permille,
        new.jitter_ms,
        new.kind,
    )


def _move(state: State, above: Mapping[str, tuple[Budget, ...]], now: int) -> None:
    """Whatever has been used below other objects counts in those above it now: nobody knows how much of it they would
    have counted, so their windows start full; and what is in flight takes nothing back from them."""
    moved = set()
    for name, before in above.items():
        budget = state.budgets.get(name)
        if budget is None or budget.retired:
            continue
        gained = [node for node in state.path_of(budget).nodes if node not in before]
        if gained and (_was_used(budget) or budget.count) and not seeded(bugs.MOVES_FREE):
            moved.add(name)
            for meter in (meter for node in gained for meter in node.meters if isinstance(meter, Admission)):
                if meter.index != MONEY:
                    meter.lose(now)
    for key, entry in state.live.items():
        if entry.budget in moved:
            state.live[key] = entry._replace(ordinal=-1)


def _count_again(state: State) -> None:
    """What is in flight in every object, from the reservations."""
    for budget in state.budgets.values():
        budget.expiries, budget.tidy_at = NO_TIMES, 0
        for meter in budget.meters:
            meter.release()
    for leaf, also, amounts, done in holdings(state):
        state.path_of(state.budgets[leaf], also).adopt(amounts, done)
    for key, entry in state.live.items():
        for node in state.path_of(state.budgets[entry.budget], entry.also).watchers:
            node.track(entry.expires_at, key)


def carry(had: Meter, meter: Meter, now: int, *, used_before: bool) -> None:
    """Bring what counts in a meter into the one that replaces it."""
    if isinstance(had, Spent) and isinstance(meter, Spent):
        meter.room = meter.limit - had.total
    elif isinstance(meter, Spent):
        meter.room = meter.limit - had.counted(now)
    elif isinstance(had, Spent) and isinstance(meter, Admission):
        if had.total:
            meter.add(now, had.total)
    elif isinstance(had, Admission) and isinstance(meter, Admission):
        _carry_rate(had, meter, now, used_before=used_before)


def _carry_rate(had: Admission, meter: Admission, now: int, *, used_before: bool) -> None:
    meter.restore(had.entries(now))
    if isinstance(had, Production) and not isinstance(meter, Production) and had.in_flight:
        meter.add(now, had.in_flight)
    if used_before and meter.span.hold > had.span.hold:
        meter.lose(now)
    if had.unit and meter.unit:
        meter.tune(now, had.tuned)
        level = min(meter.cap, had.level_at(now) // had.unit * meter.unit)
        meter.zero = now * meter.rate - level
    if had.frozen_until > now:
        meter.freeze(had.frozen_until)
    if used_before and meter.burst is not None:
        meter.burst.take(now, meter.burst.capacity)
