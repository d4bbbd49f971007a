"""Reports come in: they are added to the windows, and a target that its window calls down opens.

The report itself changes nothing durable: what it makes due is decided right after it, in the same batch, as a
command of its own. So what a reporter says is never journaled under its name, and one report may open several circuits.
This is the hot path, thousands of times a second: what a healthy report costs is two look-ups and three additions for
each circuit on its way.

What one child does alone is not its parent's fault: one target that is bad opens by itself, and the others below the
same parent go on. At least two must be bad for what is above them, or for their group, to open; or it must be reported
of itself.

An overloaded target's wish to be left alone for some time is kept while its circuit is open, too: the later deadline
always wins. A wish that lies much later (`AT_ONCE_MS`) is told to everybody at once; a little later is common when many
calls come back one after the other, and is looked at when the open time ends. No wish reaches beyond
``max_retry_after_ms`` after the opening, so that one that repeats itself for ever keeps nothing shut for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from bursar.contracts.breaker import ALL, GROUPS, Delta, Report
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_breaker.bugs import (
    AUTH_SPREADS,
    CHILD_TRIPS,
    DEADLINE_LOST,
    DISABLED_COUNTS,
    FORCED_TRIPS,
    RELAPSE_IGNORED,
)
from bursar_breaker.evidence import claim_of, counts_of, passed_on
from bursar_breaker.judging import is_bad, judge
from bursar_breaker.lifecycle import CLOSED, DISABLED, METRICS_ONLY, OPEN, RAMPING
from bursar_breaker.rules import asked_for
from bursar_breaker.state import Circuit, State
from bursar_breaker.window import Counts, Window

AT_ONCE_MS: Final = 500


class Trip(NamedTuple):
    """Internal: this target's window calls it down."""

    target: str


class Postpone(NamedTuple):
    """Internal: this open target has asked for more time."""

    target: str


_NOTHING: Final = Refuse({})


def decide_report(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Report = command.body
    for delta in body.deltas:
        _take(state, delta, command.principal, now)
    return _NOTHING


def _take(state: State, delta: Delta, reporter: str, now: int) -> None:
    counts = counts_of(delta)
    if not counts and not delta.shut:
        return
    target = delta.target
    way = state.way(target)
    if way[0] == GROUPS:  # a group is not called, its members are
        state.windows.dropped += 1
        return
    circuit = state.circuits.get(target)
    if circuit is not None and circuit.state == OPEN and delta.overload:
        _wish(state, delta, circuit, now)
    above = counts if seeded(AUTH_SPREADS) else passed_on(counts)
    for name in reversed(way):
        if not _count(state, name, target, delta, counts if name == target else above, reporter, now):
            return


def _count(state: State, name: str, target: str, delta: Delta, counts: Counts, reporter: str, now: int) -> bool:
    """Add it to one window, and look at that; False when nothing further is to be added."""
    if delta.shut:
        counts = [*counts, *claim_of(delta, state.rules.of(name), is_named=name == target)]
    if not counts:
        return bool(delta.shut)
    circuit = state.circuits.get(name)
    if circuit is not None and circuit.state == DISABLED and not seeded(DISABLED_COUNTS):
        return True
    seen = state.windows.open(name, state.rules.of, reporter, now)
    if seen is None:
        return False
    state.windows.note(seen, now, reporter, counts)
    if name == target and delta.overload:
        seen.retry_until = max(seen.retry_until, asked_for(seen.rule, now, delta.retry_after_ms))
    if (seen.troubles or seen.streak) and (circuit is None or circuit.state == CLOSED or _is_watched(circuit)):
        _look(state, name, seen, circuit, now, is_named=name == target)
    return True


def _is_watched(circuit: Circuit) -> bool:
    """Whether evidence is judged though the circuit is not closed."""
    if circuit.state == RAMPING:
        return not seeded(RELAPSE_IGNORED)
    return circuit.state == METRICS_ONLY or (seeded(FORCED_TRIPS) and circuit.state.startswith("forced"))


def _look(state: State, name: str, seen: Window, circuit: Circuit | None, now: int, *, is_named: bool) -> None:
    """Does the circuit open? What would open one that only has metrics is noted."""
    if name in state.pending:
        return
    share = ALL if circuit is None else circuit.share
    names_key = "/" in name or seeded(AUTH_SPREADS)
    found = judge(seen, is_named=is_named or seeded(AUTH_SPREADS), names_key=names_key, share=share)
    if found is None or (not is_named and _is_one_childs(state, name, found.cause, now)):
        return
    if circuit is not None and circuit.state == METRICS_ONLY:
        state.shadows[name] = found.cause
    else:
        state.pending[name] = found


def _is_one_childs(state: State, target: str, cause: str, now: int) -> bool:
    """Whether fewer than two of the targets below this one are bad."""
    bad = len(down := _down(state, target))
    for name in _children(state, target):
        if bad > 1:
            break
        seen = state.windows.look(name, now)
        bad += name not in down and (name in state.pending or (seen is not None and is_bad(seen, cause)))
    return bad < 2 and not seeded(CHILD_TRIPS)


def _children(state: State, target: str) -> Iterable[str]:
    """The targets directly below this one that calls are reported of, or the members of a group."""
    head, _, name = target.partition("/")
    return state.rules.groups.get(name, ()) if head == GROUPS else tuple(state.windows.below.get(target, ()))


def _down(state: State, target: str) -> Collection[str]:
    """Those of them whose circuits are open or half-open."""
    head, _, name = target.partition("/")
    if head == GROUPS:
        return [member for member in state.rules.groups.get(name, ()) if member in state.down.get(_above(member), ())]
    return state.down.get(target, ())


def _above(target: str) -> str:
    return target.rpartition("/")[0]


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
