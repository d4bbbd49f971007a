"""The table of a lease's life, and the page that shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bursar_gpu_manager
from bursar.kernel.mermaid import START
from bursar_gpu_manager.lifecycle import CHARGES, TRANSITIONS, diagram, next_state

README = Path(bursar_gpu_manager.__file__).parents[2] / "README.md"


def test_the_readme_shows_the_diagram_of_the_table() -> None:
    """It is generated: ``python -m bursar_gpu_manager.diagram``."""
    assert f"```mermaid\n{diagram()}\n```" in README.read_text(encoding="utf-8")


def test_the_diagram_can_be_printed() -> None:
    """The command that the README names."""
    printed = subprocess.run(
        [sys.executable, "-m", "bursar_gpu_manager.diagram"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == diagram() + "\n"


def test_what_was_taken_away_cannot_be_held_again() -> None:
    """From ending there is only the end."""
    assert next_state("ending", "renew") is None
    assert {after for (before, _), after in TRANSITIONS.items() if before == "ending"} == {"released", "expired"}


def test_every_state_can_be_reached_and_says_what_counts() -> None:
    """No dead entries in the table."""
    reached = set(TRANSITIONS.values())
    assert reached == CHARGES.keys()
    assert START not in reached
