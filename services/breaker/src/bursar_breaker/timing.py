"""What the passing of time makes due: the ends of permits, of open times, of the steps of ramps, and of orders.

All of them stand in one agenda, by their moment. An entry whose circuit or permit has changed meanwhile is dropped when
its moment comes.
"""

from __future__ import annotations

from typing import Any

from bursar.kernel.bugs import seeded
from bursar_breaker import probing, ramping, steering
from bursar_breaker.bugs import ORDER_NEVER_ENDS
from bursar_breaker.lifecycle import OPEN, ORDERED, RAMPING
from bursar_breaker.state import State


def next_due(state: State, now: int) -> Any:
    """The next thing whose time is over; None when there is none."""
    agenda = state.agenda
    while agenda and agenda[0][0] <= now:
        at, kind, key = agenda[0]
        found = probing.ended(state, key, at) if kind == "lease" else _ended(state, key, at)
        if found is not None:
            return found
        state.drop_first()
    return None


def _ended(state: State, target: str, at: int) -> Any:
    circuit = state.circuits.get(target)
    if circuit is None or circuit.until != at:
        return None
    if circuit.state == OPEN:
        return probing.HalfOpen(target)
    if circuit.state == RAMPING:
        return ramping.Step(target)
    if circuit.state in ORDERED and not seeded(ORDER_NEVER_ENDS):
        return steering.OrderOver(target)
    return None
