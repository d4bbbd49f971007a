"""Who holds what of a budget now: reservations and leases by principal, and what each has used of its own part.

A reservation or lease counts for the budget that it names and for all above it, so those of budgets below are told with
it. Use is known by principal only where a budget gives each agent its own (`each_agent`): the windows of a shared
budget count what was used, and not by whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter import DIMENSIONS
from bursar.contracts.limiter_control import Holders
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_limiter.budget import Budget
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State

LOOKED_AT: Final = 20_000
"""Reservations, and leases, that are looked at for one answer."""
MOST: Final = 100
"""Principals that are told, those that hold most first."""


class _Held:
    """What one principal holds."""

    def __init__(self) -> None:
        self.reservations = 0
        self.leases = 0
        self.reserved = [0] * len(DIMENSIONS)
        self.leased = [0] * len(DIMENSIONS)
        self.used = [0] * len(DIMENSIONS)

    @property
    def count(self) -> int:
        return self.reservations + self.leases

    def told(self, principal: str) -> dict[str, Any]:
        return {
            "principal": principal,
            "reservations": self.reservations,
            "leases": self.leases,
            "reserved": _named(self.reserved),
            "leased": _named(self.leased),
            "used": _named(self.used),
        }


def decide_holders(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Holders = command.body
    found = state.budgets.get(body.budget)
    if found is None or not found.is_offered:
        return unknown_budget(state, body.budget)
    held = _held(state, found, now)
    names = sorted(held, key=lambda name: (-held[name].count, name))
    rows = [held[name].told(name) for name in names[:MOST]]
    return Refuse({"ok": True, "now_ms": now, "holders": rows, "more": len(names) - len(rows)})


def _held(state: State, budget: Budget, now: int) -> dict[str, _Held]:
    held: dict[str, _Held] = {}
    for reservation in islice(budget.live.values(), LOOKED_AT):
        if _is_below(state, reservation.budget, budget):
            of = held.setdefault(reservation.principal, _Held())
            of.reservations += 1
            _add(of.reserved, reservation.most)
    for record in islice(state.leases.records.values(), LOOKED_AT):
        if _is_below(state, record.budget, budget):
            of = held.setdefault(record.principal, _Held())
            of.leases += 1
            _add(of.leased, record.counts)
    for principal, own in _own_parts(budget):
        of = held.setdefault(principal, _Held())
        for meter in own.meters:
            of.used[meter.index] = max(of.used[meter.index], meter.charged(now))
    return held


def _is_below(state: State, name: str, budget: Budget) -> bool:
    node = state.budgets.get(name)
    return node is not None and any(above is budget for above in node.ancestors())


def _own_parts(budget: Budget) -> Iterator[tuple[str, Budget]]:
    """(principal, its own part), where the budget gives each agent one."""
    for name, child in budget.children.items():
        if child.base is budget and budget.gives_agents:
            yield name.rpartition("/")[2], child


def _add(sums: list[int], amounts: Sequence[int]) -> None:
    for index, amount in enumerate(amounts):
        sums[index] += max(0, amount)


def _named(sums: Sequence[int]) -> dict[str, int]:
    """By dimension, what there is of it; a total that only adds up the others says nothing new."""
    told: dict[str, int] = {DIMENSIONS[index]: min(MAX_INT, amount) for index, amount in enumerate(sums) if amount}
    if told.get("total_tokens") == told.get("input_tokens", 0) + told.get("output_tokens", 0):
        told.pop("total_tokens", None)
    return told
