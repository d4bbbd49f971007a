"""Queries: how much room there is, and what time it is. They change nothing."""

from __future__ import annotations

from typing import Any

from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter import DIMENSIONS, Status
from bursar.kernel.decider import Command, Fence, Outcome, Refuse, Reject
from bursar_limiter.asking import find_path
from bursar_limiter.budget import Budget
from bursar_limiter.meter import Meter
from bursar_limiter.settling import unknown_budget
from bursar_limiter.simulating import available
from bursar_limiter.state import State


def decide_clock(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    return Refuse({"ok": True, "now_ms": now})


def decide_status(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Status = command.body
    if body.budget is None:
        offered = [budget for budget in state.budgets.values() if budget.is_offered]
    else:
        found = state.budgets.get(body.budget)
        if found is None or found.retired:
            return unknown_budget(state, body.budget)
        offered = [found]
        if body.path:
            path = find_path(state, found, command.principal, body.run, body.also) if found.is_offered else None
            if isinstance(path, Reject):
                return path
            offered = list((path or state.path_of(found)).nodes)
    return Refuse(
        {
            "ok": True,
            "now_ms": now,
            "recovering": any(now < budget.recovering_until for budget in offered),
            "budgets": [_budget(state, budget, now) for budget in offered],
        }
    )


def _budget(state: State, budget: Budget, now: int) -> dict[str, Any]:
    return {
        "name": budget.name,
        "parent": None if budget.parent is None else budget.parent.name,
        "dimensions": {_key(budget, meter): _dimension(state, budget, meter, now) for meter in budget.meters},
        "weight": budget.weight,
        "below": len(budget.children),
        "reservations": budget.count,
        "waiting": budget.waiting,
        "granted": budget.granted,
        "refused": budget.refused,
    }


def _key(budget: Budget, meter: Meter) -> str:
    """The dimension; with its window for all but the first of several limits."""
    first = next(other for other in budget.meters if other.index == meter.index)
    name = DIMENSIONS[meter.index]
    return name if first is meter else f"{name}/{meter.window_ms}"


def _dimension(state: State, budget: Budget, meter: Meter, now: int) -> dict[str, int]:
    watch = state.adapting.watches.get((budget.name, (meter.index, meter.window_ms)))
    return {
        "limit": meter.limit,
        "window_ms": meter.window_ms,
        "used": min(MAX_INT, meter.charged(now)),
        "in_flight": min(MAX_INT, meter.in_flight),
        "headroom": max(0, meter.limit - meter.counted(now)),
        "debt": min(MAX_INT, meter.debt(now)),
        "available": min(MAX_INT, available(meter, now)),
        "pace_per_s": min(MAX_INT, meter.rate * 1000 // meter.unit) if meter.unit else 0,
        "configured": meter.ceiling,
        "frozen_in_ms": max(0, meter.frozen_until - now),
        "pace_permille": meter.tuned,
        "foreign_used": 0 if watch is None else min(MAX_INT, watch.foreign_within(now, meter.window_ms)),
    }
