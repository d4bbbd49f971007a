"""Crashes and leaks, as they are told from how processes live."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_monitor.lives import LEAST_GROWTH, MINUTE_MS, MOST, SHORT_MS, SLOTS, Growth, Lives, Scale

MB = 1 << 20
SECONDS = Scale(1_000, 600_000)


def grown(sizes: list[int]) -> Growth:
    growth = Growth(SECONDS)
    for second, size in enumerate(sizes):
        growth.note(second * 1_000, size)
    return growth


def test_a_short_life_is_a_crash_for_a_minute() -> None:
    """Of a process that somebody else started; a long life, or a tool that the group itself ran, is none."""
    lives = Lives()
    assert lives.ended(0, SHORT_MS - 1, is_root=True)
    assert not lives.ended(1, SHORT_MS, is_root=True)
    assert not lives.ended(2, 10, is_root=False)
    assert (lives.crashes(MINUTE_MS - 1), lives.is_idle(MINUTE_MS - 1)) == (1, False)
    assert (lives.crashes(MINUTE_MS), lives.is_idle(MINUTE_MS)) == (0, True)


def test_growth_in_every_slot_is_a_leak() -> None:
    """10 MB a second are 6000 MB in ten minutes: all of 6000 MB that are free, twice 3000."""
    growth = grown([100 * MB + second * 10 * MB for second in range(SLOTS)])
    assert growth.permille(6_000 * MB) == 1_000
    assert growth.permille(3_000 * MB) == 2_000
    assert growth.permille(0) == MOST


@pytest.mark.parametrize(
    "sizes",
    [
        [100, 110, 120],
        [100, 110, 110, 120],
        [100, 150, 60, 120, 130],
        [100, 130, 130, 130, 130, 130],
    ],
)
def test_what_stands_still_or_falls_is_none(sizes: list[int]) -> None:
    """Too few slots, a pause, a collection: growth has to be steady."""
    assert grown([size * MB for size in sizes]).permille(1) == 0


def test_the_least_of_a_slot_counts_and_a_gap_begins_anew() -> None:
    """What is taken and given back within a slot is no growth; what was before a gap says nothing."""
    growth = Growth(SECONDS)
    for second in range(SLOTS):
        growth.note(second * 1_000, second * 10 * MB)
        growth.note(second * 1_000 + 500, 0)
    assert growth.permille(1) == 0
    growth.note(60_000, 500 * MB)
    assert growth.permille(1) == 0


@pytest.mark.property
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30), st.integers(1, 2**45))
def test_only_steady_growth_is_told(sizes: list[int], free: int) -> None:
    """Against a plain reading of the last slots."""
    last = sizes[-SLOTS:]
    steady = len(last) == SLOTS and all(b - a >= LEAST_GROWTH for a, b in pairwise(last))
    told = grown(sizes).permille(free)
    expected = (last[-1] - last[0]) * 600 // (SLOTS - 1) * 1_000 / free if steady else 0
    assert told == pytest.approx(min(MOST, expected), rel=0.01, abs=1_000 / free + 1)


def test_the_slower_scale_sees_what_the_faster_does_not() -> None:
    """Memory that grows by a batch every half minute."""
    lives = Lives()
    for second in range(240):
        lives.grew(second * 1_000, 100 * MB + second // 30 * MB)
    assert 0 < lives.leak_permille(1_000 * MB) < 1_000
    assert lives.leak_permille(100 * MB) > 1_000
