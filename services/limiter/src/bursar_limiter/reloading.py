"""Replacing the set of budgets while calls are in flight.

What is charged and reserved stays so. A budget that is no longer offered is kept aside as long as anything in it
counts, so that its reservations can end and so that it does not come back empty when it is offered again. Where a
change makes something unknowable, the fearful answer is taken:

- a longer window (or J) of a budget in use starts full, since what had left the shorter one is not known any more;
- a reservation made under other rules is not refunded from the new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bursar.contracts.base import Message
from bursar.contracts.limiter import BudgetSpec, Reload
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_limiter import events
from bursar_limiter.budget import Budget
from bursar_limiter.dimensions import MONEY
from bursar_limiter.meter import Admission, Meter, Production, Spent
from bursar_limiter.recovery import fear
from bursar_limiter.state import State
from bursar_limiter.waiting import UNKNOWN


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
    reply = _difference(state, wanted)
    if not source and not any(reply[key] for key in ("added", "changed", "removed")):
        return Refuse(reply)
    specs = [spec.model_dump(mode="json", exclude_defaults=True) for spec in budgets]
    return Accept([(events.BUDGETS, now, source, specs)], reply)


def _difference(state: State, wanted: Mapping[str, BudgetSpec]) -> dict[str, Any]:
    offered = {name: budget.spec for name, budget in state.budgets.items() if not budget.retired}
    return {
        "ok": True,
        "added": [name for name in wanted if name not in offered],
        "changed": [name for name, spec in wanted.items() if name in offered and offered[name] != spec],
        "removed": [name for name in offered if name not in wanted],
    }


def fault_of(spec: BudgetSpec) -> str | None:
    """What is wrong with a budget beyond its shape; None if nothing."""
    if not spec.limits:
        return "it limits nothing"
    for name, limit in spec.limits.items():
        windowed = limit.window_ms > 0
        if name == "concurrent" and windowed:
            return "concurrent counts calls in flight and has no window"
        if name not in ("concurrent", "usd_micros") and not windowed:
            return f"{name} needs a window"
        if limit.charge == "production" and (not windowed or limit.bucket is not None):
            return f"{name}: charge as produced needs a window, and no bucket"
        if limit.bucket is not None and (not windowed or limit.bucket > limit.limit):
            return f"{name}: a bucket needs a window, and is not larger than the limit"
    return None


def digest(budgets: Sequence[BudgetSpec]) -> str:
    """Names the content of a file of budgets."""
    text = json.dumps([spec.model_dump(mode="json") for spec in budgets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def apply_budgets(state: State, event: Event) -> None:
    _, now, source, specs = event
    state.at = now
    state.source = source or state.source
    wanted = {spec["name"]: BudgetSpec.model_validate(spec) for spec in specs}
    for name, budget in list(state.budgets.items()):
        if name not in wanted:
            _retire(state, budget, now)
    for name, spec in wanted.items():
        known = state.budgets.get(name)
        if known is None:
            state.budgets[name] = Budget(spec, state.live)
        else:
            change(known, spec, now)
        fear(state, state.budgets[name], now, is_new=known is None)


def _retire(state: State, budget: Budget, now: int) -> None:
    """No longer offer a budget; who stands in its line is told so (`due` hands them out)."""
    budget.retired = True
    for waiter in list(budget.line.waiters.values()):
        state.send_away(budget, waiter, "")
    if budget.idle(now):
        del state.budgets[budget.name]


def change(budget: Budget, spec: BudgetSpec, now: int) -> None:
    """Give a budget new limits, carrying over what counts."""
    before = {meter.index: meter for meter in budget.meters}
    old = budget.spec
    fresh = Budget(spec, budget.live).meters
    meters, renewed = [], 0
    for meter in fresh:
        had = before.get(meter.index)
        if had is not None and had.spec == meter.spec and _same_rules(old, spec):
            meters.append(had)
            continue
        renewed |= 1 << meter.index
        meter.in_flight = _in_flight(budget, meter.index)
        used_before = budget.granted > 0 or budget.recovering_until > 0
        if had is not None:
            carry(had, meter, now, used_before=used_before)
        elif used_before and isinstance(meter, Admission) and meter.index != MONEY:
            meter.lose(now)  # what the provider has counted so far is not known: it may be the whole limit
        meters.append(meter)
    budget.adopt(spec, tuple(meters))
    budget.retired = False
    budget.line.head_at = UNKNOWN
    _forget_charges(budget, renewed)


def _same_rules(old: BudgetSpec, new: BudgetSpec) -> bool:
    return (old.utilisation_permille, old.burst_permille, old.jitter_ms) == (
        new.utilisation_permille,
        new.burst_permille,
        new.jitter_ms,
    )


def _in_flight(budget: Budget, index: int) -> int:
    return sum(entry.amounts[index] for entry in budget.live.values() if entry.budget == budget.name)


def _forget_charges(budget: Budget, renewed: int) -> None:
    """Reservations made under other rules take nothing back from the new meters."""
    if renewed:
        for key, entry in budget.live.items():
            if entry.budget == budget.name:
                budget.live[key] = entry._replace(charged=entry.charged & ~renewed)


def carry(had: Meter, meter: Meter, now: int, *, used_before: bool) -> None:
    """Bring what counts in a meter into the one that replaces it."""
    if isinstance(had, Spent) and isinstance(meter, Spent):
        meter.total = had.total
    elif isinstance(meter, Spent):
        meter.total = had.counted(now)
    elif isinstance(had, Spent) and isinstance(meter, Admission):
        if had.total:
            meter.ledger.add(now, had.total)
    elif isinstance(had, Admission) and isinstance(meter, Admission):
        _carry_rate(had, meter, now, used_before=used_before)


def _carry_rate(had: Admission, meter: Admission, now: int, *, used_before: bool) -> None:
    meter.ledger.restore(had.ledger.entries(now))
    if isinstance(had, Production) and not isinstance(meter, Production) and meter.in_flight:
        meter.ledger.add(now, meter.in_flight)
    if used_before and meter.ledger.hold > had.ledger.hold:
        meter.lose(now)
    if had.pace is not None and meter.pace is not None:
        meter.pace.level = min(meter.pace.cap, had.pace.level_at(now) // had.pace.unit * meter.pace.unit)
        meter.pace.at = now
    if used_before and meter.burst is not None:
        meter.burst.take(now, meter.burst.capacity)
