"""What operators do: force a circuit open or closed, disable it or only watch it, and give it back to the rules.

What is ordered moves by nothing but another order, or the end of the time that it was given for. Every order is an
event with who gave it and why, even one that changes nothing: the journal is the audit, and the history of the circuit
tells it. A note changes nothing but the note.
"""

from __future__ import annotations

from typing import NamedTuple

from bursar.contracts.breaker import ALL, Annotate, Disable, ForceClose, ForceOpen, MetricsOnly, Release, Reset
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Reject
from bursar_breaker import events
from bursar_breaker.lifecycle import (
    ANNOTATE,
    DISABLE,
    FORCE_CLOSE,
    FORCE_OPEN,
    FORCED_OPEN,
    ONLY_METRICS,
    OPEN,
    ORDER_OVER,
    ORDERED,
    RELEASE,
    RESET,
    TRANSITIONS,
)
from bursar_breaker.state import Circuit, State
from bursar_breaker.telling import changed, described

_CAUSES = {
    ForceOpen: FORCE_OPEN,
    ForceClose: FORCE_CLOSE,
    Disable: DISABLE,
    MetricsOnly: ONLY_METRICS,
    Release: RELEASE,
    Reset: RESET,
    Annotate: ANNOTATE,
}
Order = ForceOpen | ForceClose | Disable | MetricsOnly | Release | Reset | Annotate


class OrderOver(NamedTuple):
    """Internal: the time that an order was given for is over."""

    target: str


def decide_steer(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Order = command.body
    if not state.rules.knows(body.target):
        return Reject("unknown_group", "There is no such group.", {"target": body.target})
    if body.target not in state.circuits and state.is_full:
        return Reject("too_many", "The registry has no room for another circuit.", {"circuits": len(state.circuits)})
    if isinstance(body, Release) and state.state_of(body.target) not in ORDERED:
        return Reject("not_forced", "There is no order to end here.", {"state": state.state_of(body.target)})
    span = getattr(body, "for_ms", None)
    until = 0 if span is None else now + span
    return _steer(state, body.target, _CAUSES[type(body)], command.principal, body.note, until, now)


def decide_order_over(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    return _steer(state, command.body.target, ORDER_OVER, "", "", 0, now)


def _steer(state: State, target: str, cause: str, principal: str, note: str, until: int, now: int) -> Accept:
    event = (events.FORCED, now, state.revision + 1, target, cause, principal, note, until)
    circuit = _steered(state, event)
    reply = {"ok": True, "circuit": described(target, circuit, now)}
    return Accept([event], reply, changed(state, target, circuit, now))


def _steered(state: State, event: Event) -> Circuit:
    _, now, revision, target, cause, principal, note, until = event
    before = state.circuits.get(target)
    told = f"{principal}: {note}" if note else principal
    if cause == ANNOTATE and before is not None:
        return before._replace(revision=revision, changed=now, note=told)
    after = TRANSITIONS[state.state_of(target), cause]
    if cause == ORDER_OVER and before is not None:
        told = before.note
    share = 0 if after in {FORCED_OPEN, OPEN} else ALL
    return Circuit(after, now, now if after == OPEN else until, revision, revision, cause, now, share, note=told)


def apply_forced(state: State, event: Event) -> None:
    _, now, _, target, cause, principal, note, _ = event
    circuit = _steered(state, event)
    state.at = now
    state.put(target, circuit, who=principal, note=note, keeps_window=cause == ANNOTATE)
