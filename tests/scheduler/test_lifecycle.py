"""The table of a task's life, and the page that shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bursar_scheduler
from bursar.kernel.mermaid import START
from bursar_scheduler.lifecycle import DEAD, ENDS, LIVE, NOTES, TRANSITIONS, diagram, next_state

README = Path(bursar_scheduler.__file__).parents[2] / "README.md"


def test_the_readme_shows_the_diagram_of_the_table() -> None:
    """It is generated: ``python -m bursar_scheduler.diagram``."""
    assert f"```mermaid\n{diagram()}\n```" in README.read_text(encoding="utf-8")


def test_the_diagram_can_be_printed() -> None:
    """The command that the README names."""
    printed = subprocess.run(
        [sys.executable, "-m", "bursar_scheduler.diagram"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == diagram() + "\n"


def test_no_way_leads_back_from_an_end() -> None:
    """An end is reached once."""
    assert not any(before in ENDS for before, _ in TRANSITIONS)
    assert next_state("done", "finish") is None


def test_every_live_state_can_be_cancelled_can_expire_and_can_be_lost() -> None:
    """And a dead letter can be cancelled and requeued."""
    for state in LIVE:
        assert {"cancel", "deadline passes", "log lost"} <= {what for before, what in TRANSITIONS if before == state}
    assert {what for before, what in TRANSITIONS if before == DEAD} == {
        "cancel",
        "requeue",
        "requeue, after other tasks",
    }


def test_only_a_running_attempt_finishes() -> None:
    """A worker has to ask before it runs."""
    assert {before for (before, what) in TRANSITIONS if what.startswith(("finish", "fail"))} == {
        "running",
        "preempting",
    }


def test_every_state_can_be_reached_and_has_a_note() -> None:
    """No dead entries in the table."""
    assert set(TRANSITIONS.values()) == NOTES.keys()
    assert {before for before, _ in TRANSITIONS} <= NOTES.keys() | {START}
