"""Circuits open, and stay open for longer."""

from __future__ import annotations

from typing import Any

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse
from bursar_breaker import events
from bursar_breaker.bugs import DEADLINE_LOST, REVISION_SKIPPED
from bursar_breaker.judging import Found
from bursar_breaker.lifecycle import CLOSED, LATER, OPEN, OVERLOAD, PROBE_FAILED
from bursar_breaker.rules import mixed, open_ms
from bursar_breaker.state import Circuit, State
from bursar_breaker.telling import changed


def decide_trip(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    target = command.body.target
    found = state.pending.pop(target)
    if target not in state.circuits and state.is_full:
        return Refuse({})
    told, broadcasts = opening(state, target, now, state.revision + 1, found)
    return Accept([told], {}, broadcasts)


def opening(state: State, target: str, now: int, revision: int, found: Found) -> tuple[Event, list[Broadcast]]:
    """The event and the broadcasts of a circuit that opens. What an overloaded target asks for sets its time; all
    other causes leave it alone for a time that grows, and for as long as it has asked for."""
    rule, before = state.rules.of(target), state.circuits.get(target)
    cause, evidence, retry_until = found
    opened = 0
    if before is not None and not (before.state == CLOSED and now - before.since >= rule.calm_ms):
        opened = before.opened
    if cause == OVERLOAD:
        until = retry_until
    else:
        opened += 1
        until = now + open_ms(rule, opened, mixed(state.seed, now, revision))
    if not seeded(DEADLINE_LOST):
        until = max(until, retry_until, now + 1)
    if seeded(REVISION_SKIPPED) and cause != OVERLOAD:
        revision += 1
    event = (events.OPENED, now, revision, target, until, cause, opened, evidence)
    return event, changed(state, target, opened_circuit(event), now)


def opened_circuit(event: Event) -> Circuit:
    _, now, revision, _, until, cause, opened, evidence = event
    return Circuit(OPEN, now, until, revision, revision, cause, now, 0, opened, evidence=evidence)


def apply_opened(state: State, event: Event) -> None:
    state.at = event[1]
    state.put(event[3], opened_circuit(event))


def decide_postpone(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    return postponing(state, command.body.target, now)


def postponing(state: State, target: str, now: int) -> Accept:
    event = (events.LATER, now, state.revision + 1, target, state.postponed[target])
    return Accept([event], {}, changed(state, target, later_circuit(state, event), now))


def later_circuit(state: State, event: Event) -> Circuit:
    _, now, revision, target, until = event
    return state.circuits[target]._replace(revision=revision, until=until, reason=LATER, changed=now)


def apply_later(state: State, event: Event) -> None:
    target = event[3]
    circuit = later_circuit(state, event)
    state.at = event[1]
    state.postponed.pop(target, None)
    state.put(target, circuit)


def on_a_probe(outcome: str, principal: str) -> dict[str, Any]:
    """The evidence of a circuit that opens because a probe has failed."""
    return {
        "cause": PROBE_FAILED,
        "counts": {"calls": 1, "failed": 1, "slow": 0, "reporters": 1, "voices": 1},
        "causes": {outcome: 1},
        "witnesses": [[principal, 1, 1, 0, "failing"]],
        "excluded": [],
    }
