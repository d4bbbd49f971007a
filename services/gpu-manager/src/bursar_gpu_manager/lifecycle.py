"""The life of a lease, as a table; the diagram in the README is made from it.

A lease can be renewed only while it is held. One that was taken away (its device is lost, or an operator dropped it)
is ending: its holder may not have heard of it yet, so its memory counts until the holder says that it has freed it,
or until it must have stopped.
"""

from __future__ import annotations

from typing import Final

from bursar.kernel.mermaid import START, arrows_of, state_diagram

HELD: Final = "held"
ENDING: Final = "ending"
RELEASED: Final = "released"
EXPIRED: Final = "expired"
LOST: Final = "lost"

DEVICE_LOST: Final = "device_lost"
DROPPED: Final = "dropped"

TRANSITIONS: dict[tuple[str, str], str] = {
    (START, "lease"): HELD,
    (HELD, "renew"): HELD,
    (HELD, "release"): RELEASED,
    (HELD, "ttl and margin pass"): EXPIRED,
    (HELD, "a device is lost"): ENDING,
    (HELD, "drop"): ENDING,
    (ENDING, "release"): RELEASED,
    (ENDING, "ttl and margin pass"): EXPIRED,
    (HELD, "log lost"): LOST,
    (LOST, "redeclare"): HELD,
}
"""(state, what happens) -> next state. What is not in the table is refused and changes nothing."""

CHARGES = {
    HELD: "max(grant, observed) counts",
    ENDING: "max(grant, observed) counts",
    RELEASED: "what is still observed counts as foreign",
    EXPIRED: "what is still observed counts as foreign",
    LOST: "nothing is granted to anybody, until it must have ended",
}


def next_state(state: str, what: str) -> str | None:
    return TRANSITIONS.get((state, what))


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    last = [state for state in CHARGES if not any(before == state for before, _ in TRANSITIONS)]
    return state_diagram(CHARGES, arrows_of(TRANSITIONS, last))
