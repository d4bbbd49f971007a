"""State diagrams for the services' READMEs, made from their tables of transitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

START: Final = "[*]"
"""Where a diagram begins and ends."""

Arrow = tuple[str, str, str]
"""From, to, and what happens (empty: no words)."""


def state_diagram(notes: Mapping[str, str], arrows: Iterable[Arrow]) -> str:
    """A Mermaid state diagram; ``notes``: what each state means."""
    lines = ["stateDiagram-v2"]
    lines.extend(f"    {state}: {state} ({note})" for state, note in notes.items())
    lines.extend(f"    {state} --> {after}{f': {what}' if what else ''}" for state, after, what in arrows)
    return "\n".join(lines)


def arrows_of(transitions: Mapping[tuple[str, str], str], ends: Iterable[str]) -> list[Arrow]:
    """The arrows of a table (state, what happens) -> next state, and those from the states where a life ends."""
    arrows = [(state, after, what) for (state, what), after in transitions.items()]
    return arrows + [(state, START, "") for state in ends]
