"""Applying events: the only writer of the durable state. A reservation that
timed out is remembered with its amounts, because a correction may follow; others without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Event
from bursar_limiter import bugs, events
from bursar_limiter.budget import Budget, Reservation
from bursar_limiter.dimensions import Quantities
from bursar_limiter.lifecycle import CANCELLED, CORRECTED, TIMED_OUT, USED
from bursar_limiter.recovery import apply_adopted, apply_lost
from bursar_limiter.reloading import apply_budgets
from bursar_limiter.state import NOTHING, Ended, State
from bursar_limiter.waiting import UNKNOWN


def apply_granted(state: State, event: Event) -> None:
    _, now, name, key, principal, expires_at, r, i, o, c, u = event
    amounts = (r, i, o, c, u)
    budget = state.budgets[name]
    state.at = now
    for meter in budget.meters:
        amount = amounts[meter.index]
        if amount:
            meter.take(now, amount)
    state.live[key] = Reservation(name, principal, now, expires_at, amounts, budget.charged)
    budget.hold(principal, 1)
    budget.granted += 1
    budget.track(expires_at, key)
    if budget.agenda_at == 0 or expires_at < budget.agenda_at:
        state.schedule(budget)


def apply_settled(state: State, event: Event) -> None:
    _, now, key, r, i, o, c, u = event
    _end(state, now, key, USED, (r, i, o, c, u))


def apply_cancelled(state: State, event: Event) -> None:
    _, now, key = event
    _end(state, now, key, CANCELLED, NOTHING)


def apply_timed_out(state: State, event: Event) -> None:
    _, now, key = event
    _end(state, now, key, TIMED_OUT, NOTHING if seeded(bugs.TIME_OUT_REFUNDS) else state.live[key].amounts)


def _end(state: State, now: int, key: str, how: str, used: Quantities) -> None:
    """Take a reservation out of every meter of its budget, and remember how it ended."""
    state.at = now
    reservation = state.live.pop(key)
    name, principal, granted_at, _, amounts, charged = reservation
    budget = state.budgets[name]
    for meter in budget.meters:
        index = meter.index
        reserved, actual = amounts[index], used[index]
        if reserved or actual:
            meter.end(now, granted_at, reserved, actual, charged >> index & 1)
    budget.hold(principal, -1)
    budget.line.head_at = UNKNOWN
    state.remember(key, Ended(principal, how, now, name, amounts if how is TIMED_OUT else NOTHING))
    if how is USED and seeded(bugs.REFUNDED_TWICE):
        state.live[key] = reservation


def apply_late(state: State, event: Event) -> None:
    """Usage beyond what the time-out had charged is charged now."""
    _, now, key, *used = event
    state.at = now
    ended = state.how_ended(key)
    assert ended is not None, "a late report on a reservation that is not remembered"
    budget = state.budgets.get(ended.budget)
    if budget is not None:
        _correct(budget, now, used, ended.amounts)
    generation = state.ended if key in state.ended else state.ended_before
    generation[key] = Ended(ended.principal, CORRECTED, now, ended.budget, NOTHING)


def _correct(budget: Budget, now: int, used: Sequence[int], charged: Quantities) -> None:
    for meter in budget.meters:
        more = used[meter.index] - charged[meter.index]
        if more > 0:
            meter.correct(now, more)
    budget.line.head_at = UNKNOWN


APPLY: dict[str, Callable[[State, Event], None]] = {
    events.GRANTED: apply_granted,
    events.SETTLED: apply_settled,
    events.CANCELLED: apply_cancelled,
    events.TIMED_OUT: apply_timed_out,
    events.LATE: apply_late,
    events.BUDGETS: apply_budgets,
    events.LOST: apply_lost,
    events.ADOPTED: apply_adopted,
}
