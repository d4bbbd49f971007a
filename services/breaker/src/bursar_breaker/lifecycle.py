"""The states of a circuit and what leads from one to the next, as a table; the diagram in the README is made from it.

What is not in the table cannot happen: every event names its cause, and `next_state` of the state and the cause is
the state that the event brings about. The simulator holds every history against it.
"""

from __future__ import annotations

from typing import Final

from bursar.contracts.breaker import CircuitName
from bursar.kernel.mermaid import START, state_diagram

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
FORCED_OPEN: Final = "forced_open"
FORCED_CLOSED: Final = "forced_closed"

STATES: dict[CircuitName, str] = {
    CLOSED: "calls go",
    OPEN: "no calls, until its time is over",
    HALF_OPEN: "calls with a probe permit only",
    FORCED_OPEN: "no calls, until an operator resets it",
    FORCED_CLOSED: "calls go, whatever is reported",
}

FAILURE_RATE: Final = "failure_rate"
SLOW_RATE: Final = "slow_rate"
CONSECUTIVE: Final = "consecutive"
OVERLOAD: Final = "overload"
AUTH: Final = "auth"
LATER: Final = "later_deadline"
TIME_OVER: Final = "time_over"
PROBE_FAILED: Final = "probe_failed"
PROBES_OK: Final = "probes_succeeded"
ENTRIES_LOST: Final = "entries_lost"
FORCE_OPEN: Final = "force_open"
FORCE_CLOSE: Final = "force_close"
RESET: Final = "reset"

TRIPS: Final = (FAILURE_RATE, SLOW_RATE, CONSECUTIVE, OVERLOAD, AUTH)
"""Why a closed circuit opens."""

TRANSITIONS: dict[tuple[CircuitName, str], CircuitName] = {
    **{(CLOSED, why): OPEN for why in TRIPS},
    (OPEN, LATER): OPEN,
    (OPEN, TIME_OVER): HALF_OPEN,
    (HALF_OPEN, PROBE_FAILED): OPEN,
    (HALF_OPEN, PROBES_OK): CLOSED,
    (OPEN, ENTRIES_LOST): OPEN,
    (HALF_OPEN, ENTRIES_LOST): OPEN,
    **{(state, FORCE_OPEN): FORCED_OPEN for state in STATES},
    **{(state, FORCE_CLOSE): FORCED_CLOSED for state in STATES},
    **{(state, RESET): CLOSED for state in STATES},
}
"""(state, cause) -> next state."""


def next_state(state: CircuitName, cause: str) -> CircuitName | None:
    return TRANSITIONS.get((state, cause))


def diagram() -> str:
    """The table as a Mermaid state diagram; several causes between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, cause), after in TRANSITIONS.items():
        arrows.setdefault((state, after), []).append(cause)
    shared = [(state, after, ", ".join(causes)) for (state, after), causes in arrows.items()]
    return state_diagram({str(state): note for state, note in STATES.items()}, [(START, CLOSED, ""), *shared])
