"""Evidence over time."""

from __future__ import annotations

from bursar.contracts.monitor_policy import Rule
from bursar_monitor.track import FORGET_MS, GAP_MS, Track

RULE = Rule(name="r", signal="cpu_permille", at_least=90, clear_below=80, hold_ms=2_000, clear_ms=3_000)


def track(*readings: tuple[int, int]) -> Track:
    made = Track(0)
    for at, value in readings:
        made.observe(RULE, value, at)
    return made


def test_bad_evidence_has_to_last() -> None:
    """From the first bad reading to the last there must be so much time, without a good one between."""
    assert not track((0, 90), (1_999, 90)).has_held(RULE)
    assert track((0, 90), (2_000, 95)).has_held(RULE)
    assert not track((0, 90), (1_000, 89), (2_500, 90)).has_held(RULE)


def test_good_evidence_has_to_last_too() -> None:
    """Below the limit at which it clears, for as long as the rule says; between the limits is neither."""
    assert not track((0, 79), (2_999, 79)).has_cleared(RULE)
    assert track((0, 79), (3_000, 0)).has_cleared(RULE)
    assert not track((0, 79), (1_000, 85), (3_500, 79)).has_cleared(RULE)
    between = track((0, 85), (9_000, 85))
    assert not between.has_held(RULE)
    assert not between.has_cleared(RULE)


def test_a_gap_is_no_evidence() -> None:
    """What was not heard has neither held nor cleared."""
    assert not track((0, 90), (GAP_MS + 1, 90)).has_held(RULE)
    assert not track((0, 10), (GAP_MS + 1, 10)).has_cleared(RULE)
    assert track((0, 90), (GAP_MS, 90)).has_held(RULE)


def test_what_is_not_heard_is_forgotten() -> None:
    """After ten minutes nobody knows any more."""
    assert not track((5, 90)).is_forgotten(FORGET_MS + 4)
    assert track((5, 90)).is_forgotten(FORGET_MS + 5)
