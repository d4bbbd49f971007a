"""Bounds of what is reported: nobody can fill the memory, or drive out what others report."""

from __future__ import annotations

import pytest

from bursar_breaker import evidence, window
from tests.breaker.desk import Desk, rule


def test_a_reporter_that_makes_up_names_drives_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its further targets are dropped and counted; when they have been idle for a window it may bring in others."""
    monkeypatch.setattr(evidence, "MAX_INTRODUCED", 5)
    desk = Desk()
    desk.report("mine", "bob", error=3)
    for number in range(20):
        desk.report(f"made-up-{number}", "eve", ok=1)
    assert len(desk.state.windows) == 6
    assert desk.status().dropped == 15
    desk.report("mine", "eve", ok=1)
    assert desk.state.windows.windows["mine"].active == 2, "known targets are open to all"
    desk.advance(1_500)
    desk.report("made-up-99", "eve", ok=1)
    assert "made-up-99" in desk.state.windows.windows
    desk.check()


def test_the_least_recently_reported_target_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of windows is bounded."""
    monkeypatch.setattr(evidence, "MAX_TARGETS", 3)
    desk = Desk()
    for who, target in (("a", "t1"), ("b", "t2"), ("c", "t3"), ("d", "t1"), ("e", "t4")):
        desk.report(target, who, ok=1)
    assert list(desk.state.windows.windows) == ["t3", "t1", "t4"]
    desk.check()


def test_reporters_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their calls count, but they have one voice."""
    monkeypatch.setattr(window, "MAX_REPORTERS", 2)
    desk = Desk(rule(quorum_permille=0, quorum=4, minimum_calls=100))
    for number in range(9):
        desk.report(who=f"a{number}", error=1)
    seen = desk.state.windows.windows["p"]
    assert seen.active == 3
    assert sum(seen.total) == 9


def test_cells_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room a new reporter is counted without its name."""
    monkeypatch.setattr(evidence, "MAX_CELLS", 2)
    desk = Desk(rule(minimum_calls=100))
    for number in range(6):
        desk.report(who=f"a{number}", ok=1)
    assert len(desk.state.windows.windows["p"].reporters) == 3
    desk.check()
    desk.advance(1_000)
    desk.report(who="a9", ok=1)
    assert list(desk.state.windows.windows["p"].reporters) == ["a9"]
    desk.check()
