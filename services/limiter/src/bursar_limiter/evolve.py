"""Applying events: the only writer of the durable state. A reservation that
timed out is remembered with its amounts, because a correction may follow; others without."""

from __future__ import annotations

from collections.abc import Callable
from operator import sub
from typing import Final

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Event
from bursar.kernel.rights import RIGHTS, apply_rights
from bursar_limiter import bugs, events, tree
from bursar_limiter.adjusting import apply_adjusted
from bursar_limiter.budget import Reservation
from bursar_limiter.dimensions import NOTHING, Quantities, as_quantities, made
from bursar_limiter.lifecycle import CANCELLED, CORRECTED, TIMED_OUT, USED
from bursar_limiter.progressing import apply_progress
from bursar_limiter.recovery import apply_adopted, apply_lost
from bursar_limiter.reloading import apply_budgets
from bursar_limiter.spending import spend
from bursar_limiter.state import Ended, State

WITHOUT_OBJECTS: Final = 13
"""The length of a grant that names no other objects."""


def apply_granted(state: State, event: Event) -> None:
    objects: tuple[str, ...] = ()
    if len(event) == WITHOUT_OBJECTS:
        _, now, name, key, principal, expires_at, r, i, o, c, u, t, b = event
    else:
        _, now, name, key, principal, expires_at, r, i, o, c, u, t, b, *also = event
        objects = tuple(also)
    amounts = (r, i, o, c, u, t, b)
    budget = state.budgets.get(name) or tree.made(state, name)
    state.at = now
    state.ordinal = ordinal = state.ordinal + 1
    path = (budget.path or state.path_of(budget)) if not objects else state.path_of(budget, objects)
    path.take(now, amounts)
    (budget.base or budget).granted += 1
    reservation = made(Reservation, (name, principal, now, expires_at, amounts, ordinal, objects, NOTHING))
    state.begin(key, path, reservation)


def apply_settled(state: State, event: Event) -> None:
    _, now, key, r, i, o, c, u, t, b = event
    _end(state, now, key, USED, (r, i, o, c, u, t, b))


def apply_cancelled(state: State, event: Event) -> None:
    _, now, key = event
    _end(state, now, key, CANCELLED, NOTHING)


def apply_timed_out(state: State, event: Event) -> None:
    _, now, key = event
    _end(state, now, key, TIMED_OUT, NOTHING if seeded(bugs.TIME_OUT_REFUNDS) else state.live[key].most)


def _end(state: State, now: int, key: str, how: str, used: Quantities) -> None:
    """Take a reservation out of every meter of its path, and remember how it ended."""
    state.at = now
    reservation = state.live.pop(key)
    name, principal, granted_at, _, amounts, ordinal, also, done = reservation
    budget = state.budgets[name]
    path = (budget.path if not also else None) or state.path_of(budget, also)
    if done is NOTHING:
        path.end(now, granted_at, amounts, used, ordinal)
    else:
        path.end_after(now, granted_at, reservation.most, done, used, ordinal)
    path.leaf.release(principal)
    if used is not NOTHING:
        spend(state, budget, principal, used)
    if state.standing:
        state.mark(path)
    charged = NOTHING if how is not TIMED_OUT else reservation.most
    state.remember(key, now, made(Ended, (principal, how, now, name, charged, also)))
    if how is USED and seeded(bugs.REFUNDED_TWICE):
        state.live[key] = reservation


def apply_late(state: State, event: Event) -> None:
    """Usage beyond what the time-out had charged is charged now."""
    _, now, key, *used = event
    state.at = now
    ended = state.how_ended(key)
    assert ended is not None, "a late report on a reservation that is not remembered"
    budget = tree.find(state, ended.budget)
    if budget is not None:
        path = state.path_of(budget, ended.also)
        more = tuple(map(sub, used, ended.amounts))
        path.correct(now, more)
        spend(state, budget, ended.principal, as_quantities(max(0, amount) for amount in more))
        state.changed(path)
    generation = state.ended if key in state.ended else state.ended_before
    generation[key] = Ended(ended.principal, CORRECTED, now, ended.budget, NOTHING)


APPLY: dict[str, Callable[[State, Event], None]] = {
    events.GRANTED: apply_granted,
    events.SETTLED: apply_settled,
    events.CANCELLED: apply_cancelled,
    events.TIMED_OUT: apply_timed_out,
    events.LATE: apply_late,
    events.BUDGETS: apply_budgets,
    events.LOST: apply_lost,
    events.ADOPTED: apply_adopted,
    events.PROGRESS: apply_progress,
    events.ADJUSTED: apply_adjusted,
    RIGHTS: apply_rights,
}
