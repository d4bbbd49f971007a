"""Closing in steps: a target that has just come back gets a growing share of its calls, not all of them at once.

When the probes have succeeded, the first share of `Rule.ramp` may go; each step lasts ``ramp_step_ms``, and after the
last one the circuit is closed. Time alone moves a ramp on: it limits the load on a target that may still be weak, and
where there is no load there is nothing to limit. Evidence ends it: the rules that open a closed circuit open one that
is ramping, too, at once and with the share of the calls that they want scaled to what goes (`judging`), and it stays
open for longer than before.

The share is a part of the circuit. Clients keep to it by themselves; where the rule names the budget that pays for the
target, it is broadcast for the limiter as well (`telling`).
"""

from __future__ import annotations

from typing import NamedTuple

from bursar.contracts.breaker import ALL
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome
from bursar_breaker import events
from bursar_breaker.bugs import RAMP_SKIPPED
from bursar_breaker.lifecycle import CLOSED, HALF_OPEN, PROBES_OK, RAMP_BEGINS, RAMP_DONE, RAMP_STEP, RAMPING
from bursar_breaker.rules import next_share
from bursar_breaker.state import Circuit, State
from bursar_breaker.telling import changed


class Step(NamedTuple):
    """Internal: the time of this step is over."""

    target: str


def closing(state: State, target: str, now: int, revision: int) -> tuple[Event, list[Broadcast]]:
    """The next step of a circuit that is half-open or ramping: its event and its broadcasts."""
    circuit, rule = state.circuits[target], state.rules.of(target)
    begins = circuit.state == HALF_OPEN
    share = None if seeded(RAMP_SKIPPED) else next_share(rule, circuit.share)
    event: Event
    if share is None:
        event = (events.CLOSED, now, revision, target, PROBES_OK if begins else RAMP_DONE)
        return event, changed(state, target, _closed(circuit, event), now)
    cause = RAMP_BEGINS if begins else RAMP_STEP
    event = (events.RAMPED, now, revision, target, cause, share, now + rule.ramp_step_ms)
    return event, changed(state, target, _ramped(circuit, event), now)


def decide_step(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    event, broadcasts = closing(state, command.body.target, now, state.revision + 1)
    return Accept([event], {}, broadcasts)


def _ramped(circuit: Circuit, event: Event) -> Circuit:
    _, now, revision, _, cause, share, until = event
    begins = cause == RAMP_BEGINS
    return circuit._replace(
        state=RAMPING,
        since=now if begins else circuit.since,
        until=until,
        revision=revision,
        generation=revision if begins else circuit.generation,
        reason=cause,
        changed=now,
        share=share,
        successes=0,
    )


def apply_ramped(state: State, event: Event) -> None:
    target = event[3]
    circuit = _ramped(state.circuits[target], event)
    state.at = event[1]
    state.put(target, circuit, keeps_window=event[4] != RAMP_BEGINS)


def _closed(circuit: Circuit, event: Event) -> Circuit:
    _, now, revision, _, cause = event
    return Circuit(CLOSED, now, 0, revision, revision, cause, now, ALL, circuit.opened, 0, circuit.note)


def apply_closed(state: State, event: Event) -> None:
    target = event[3]
    circuit = _closed(state.circuits[target], event)
    state.at = event[1]
    state.put(target, circuit, keeps_window=event[4] == RAMP_DONE)
