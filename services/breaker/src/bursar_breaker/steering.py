"""What operators do: force a circuit open or closed, and give it back to the rules.

A forced circuit moves by nothing but another order. Every order is an event with who gave it and why, even one that
changes nothing: the journal is the audit.
"""

from __future__ import annotations

from bursar.contracts.breaker import ForceClose, ForceOpen, Reset
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Reject
from bursar_breaker import events
from bursar_breaker.lifecycle import FORCE_CLOSE, FORCE_OPEN, RESET, TRANSITIONS
from bursar_breaker.state import Circuit, State
from bursar_breaker.telling import changed, described

_CAUSES = {ForceOpen: FORCE_OPEN, ForceClose: FORCE_CLOSE, Reset: RESET}


def decide_steer(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: ForceOpen | ForceClose | Reset = command.body
    if body.target not in state.circuits and state.is_full:
        return Reject("too_many", "The registry has no room for another circuit.", {"circuits": len(state.circuits)})
    cause = _CAUSES[type(body)]
    event = (events.FORCED, now, state.revision + 1, body.target, cause, command.principal, body.note)
    circuit = _steered(state, event)
    reply = {"ok": True, "circuit": described(body.target, circuit, now)}
    return Accept([event], reply, [changed(body.target, circuit, now)])


def _steered(state: State, event: Event) -> Circuit:
    _, now, revision, target, cause, principal, note = event
    after = TRANSITIONS[state.state_of(target), cause]
    told = f"{principal}: {note}" if note else principal
    return Circuit(after, now, 0, revision, revision, cause, note=told)


def apply_forced(state: State, event: Event) -> None:
    circuit = _steered(state, event)
    state.at = event[1]
    state.put(event[3], circuit)
