"""What if: how many of these would fit now, and when the next, on a copy of what they would take from.

The copy has the meters of that path as they are, or as they would be under other rules; of the reservations in flight
only the times are copied. So a question costs no more than the requests that it asks about, and changes nothing.
"""

from __future__ import annotations

from collections import ChainMap
from typing import Any, cast

from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter import DIMENSIONS, BudgetSpec
from bursar.contracts.limiter_control import Simulate
from bursar.kernel.decider import Command, Fence, Outcome, Refuse, Reject
from bursar_limiter import reloading, tree
from bursar_limiter.asking import find_path
from bursar_limiter.budget import Budget, Reservation
from bursar_limiter.dimensions import NOTHING, from_amounts
from bursar_limiter.meter import Admission, Meter
from bursar_limiter.path import Path
from bursar_limiter.refusal import obstacle, sentence, too_large
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State


def decide_simulate(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Simulate = command.body
    budget = state.budgets.get(body.budget)
    if budget is None or not budget.is_offered:
        return unknown_budget(state, body.budget)
    found = find_path(state, budget, command.principal, body.run, body.also)
    if isinstance(found, Reject):
        return found
    fault = _fault(found, body.changed)
    if fault is not None:
        return fault
    path = _copy(state, found, {spec.name: spec for spec in body.changed}, now)
    amounts = from_amounts(body.amounts)
    fits = 0
    expires_at = now + min(body.ttl_ms, path.max_ttl)
    while fits < body.count and path.fits(now, amounts):
        path.take(now, amounts)
        fits += 1
        path.leaf.count += 1
        path.leaf.live[f"?{fits}"] = Reservation(path.leaf.name, "", now, expires_at, amounts, -1, path.also)
        for node in path.watchers:
            node.track(expires_at, f"?{fits}")
    what = too_large(path, amounts) or obstacle(path, amounts, now, NOTHING)
    return Refuse(
        {
            "ok": True,
            "now_ms": now,
            "asked": body.count,
            "fits": fits,
            "waiting": found.leaf.waiting,
            "object": None if what.node is None else what.node.name,
            "dimension": None if what.meter is None else DIMENSIONS[what.meter.index],
            "retry_at_ms": what.retry_at,
            "text": sentence(path, amounts, now, what),
            "rooms": [_room(node, meter, now) for node in path.nodes for meter in node.meters],
        }
    )


def _fault(path: Path, changed: tuple[BudgetSpec, ...]) -> Reject | None:
    names = {node.name for node in path.nodes}
    for spec in changed:
        if spec.name not in names:
            return Reject("not_on_path", f"The request does not take from {spec.name}.", {"budget": spec.name})
        fault = tree.fault_of(spec)
        if fault is not None:
            return Reject("bad_budget", f"Budget {spec.name}: {fault}.", {"budget": spec.name})
    return None


def _copy(state: State, path: Path, changed: dict[str, BudgetSpec], now: int) -> Path:
    """The same objects in the same places, with meters of their own."""
    live = cast(dict[str, Reservation], ChainMap({}, state.live))
    copies = {node.name: _copied(node, live, now) for node in path.nodes}
    for node in path.nodes:
        copy = copies[node.name]
        if node.name in changed:
            reloading.change(copy, changed[node.name], now, state.ordinal)
            for meter in copy.meters:
                if isinstance(meter, Admission) and meter.aside == 0:
                    meter.set_aside(_aside(node, meter.index))
                in_flight = next((had.in_flight for had in node.meters if had.index == meter.index), 0)
                if meter.in_flight != in_flight:
                    meter.adopt(in_flight - meter.in_flight)
        copy.parent = None if node.parent is None else copies[node.parent.name]
        copy.links = tuple(copies[link.name] for link in node.links)
    return Path(copies[path.leaf.name], path.also, [copies[link.name] for link in path.links])


def _aside(node: Budget, index: int) -> int:
    """What is lent of a dimension, and not spent yet."""
    return next((had.aside for had in node.meters if had.index == index and isinstance(had, Admission)), 0)


def _copied(node: Budget, live: dict[str, Reservation], now: int) -> Budget:
    copy = Budget(node.spec, live)
    copy.granted, copy.recovering_until = (node.base or node).granted, node.recovering_until
    copy.count, copy.expiries, copy.holders = node.count, list(node.expiries), node.holders
    for meter, had in zip(copy.meters, node.meters, strict=True):
        meter.load(had.dump(now))
        if had.in_flight:
            meter.adopt(had.in_flight)
        had.age(now)
        meter.age(now)
        if isinstance(had, Admission) and isinstance(meter, Admission):
            meter.aside = had.aside
        meter.room = had.room
    return copy


def _room(node: Budget, meter: Meter, now: int) -> dict[str, Any]:
    return {
        "object": node.name,
        "dimension": DIMENSIONS[meter.index],
        "window_ms": meter.window_ms,
        "limit": meter.limit,
        "headroom": max(0, min(MAX_INT, meter.limit - meter.counted(now))),
        "available": available(meter, now),
    }


def available(meter: Meter, now: int) -> int:
    """How much of it fits now in one go."""
    meter.age(now)
    if now < meter.frozen_until:
        return 0
    level = meter.level_at(now)
    paced = meter.room if not meter.unit or level >= meter.cap else level // meter.unit
    return max(0, min(meter.room, paced))
