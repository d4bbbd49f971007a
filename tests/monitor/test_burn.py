"""Error budgets and burn rates, against the numbers of the SRE workbook."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_monitor.burn import DAY, HOUR, MINUTE, MONTH, TIERS, WINDOWS, Series, burn_milli, left_permille, rate_milli

SECOND = 1_000


def filled(*stretches: tuple[int, int, int]) -> tuple[Series, int]:
    """One reading every ten seconds: (duration ms, good, bad) of each; and the time at the end."""
    series, now = Series(), MONTH
    for duration, good, bad in stretches:
        end = now + duration
        while now < end:
            now += 10 * SECOND
            series.add(now, good, bad)
    return series, now


def test_at_rate_one_the_budget_of_a_month_lasts_a_month() -> None:
    """99.9 % with one bad reading in a thousand burns at 1; ten times as many at 10."""
    assert rate_milli(999, 1, 999_000) == 1_000
    assert rate_milli(990, 10, 999_000) == 10_000
    assert rate_milli(0, 0, 999_000) == 0


@pytest.mark.parametrize(
    ("signal", "rate", "share"), [("burn_1h", 14.4, 0.02), ("burn_6h", 6, 0.05), ("burn_3d", 1, 0.10)]
)
def test_the_workbooks_rates_use_the_workbooks_share_of_the_budget(signal: str, rate: float, share: float) -> None:
    """Table 5-8: 2 % of the budget in an hour, 5 % in six, 10 % in three days; short windows are a twelfth."""
    long, short = WINDOWS[signal]
    assert rate * long / MONTH == pytest.approx(share)
    assert short * 12 == long


def test_a_moment_does_not_burn_the_long_window_and_an_end_clears_the_short_one() -> None:
    """The smaller of the two rates: one bad minute after a good hour is little, and five good minutes end it."""
    series, now = filled((HOUR, 1, 0), (MINUTE, 0, 1))
    value = burn_milli(series, "burn_1h", now, 999_000, 1)
    assert value is not None
    assert 14_000 < value < 18_000, "a minute of an hour is 1/60, over a thousandth"
    series, now = filled((HOUR, 0, 1), (6 * MINUTE, 1, 0))
    assert burn_milli(series, "burn_1h", now, 999_000, 1) == 0
    assert (burn_milli(series, "burn_6h", now, 999_000, 1) or 0) > 500_000


def test_few_readings_tell_no_rate() -> None:
    """One bad reading of one is no fire."""
    series, now = filled((MINUTE, 0, 1))
    assert burn_milli(series, "burn_1h", now, 950_000, 7) is None
    assert burn_milli(series, "burn_1h", now, 950_000, 6) == 20_000
    assert burn_milli(Series(), "burn_1h", now, 950_000, 1) is None


def test_the_budget_that_is_left_may_be_overdrawn() -> None:
    """Everything, nothing, less than nothing; and nothing is known without readings."""
    assert left_permille(filled((MINUTE, 1, 0))[0], MONTH + MINUTE, 950_000) == 1_000
    assert left_permille(filled((MINUTE, 95, 5))[0], MONTH + MINUTE, 950_000) == 0
    assert left_permille(filled((MINUTE, 90, 10))[0], MONTH + MINUTE, 950_000) == -1_000
    assert left_permille(Series(), MONTH, 950_000) is None
    with pytest.raises(ValueError, match="nothing is kept"):
        Series().within(MONTH, MONTH + 1)


def test_what_is_kept_is_bounded_and_old_readings_go() -> None:
    """Three tiers, each as long as it says, whatever comes in."""
    series, now = filled((2 * HOUR, 1, 0))
    series.add(now + 40 * DAY, 1, 1)
    assert series.within(now + 40 * DAY, MONTH) == (1, 1)
    longest = [len(tier) for tier in filled((7 * HOUR, 1, 0))[0].dump()]
    assert longest == [length // width + 1 for width, length in TIERS[:2]] + [8]


@pytest.mark.property
@given(st.lists(st.tuples(st.integers(0, 3 * HOUR), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_windows_hold_what_came_within_them(steps: list[tuple[int, int, int]]) -> None:
    """Never less than what came in the window, never more than in a window that is one bucket longer."""
    series, now, all_of_it = Series(), 0, []
    for wait, good, bad in steps:
        now += wait
        series.add(now, good, bad)
        all_of_it.append((now, bad))
    for window in (5 * MINUTE, HOUR, 6 * HOUR, DAY, MONTH):
        width = next(width for width, length in TIERS if window <= length)
        found = series.within(now, window)[1]
        assert sum(bad for at, bad in all_of_it if at >= now - window) <= found
        assert found <= sum(bad for at, bad in all_of_it if at >= now - window - width)
    assert Series.load(series.dump()).dump() == series.dump()
