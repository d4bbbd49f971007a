"""The life of an alert, as a table; the diagram in the README is made from it.

Only what is told to others is durable: ``firing``, ``acknowledged`` and the end. ``pending`` is evidence that is being
collected; after a take-over it is collected anew.
"""

from __future__ import annotations

from typing import Final

from bursar.kernel.mermaid import START, arrows_of, state_diagram

PENDING: Final = "pending"
FIRING: Final = "firing"
ACKNOWLEDGED: Final = "acknowledged"
RESOLVED: Final = "resolved"

CLEARED: Final = "cleared"
FORGOTTEN: Final = "forgotten"
RULE_REMOVED: Final = "rule removed"

TRANSITIONS: dict[tuple[str, str], str] = {
    (START, "reaches the limit"): PENDING,
    (PENDING, "falls below it, or is not heard"): START,
    (PENDING, "stays for hold"): FIRING,
    (FIRING, "acknowledge"): ACKNOWLEDGED,
    (FIRING, CLEARED): RESOLVED,
    (FIRING, FORGOTTEN): RESOLVED,
    (FIRING, RULE_REMOVED): RESOLVED,
    (ACKNOWLEDGED, CLEARED): RESOLVED,
    (ACKNOWLEDGED, FORGOTTEN): RESOLVED,
    (ACKNOWLEDGED, RULE_REMOVED): RESOLVED,
}
"""(state, what happens) -> next state. What is not in the table does not happen."""

NOTES = {
    PENDING: "evidence is collected; nobody is told",
    FIRING: "told, unless a silence covers it",
    ACKNOWLEDGED: "somebody is looking at it",
    RESOLVED: "told to whom was told that it fires",
}


def next_state(state: str, what: str) -> str | None:
    return TRANSITIONS.get((state, what))


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    return state_diagram(NOTES, arrows_of(TRANSITIONS, [RESOLVED]))
