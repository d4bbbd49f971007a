"""Reports come in: they are added to the windows, and a target that its window calls down opens.

The report itself changes nothing durable: what it makes due is decided right after it, in the same batch, as a
command of its own. So what a reporter says is never journaled under its name, and one report may open several circuits.

An overloaded target's wish to be left alone for some time is kept while its circuit is open, too: the later deadline
always wins. A wish that lies much later (`AT_ONCE_MS`) is told to everybody at once; a little later is common when many
calls come back one after the other, and is looked at when the open time ends. No wish reaches beyond
``max_retry_after_ms`` after the opening, so that one that repeats itself for ever keeps nothing shut for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bursar.contracts.breaker import Delta, Report
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse
from bursar_breaker import events
from bursar_breaker.bugs import DEADLINE_LOST, FORCED_TRIPS, REVISION_SKIPPED
from bursar_breaker.evidence import counts_of, levels, passed_on
from bursar_breaker.judging import Evidence, judge
from bursar_breaker.lifecycle import CLOSED, LATER, OPEN, OVERLOAD
from bursar_breaker.rules import asked_for, open_ms
from bursar_breaker.state import Circuit, State
from bursar_breaker.telling import changed

AT_ONCE_MS: Final = 500


class Trip(NamedTuple):
    """Internal: this target's window calls it down."""

    target: str


class Postpone(NamedTuple):
    """Internal: this open target has asked for more time."""

    target: str


def decide_report(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Report = command.body
    for delta in body.deltas:
        _take(state, delta, command.principal, now)
    return Refuse({})


def _take(state: State, delta: Delta, reporter: str, now: int) -> None:
    counts = counts_of(delta)
    if not counts:
        return
    circuit = state.circuits.get(delta.target)
    if circuit is not None and circuit.state == OPEN and delta.overload:
        _wish(state, delta, circuit, now)
    above = passed_on(counts)
    for target in levels(delta.target):
        is_named = target == delta.target
        told = counts if is_named else above
        if not told:
            break
        seen = state.windows.open(target, state.rules.of(target), reporter, now)
        if seen is None:
            break
        state.windows.note(seen, now, reporter, told)
        if is_named and delta.overload:
            seen.retry_until = max(seen.retry_until, asked_for(seen.rule, now, delta.retry_after_ms))
        if _may_trip(state, target):
            found = judge(seen, is_named=is_named, names_key="/" in target)
            if found is not None:
                cause, evidence = found
                state.pending[target] = (cause, evidence, seen.retry_until)


def _may_trip(state: State, target: str) -> bool:
    if state.state_of(target) != CLOSED:
        return seeded(FORCED_TRIPS) and state.state_of(target).startswith("forced")
    return target not in state.pending


def _wish(state: State, delta: Delta, circuit: Circuit, now: int) -> None:
    rule = state.rules.of(delta.target)
    until = min(asked_for(rule, now, delta.retry_after_ms), circuit.since + rule.max_retry_after_ms)
    if until > max(circuit.until, state.postponed.get(delta.target, 0)) and not seeded(DEADLINE_LOST):
        state.postponed[delta.target] = until


def next_due(state: State) -> Trip | Postpone | None:
    """What reports have made due."""
    if state.pending:
        return Trip(next(iter(state.pending)))
    for target, until in state.postponed.items():
        if until >= state.circuits[target].until + AT_ONCE_MS:
            return Postpone(target)
    return None


def decide_trip(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    target = command.body.target
    cause, evidence, retry_until = state.pending.pop(target)
    if target not in state.circuits and state.is_full:
        return Refuse({})
    told, broadcast = opening(state, target, now, state.revision + 1, cause, evidence, retry_until)
    return Accept([told], {}, [broadcast])


def opening(
    state: State, target: str, now: int, revision: int, cause: str, evidence: Sequence[int], retry_until: int
) -> tuple[Event, Broadcast]:
    """The event and the broadcast of a circuit that opens. What an overloaded target asks for sets its time; all
    other causes leave it alone for a time that grows, and for as long as it has asked for."""
    rule, before = state.rules.of(target), state.circuits.get(target)
    opened = 0
    if before is not None and not (before.state == CLOSED and now - before.since >= rule.calm_ms):
        opened = before.opened
    if cause != OVERLOAD:
        opened += 1
    until = retry_until if cause == OVERLOAD else now + open_ms(rule, opened)
    if not seeded(DEADLINE_LOST):
        until = max(until, retry_until)
    if seeded(REVISION_SKIPPED) and cause != OVERLOAD:
        revision += 1
    event = (events.OPENED, now, revision, target, until, cause, opened, list(evidence))
    return event, changed(target, opened_circuit(event), now)


def opened_circuit(event: Event) -> Circuit:
    _, now, revision, _, until, cause, opened, evidence = event
    return Circuit("open", now, until, revision, revision, cause, opened, evidence=tuple(evidence))


def apply_opened(state: State, event: Event) -> None:
    state.at = event[1]
    state.put(event[3], opened_circuit(event))


def decide_postpone(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    return postponing(state, command.body.target, now)


def postponing(state: State, target: str, now: int) -> Accept:
    event = (events.LATER, now, state.revision + 1, target, state.postponed[target])
    return Accept([event], {}, [changed(target, later_circuit(state, event), now)])


def later_circuit(state: State, event: Event) -> Circuit:
    _, _, revision, target, until = event
    return state.circuits[target]._replace(revision=revision, until=until, reason=LATER)


def apply_later(state: State, event: Event) -> None:
    target = event[3]
    circuit = later_circuit(state, event)
    state.at = event[1]
    state.postponed.pop(target, None)
    state.put(target, circuit)


def no_evidence() -> list[Any]:
    return list(Evidence(0, 0, 0, 0, 0))
