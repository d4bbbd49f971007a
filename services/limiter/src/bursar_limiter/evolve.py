"""Applying events: the only writer of the durable state. Every function takes the event's fields after its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bursar_limiter import events
from bursar_limiter.budget import Budget, Reservation
from bursar_limiter.dimensions import Quantities
from bursar_limiter.lifecycle import CANCELLED, CORRECTED, TIMED_OUT, USED
from bursar_limiter.recovery import apply_adopted, apply_lost
from bursar_limiter.reloading import apply_budgets
from bursar_limiter.settling import ended_record
from bursar_limiter.state import NOTHING, State
from bursar_limiter.waiting import UNKNOWN


def apply_granted(
    state: State, now: int, name: str, reservation: str, principal: str, expires_at: int, *amounts: int
) -> None:
    budget = state.budgets[name]
    state.at = now
    for meter in budget.meters:
        amount = amounts[meter.index]
        if amount:
            meter.take(now, amount)
    state.live[reservation] = Reservation(name, principal, now, expires_at, amounts, budget.charged)  # type: ignore[arg-type]
    budget.count += 1
    budget.granted += 1
    budget.track(expires_at, reservation)
    if budget.agenda_at == 0 or expires_at < budget.agenda_at:
        state.schedule(budget)


def apply_settled(state: State, now: int, reservation: str, *used: int) -> None:
    _end(state, now, reservation, USED, used)


def apply_cancelled(state: State, now: int, reservation: str) -> None:
    _end(state, now, reservation, CANCELLED, NOTHING)


def apply_timed_out(state: State, now: int, reservation: str) -> None:
    _end(state, now, reservation, TIMED_OUT, state.live[reservation].amounts)


def _end(state: State, now: int, key: str, how: str, used: tuple[int, ...]) -> None:
    """Take a reservation out of every meter of its budget, and remember how it ended."""
    state.at = now
    name, principal, granted_at, _, amounts, charged = state.live.pop(key)
    budget = state.budgets[name]
    for meter in budget.meters:
        index = meter.index
        reserved, actual = amounts[index], used[index]
        if reserved or actual:
            meter.end(now, granted_at, reserved, actual, bool(charged >> index & 1))
    budget.count -= 1
    budget.line.head_at = UNKNOWN
    state.remember(key, ended_record(principal, how, now, name, amounts))


def apply_late(state: State, now: int, reservation: str, *used: int) -> None:
    """Usage beyond what the time-out had charged is charged now."""
    state.at = now
    ended = state.how_ended(reservation)
    assert ended is not None, "a late report on a reservation that is not remembered"
    budget = state.budgets.get(ended.budget)
    if budget is not None:
        _correct(budget, now, used, ended.amounts)
    generation = state.ended if reservation in state.ended else state.ended_before
    generation[reservation] = ended_record(ended.principal, CORRECTED, now, ended.budget, NOTHING)


def _correct(budget: Budget, now: int, used: tuple[int, ...], charged: Quantities) -> None:
    for meter in budget.meters:
        more = used[meter.index] - charged[meter.index]
        if more > 0:
            meter.correct(now, more)
    budget.line.head_at = UNKNOWN


APPLY: dict[str, Callable[..., Any]] = {
    events.GRANTED: apply_granted,
    events.SETTLED: apply_settled,
    events.CANCELLED: apply_cancelled,
    events.TIMED_OUT: apply_timed_out,
    events.LATE: apply_late,
    events.BUDGETS: apply_budgets,
    events.LOST: apply_lost,
    events.ADOPTED: apply_adopted,
}
