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
RAMPING: Final = "ramping"
FORCED_OPEN: Final = "forced_open"
FORCED_CLOSED: Final = "forced_closed"
DISABLED: Final = "disabled"
METRICS_ONLY: Final = "metrics_only"

STATES: dict[CircuitName, str] = {
    CLOSED: "calls go",
    OPEN: "no calls, until its time is over",
    HALF_OPEN: "calls with a probe permit only",
    RAMPING: "a growing share of the calls goes",
    FORCED_OPEN: "no calls, by order",
    FORCED_CLOSED: "calls go, whatever is reported, by order",
    DISABLED: "calls go and nothing is counted, by order",
    METRICS_ONLY: "calls go, all is counted and judged, by order",
}
ORDERED: Final[frozenset[CircuitName]] = frozenset({FORCED_OPEN, FORCED_CLOSED, DISABLED, METRICS_ONLY})
"""States that only orders lead to, and only orders and their end lead out of."""

FAILURE_RATE: Final = "failure_rate"
SLOW_RATE: Final = "slow_rate"
CONSECUTIVE: Final = "consecutive"
OVERLOAD: Final = "overload"
AUTH: Final = "auth"
LATER: Final = "later_deadline"
TIME_OVER: Final = "time_over"
PROBE_FAILED: Final = "probe_failed"
PROBES_OK: Final = "probes_succeeded"
RAMP_BEGINS: Final = "ramp_begins"
RAMP_STEP: Final = "ramp_step"
RAMP_DONE: Final = "ramp_done"
ENTRIES_LOST: Final = "entries_lost"
FORCE_OPEN: Final = "force_open"
FORCE_CLOSE: Final = "force_close"
DISABLE: Final = "disable"
ONLY_METRICS: Final = "metrics_only"
RESET: Final = "reset"
RELEASE: Final = "release"
ORDER_OVER: Final = "order_over"
ANNOTATE: Final = "annotate"

TRIPS: Final = (FAILURE_RATE, SLOW_RATE, CONSECUTIVE, OVERLOAD, AUTH)
"""Why a closed circuit opens, and one that is ramping falls back."""

TRANSITIONS: dict[tuple[CircuitName, str], CircuitName] = {
    **{(CLOSED, why): OPEN for why in TRIPS},
    (OPEN, LATER): OPEN,
    (OPEN, TIME_OVER): HALF_OPEN,
    (HALF_OPEN, PROBE_FAILED): OPEN,
    (HALF_OPEN, RAMP_BEGINS): RAMPING,
    (HALF_OPEN, PROBES_OK): CLOSED,
    (RAMPING, RAMP_STEP): RAMPING,
    (RAMPING, RAMP_DONE): CLOSED,
    **{(RAMPING, why): OPEN for why in TRIPS},
    (OPEN, ENTRIES_LOST): OPEN,
    (HALF_OPEN, ENTRIES_LOST): OPEN,
    **{(state, FORCE_OPEN): FORCED_OPEN for state in STATES},
    **{(state, FORCE_CLOSE): FORCED_CLOSED for state in STATES},
    **{(state, DISABLE): DISABLED for state in STATES},
    **{(state, ONLY_METRICS): METRICS_ONLY for state in STATES},
    **{(state, RESET): CLOSED for state in STATES},
    **{(state, end): OPEN if state == FORCED_OPEN else CLOSED
       for state in STATES if state in ORDERED for end in (RELEASE, ORDER_OVER)},
    **{(state, ANNOTATE): state for state in STATES},
}  # fmt: skip
"""(state, cause) -> next state. What is released from forced open is open for no time: a probe comes next."""


def next_state(state: CircuitName, cause: str) -> CircuitName | None:
    return TRANSITIONS.get((state, cause))


def diagram() -> str:
    """The table as a Mermaid state diagram; several causes between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, cause), after in TRANSITIONS.items():
        arrows.setdefault((state, after), []).append(cause)
    shared = [(state, after, ", ".join(causes)) for (state, after), causes in arrows.items()]
    return state_diagram({str(state): note for state, note in STATES.items()}, [(START, CLOSED, ""), *shared])
