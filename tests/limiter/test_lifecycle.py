"""The table of a reservation's life, and the page that shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bursar_limiter
from bursar.kernel.mermaid import START
from bursar_limiter.lifecycle import CHARGES, TRANSITIONS, diagram, next_state

README = Path(bursar_limiter.__file__).parents[2] / "README.md"


def test_the_readme_shows_the_diagram_of_the_table() -> None:
    """It is generated: ``python -m bursar_limiter.diagram``."""
    assert f"```mermaid\n{diagram()}\n```" in README.read_text(encoding="utf-8")


def test_the_diagram_can_be_printed() -> None:
    """The command that the README names."""
    printed = subprocess.run(
        [sys.executable, "-m", "bursar_limiter.diagram"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == diagram() + "\n"


def test_a_reservation_ends_once_but_for_one_correction() -> None:
    """No way leads back from an end, and only a time-out may be corrected."""
    ends = {state for state in CHARGES if not any(before == state for before, _ in TRANSITIONS)}
    assert ends == {"used", "cancelled", "corrected"}
    assert next_state("used", "settle used") is None
    assert next_state("corrected", "settle used") is None
    assert {before for (before, _), after in TRANSITIONS.items() if after == "corrected"} == {"timed_out"}


def test_every_state_can_be_reached_and_says_what_counts() -> None:
    """No dead entries in the table."""
    reached = set(TRANSITIONS.values())
    assert reached == CHARGES.keys()
    assert START not in reached
