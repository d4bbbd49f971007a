"""The table of an alert's life, and the page that shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bursar_monitor
from bursar.kernel.mermaid import START
from bursar_monitor.lifecycle import NOTES, TRANSITIONS, diagram, next_state

README = Path(bursar_monitor.__file__).parents[2] / "README.md"


def test_the_readme_shows_the_diagram_of_the_table() -> None:
    """It is generated: ``python -m bursar_monitor.diagram``."""
    assert f"```mermaid\n{diagram()}\n```" in README.read_text(encoding="utf-8")


def test_the_diagram_can_be_printed() -> None:
    """The command that the README names."""
    printed = subprocess.run(
        [sys.executable, "-m", "bursar_monitor.diagram"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == diagram() + "\n"


def test_an_alert_is_over_once() -> None:
    """No way leads back from its end, and nothing ends that did not fire."""
    assert next_state("resolved", "acknowledge") is None
    assert next_state("pending", "cleared") is None
    assert set(TRANSITIONS.values()) - {START} == NOTES.keys()
