"""A whole journal of the registry held against its rules, by nothing but the events and the published table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bursar.contracts.breaker import CircuitName
from bursar_breaker.lifecycle import CLOSED, HALF_OPEN, LATER, OPEN, TIME_OVER, TRANSITIONS

_CAUSES = {"l": LATER, "h": TIME_OVER, "y": "entries_lost"}
_NAMED = {"o": 5, "c": 4, "r": 4, "f": 4}
"""Where an event names its cause."""


def check_history(events: Iterable[tuple[Any, ...]], probes: Mapping[str, int] | None = None) -> dict[str, CircuitName]:
    """Raise AssertionError where a change has not the next revision, is not in the table, ends an open time early, or
    a permit is one too many (``probes``: k by target). Returns the state of each target at the end."""
    states: dict[str, CircuitName] = {}
    ends: dict[str, int] = {}
    leases: dict[str, list[str]] = {}
    revision = 0
    for event in events:
        kind, now = event[0], event[1]
        if kind in "olhrcfy":
            revision += 1
            assert event[2] == revision, f"revision {event[2]} after {revision - 1}: {event}"
            _change(states, ends, event, now)
        elif kind == "p":
            leases[event[2]] = [target for target, _ in event[5]]
            for target in leases[event[2]]:
                assert states[target] == HALF_OPEN, f"a permit for {target}, which is {states.get(target)}"
                out = sum(target in covered for covered in leases.values())
                assert probes is None or out <= probes[target], f"{out} permits for {target}"
        elif kind in "de":
            del leases[event[2]]
    return states


def _change(states: dict[str, CircuitName], ends: dict[str, int], event: tuple[Any, ...], now: int) -> None:
    kind, target = event[0], event[3]
    before: CircuitName = states.get(target, CLOSED)
    cause = _CAUSES.get(kind) or event[_NAMED[kind]]
    after = TRANSITIONS.get((before, cause))
    assert after is not None, f"{target} is {before}; no {cause} leads out of that"
    if kind == "h":
        assert now >= ends[target], f"{target} is half-open {ends[target] - now} ms early"
    if kind == "l":
        assert event[4] > ends[target], f"{target}: a deadline that is not later"
    if after == OPEN and cause != "annotate":
        ends[target] = now if kind == "f" else event[4]
    states[target] = after
