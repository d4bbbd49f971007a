"""The life of a reservation, as a table; the diagram in the README is made from it.

A reservation ends once. The only thing that may follow is one correction: usage reported after the time-out had
already counted it as used is still real usage, so what exceeds the reservation is charged.
"""

from __future__ import annotations

from typing import Final

from bursar.kernel.mermaid import START, arrows_of, state_diagram

RESERVED: Final = "reserved"
USED: Final = "used"
CANCELLED: Final = "cancelled"
TIMED_OUT: Final = "timed_out"
CORRECTED: Final = "corrected"
LOST: Final = "lost"

SETTLE_USED: Final = "settle used"
SETTLE_CANCELLED: Final = "settle cancelled"

TRANSITIONS: dict[tuple[str, str], str] = {
    (START, "reserve"): RESERVED,
    (RESERVED, SETTLE_USED): USED,
    (RESERVED, SETTLE_CANCELLED): CANCELLED,
    (RESERVED, "ttl passes"): TIMED_OUT,
    (TIMED_OUT, SETTLE_USED): CORRECTED,
    (TIMED_OUT, SETTLE_CANCELLED): CORRECTED,
    (RESERVED, "log lost"): LOST,
    (LOST, "redeclare"): RESERVED,
}
"""(state, what happens) -> next state. What is not in the table is refused and changes nothing."""

CHARGES = {
    RESERVED: "the estimate counts",
    USED: "the real usage counts",
    CANCELLED: "nothing counts",
    TIMED_OUT: "the estimate counts as used",
    CORRECTED: "the estimate counts, and any overage",
    LOST: "the whole limit counts, until every call it may have allowed is over",
}


def next_state(state: str, what: str) -> str | None:
    return TRANSITIONS.get((state, what))


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    last = [state for state in CHARGES if not any(before == state for before, _ in TRANSITIONS)]
    return state_diagram(CHARGES, arrows_of(TRANSITIONS, last))
