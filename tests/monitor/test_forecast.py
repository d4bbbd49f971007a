"""The forecast of demand, judged against the naive one."""

from __future__ import annotations

import math
import random

from bursar_monitor.forecast import Forecaster

DAY = 48


def daily(step: int, noise: random.Random) -> int:
    """A working day: little at night, a surge in the morning."""
    return round(40 + 60 * max(0.0, math.sin(2 * math.pi * step / DAY)) + noise.gauss(0, 2))


def test_a_season_is_learned_and_the_surge_is_seen_before_it_comes() -> None:
    """After three days the forecast of an hour ahead errs far less than "as it is now"."""
    noise = random.Random(7)
    forecaster = Forecaster(DAY, 2, (daily(step, noise) for step in range(3 * DAY)))
    seasonal = naive = 0.0
    for step in range(3 * DAY, 5 * DAY):
        forecast = forecaster.forecast()
        assert not forecast.is_naive
        truth = daily(step + 1, random.Random(step))
        seasonal += abs(forecast.value - truth)
        naive += abs(forecaster.last - truth)
        forecaster.learn(daily(step, noise))
    assert seasonal < naive / 2, (seasonal, naive)
    shown = forecaster.forecast()
    assert shown.error is not None
    assert shown.naive_error is not None
    assert shown.error < shown.naive_error / 1.5


def test_without_two_seasons_or_without_a_season_the_naive_forecast_is_used() -> None:
    """A random walk has no season: the better of the two is that it stays as it is."""
    noise = random.Random(3)
    forecaster = Forecaster(DAY, 1)
    assert (forecaster.forecast().value, forecaster.forecast().is_naive) == (0.0, True)
    level = 500
    for step in range(6 * DAY):
        level = max(0, level + noise.choice((-9, 9)))
        forecaster.learn(level)
        if step < 2 * DAY:
            assert forecaster.forecast().error is None
    forecast = forecaster.forecast()
    assert (forecast.is_naive, forecast.value) == (True, float(level))
    assert forecast.error is not None


def test_the_error_is_that_of_the_forecasts_that_were_made() -> None:
    """Each is kept until its time has come, and compared with what came then."""
    series = [10, 20, 10, 20, 10, 20, 10, 20]
    forecaster = Forecaster(2, 1, series)
    forecast = forecaster.forecast()
    assert forecast.naive_error == 10
    assert forecast.error is not None
    assert forecast.error < 1
    assert round(forecast.value) == 10


def test_demand_is_never_foretold_below_nothing() -> None:
    """A trend downwards ends at 0."""
    forecaster = Forecaster(2, 50, [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 0, 0, 0])
    seasonal = forecaster._seasonal(50)
    assert seasonal is not None
    assert seasonal >= 0
