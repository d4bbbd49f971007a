"""How a pace comes back after a 429: by CUBIC, in whole numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_limiter.adapting_cubic import FLOOR, FULL, KEPT, Cut, cut, pace_at, whole_at

PACES = st.integers(FLOOR, 2 * FULL)


def test_a_cut_keeps_seven_tenths_and_is_back_in_about_four_seconds() -> None:
    """The constants that botocore starts from: beta 0.7, C 0.4 % per second cubed."""
    after = cut(FULL, 10_000)
    assert after == Cut(FULL, 10_000)
    assert abs(pace_at(after, 10_000) - KEPT) <= 1
    assert pace_at(after, 0) == pace_at(after, 10_000), "it does not begin before the freeze is over"
    assert 4_100 <= whole_at(after, FULL) - 10_000 <= 4_300


@pytest.mark.property
@given(PACES, st.lists(st.integers(0, 30_000), min_size=2, max_size=20))
def test_it_never_falls_by_itself_and_never_below_the_floor(pace: int, times: list[int]) -> None:
    """Fast, then slow around the pace of the cut, then fast."""
    after = cut(pace, 0)
    paces = [pace_at(after, at) for at in sorted(times)]
    assert paces == sorted(paces)
    assert min(paces) >= FLOOR
    back = whole_at(after, after.most)
    assert pace_at(after, back) >= after.most > (pace_at(after, back - 1) if back else -1)


@pytest.mark.property
@given(PACES, st.integers(0, 20_000))
def test_the_curve_is_that_of_the_formula(pace: int, passed: int) -> None:
    """most + C (t - K)^3, to two thousandths."""
    after = cut(pace, 5_000)
    way_back = (after.most * 0.3 / 4) ** (1 / 3)
    wanted = max(FLOOR, after.most + 4 * (passed / 1000 - way_back) ** 3)
    assert abs(pace_at(after, 5_000 + passed) - wanted) <= 2 + wanted * 0.001


def test_429s_that_follow_one_another_lower_the_goal() -> None:
    """Fast convergence, down to the floor."""
    goals, after, now = [], cut(FULL, 0), 0
    for _ in range(20):
        goals.append(after.most)
        now += 1_000
        after = cut(pace_at(after, now), now, after)
    assert goals == sorted(goals, reverse=True)
    assert goals[-1] < FULL // 2
    assert pace_at(after, now) >= FLOOR


def test_a_cut_after_it_was_back_begins_anew() -> None:
    """What went well in between counts."""
    first = cut(800, 0)
    assert cut(900, 60_000, first).most == 900
