"""Ending a reservation: settled with its usage, cancelled, timed out, or corrected by a late report."""

from __future__ import annotations

from heapq import heappop
from typing import Any, NamedTuple

from bursar.contracts.limiter import DIMENSIONS, Settle
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Refuse, Reject
from bursar_limiter import events
from bursar_limiter.budget import Reservation
from bursar_limiter.dimensions import INPUT, NOTHING, OUTPUT, TOTAL, Quantities, from_usage, made
from bursar_limiter.lifecycle import SETTLE_CANCELLED, SETTLE_USED, TIMED_OUT, next_state
from bursar_limiter.state import Ended, State

NAMES_SHOWN = 20
"""How many known budgets an error lists."""


class Expire(NamedTuple):
    """Internal: a reservation has run into its time-out."""

    reservation: str


def decide_settle(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Settle = command.body
    live = state.live.get(body.reservation)
    if live is None:
        return _settle_ended(state, command, now)
    if live.principal != command.principal:
        return _not_yours(body.reservation)
    if live.done is not NOTHING:
        return _settle_after_progress(state, command, live, now)
    if body.outcome == "cancelled":
        reply = _reply(body.reservation, "cancelled", live.amounts, NOTHING)
        return Accept([(events.CANCELLED, now, body.reservation)], reply)
    used = live.amounts if body.usage is None else from_usage(body.usage)
    reply = _reply(body.reservation, "used", live.amounts, used)
    return made(Accept, ([(events.SETTLED, now, body.reservation, *used)], reply, ()))


def _settle_after_progress(state: State, command: Command, live: Reservation, now: int) -> Outcome:
    """What was reported while the call went on was used: the end cannot tell less."""
    body: Settle = command.body
    used = NOTHING if body.outcome == "cancelled" else live.most if body.usage is None else from_usage(body.usage)
    fault = shrinks(body.reservation, live, used)
    if fault is not None:
        return fault
    reply = _reply(body.reservation, "used", live.amounts, used)
    return Accept([(events.SETTLED, now, body.reservation, *used)], reply)


def find_live(state: State, reservation: str, principal: str) -> Reservation | Reject:
    """A reservation of this principal that has not ended; or why not."""
    live = state.live.get(reservation)
    if live is not None:
        return live if live.principal == principal else _not_yours(reservation)
    ended = state.how_ended(reservation)
    if ended is None:
        return unknown_reservation(reservation)
    return _not_yours(reservation) if ended.principal != principal else _already(reservation, ended)


def shrinks(reservation: str, live: Reservation, used: Quantities) -> Reject | None:
    """Whether a report says less than one before."""
    for name, before, so_far in zip(DIMENSIONS, live.done, used, strict=True):
        if so_far < before:
            facts = {"reservation": reservation, "dimension": name, "reported": before}
            return Reject("usage_shrank", f"{before} {name} were reported as used before, and now {so_far}.", facts)
    return None


def _already(reservation: str, ended: Ended) -> Reject:
    facts = {"reservation": reservation, "outcome": ended.state, "ended_at_ms": ended.at}
    return Reject("already_settled", f"Reservation {reservation} has ended: {ended.state}.", facts)


def _settle_ended(state: State, command: Command, now: int) -> Outcome:
    """A report after the end: only one after a time-out changes something, and it can only add."""
    body: Settle = command.body
    ended = state.how_ended(body.reservation)
    if ended is None:
        return unknown_reservation(body.reservation)
    if ended.principal != command.principal:
        return _not_yours(body.reservation)
    what = SETTLE_USED if body.outcome == "used" else SETTLE_CANCELLED
    if next_state(ended.state, what) is None:
        return _already(body.reservation, ended)
    used = NOTHING if body.outcome == "cancelled" or body.usage is None else from_usage(body.usage)
    reply = _reply(body.reservation, TIMED_OUT, ended.amounts, used)
    reply["refunded"] = {}
    return Accept([(events.LATE, now, body.reservation, *used)], reply)


def decide_expire(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    reservation = command.body.reservation
    live = state.live.get(reservation)
    if live is None or live.expires_at > now:
        return Refuse({})
    return Accept([(events.TIMED_OUT, now, reservation)], {})


def next_expired(state: State, now: int) -> str | None:
    """A reservation whose time-out has come."""
    expiries, live = state.expiries, state.live
    while expiries:
        expires_at, reservation = expiries[0]
        if reservation in live:
            return reservation if expires_at <= now else None
        heappop(expiries)
    return None


def unknown_budget(state: State, name: str) -> Reject:
    known = [budget.name for budget in state.budgets.values() if budget.is_offered]
    facts = {"budget": name, "known": known[:NAMES_SHOWN], "count": len(known)}
    return Reject("unknown_budget", f"There is no budget {name}.", facts)


def unknown_reservation(reservation: str) -> Reject:
    text = f"There is no reservation {reservation}; it may have ended long ago, or been lost with the log."
    return Reject("unknown_reservation", text, {"reservation": reservation})


def _not_yours(reservation: str) -> Reject:
    text = f"Reservation {reservation} belongs to another principal."
    return Reject("not_yours", text, {"reservation": reservation})


def _reply(reservation: str, outcome: str, reserved: Quantities, used: Quantities) -> dict[str, Any]:
    """The total of tokens is told only where it was not simply the sum."""
    refunded: dict[str, int] = {}
    overage: dict[str, int] = {}
    if used != reserved:
        for name, before, after in zip(DIMENSIONS, reserved, used):  # noqa: B905 - the hot path
            if after != before:
                if after < before:
                    refunded[name] = before - after
                else:
                    overage[name] = after - before
        if used[TOTAL] - reserved[TOTAL] == used[INPUT] + used[OUTPUT] - reserved[INPUT] - reserved[OUTPUT]:
            refunded.pop("total_tokens", None)
            overage.pop("total_tokens", None)
        refunded.pop("concurrent", None)
    return {"ok": True, "reservation": reservation, "outcome": outcome, "refunded": refunded, "overage": overage}
