"""Demand a while ahead: Holt-Winters with a damped trend and an additive season, beside the naive forecast.

A method is worth its name only when it beats "as it is now" (Hyndman and Athanasopoulos, "Forecasting: Principles and
Practice", chapters 5 and 8). So both are made at every step, both are judged by what came, and the one with the smaller
mean error over the last season is used. Without two seasons behind it there is no season to speak of, and only naive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from bursar_monitor.bugs import FORECAST_UNJUDGED, seeded

LEVEL: Final = 0.35
TREND: Final = 0.05
SEASON: Final = 0.25
DAMPING: Final = 0.9
"""Weights of the newest value in level, trend and season; how much of the trend is left a step later."""


class Forecast(NamedTuple):
    """``value``: of the better method. Errors: mean absolute ones over the last season; None: not judged."""

    value: float
    is_naive: bool
    error: float | None
    naive_error: float | None


class Forecaster:
    """Learns a series step by step. ``season``: its length in steps; ``ahead``: how many steps are forecast."""

    __slots__ = (
        "_ahead",
        "_errors",
        "_level",
        "_made",
        "_naive_errors",
        "_season",
        "_seen",
        "_start",
        "_trend",
        "last",
    )

    def __init__(self, season: int, ahead: int, history: Iterable[int] = ()) -> None:
        self._ahead = max(1, ahead)
        self._start: list[int] | None = []
        self._season = [0.0] * season
        self._level = self._trend = 0.0
        self._seen = 0
        self._made: deque[tuple[float | None, float]] = deque(maxlen=self._ahead)
        self._errors: deque[float] = deque(maxlen=season)
        self._naive_errors: deque[float] = deque(maxlen=season)
        self.last = 0
        for value in history:
            self.learn(value)

    def learn(self, value: int) -> None:
        """The value of the next step."""
        self._judge(value)
        self.last = value
        if self._start is not None:
            self._begin(value)
        else:
            self._smooth(value)
        self._seen += 1
        self._made.append((self._seasonal(self._ahead), float(value)))

    def _judge(self, value: int) -> None:
        if len(self._made) < self._ahead:
            return
        seasonal, naive = self._made[0]
        if seasonal is not None:
            self._errors.append(abs(value - seasonal))
            self._naive_errors.append(abs(value - naive))

    def _begin(self, value: int) -> None:
        """From two seasons: the mean of the second is the level, the mean difference the trend."""
        assert self._start is not None
        self._start.append(value)
        length = len(self._season)
        if len(self._start) < 2 * length:
            return
        first, second = self._start[:length], self._start[length:]
        means = sum(first) / length, sum(second) / length
        self._trend = (means[1] - means[0]) / length
        for step in range(length):
            self._season[step] = ((first[step] - means[0]) + (second[step] - means[1])) / 2
        self._level = means[1]
        self._start = None

    def _smooth(self, value: int) -> None:
        place = self._seen % len(self._season)
        expected = self._level + DAMPING * self._trend
        level = LEVEL * (value - self._season[place]) + (1 - LEVEL) * expected
        self._trend = TREND * (level - self._level) + (1 - TREND) * DAMPING * self._trend
        self._season[place] = SEASON * (value - level) + (1 - SEASON) * self._season[place]
        self._level = level

    def _seasonal(self, ahead: int) -> float | None:
        if self._start is not None:
            return None
        damped = sum(DAMPING**step for step in range(1, ahead + 1))
        place = (self._seen - 1 + ahead) % len(self._season)
        return max(0.0, self._level + damped * self._trend + self._season[place])

    def forecast(self) -> Forecast:
        """Demand ``ahead`` steps after the last value."""
        seasonal = self._seasonal(self._ahead)
        error, naive_error = _mean(self._errors), _mean(self._naive_errors)
        is_judged = error is not None and naive_error is not None and error < naive_error
        if seasonal is not None and (is_judged or seeded(FORECAST_UNJUDGED)):
            return Forecast(seasonal, False, error, naive_error)
        return Forecast(float(self.last), True, error, naive_error)


def _mean(errors: deque[float]) -> float | None:
    return sum(errors) / len(errors) if errors else None
