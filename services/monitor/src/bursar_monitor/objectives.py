"""Objectives: which readings are good, and what that leaves of their error budgets.

An objective looks at the same signals as rules do. Each reading lies in its band or it does not; the counts become
durable once a minute (`Count`), so that a take-over costs no budget more than a minute of its readings. Every five
seconds the burn rates are readings themselves, which rules look at like at any other.

Below the band means that something is idle. That is bad only while somebody waits: for a budget its own line, for
everything else the scheduler's queues.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from bursar.contracts.monitor_picture import BudgetRow, QueueRow
from bursar.contracts.monitor_policy import Slo
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse
from bursar.sketch import Sketch, merged
from bursar_monitor import events
from bursar_monitor.bugs import IDLE_IS_BAD, seeded
from bursar_monitor.burn import WINDOWS, burn_milli
from bursar_monitor.signals import Reading
from bursar_monitor.state import MAX_SERIES, State, matches

COUNT_MS: Final = 60_000
BURN_MS: Final = 5_000
DEMAND_MS: Final = 10_000
"""What was told of waiting longer ago says nothing about now."""


RECENT_MS: Final = 1_800_000
"""A percentile is that of the last half hour to hour."""


class Count(NamedTuple):
    """The readings since the last time become durable."""


class Recent:
    """The readings of a duration since half an hour, and those of the half hour before. Volatile."""

    __slots__ = ("_before", "_now", "_since")

    def __init__(self, now: int) -> None:
        self._since = now
        self._now, self._before = Sketch(), Sketch()

    def add(self, value: int, times: int, now: int) -> None:
        self._turn(now)
        self._now.add(value, times)

    def p95(self, now: int) -> int | None:
        """Within 1 %; None: nothing was read."""
        self._turn(now)
        whole = merged((self._before, self._now))
        return round(whole.quantile(0.95)) if whole.count else None

    def _turn(self, now: int) -> None:
        while now - self._since >= RECENT_MS:
            self._since = self._since + RECENT_MS if now - self._since < 2 * RECENT_MS else now
            self._before, self._now = self._now, Sketch()


def name_of(slo: Slo, subject: str) -> str:
    """What alerts about an error budget are about: the objective, or one of its subjects."""
    return f"{slo.name}/{subject}" if slo.each else slo.name


def judge(state: State, signal: str, subject: str, value: int, now: int, times: int = 1) -> None:
    """Count a reading, that was made so many times, for the objectives that look at it."""
    for slo in state.slos_of.get(signal, ()):
        if not matches(slo.subjects, subject):
            continue
        key = (slo.name, subject if slo.each else "")
        counts = state.fresh.get(key)
        if counts is None:
            if key not in state.series and len(state.series.keys() | state.fresh.keys()) >= MAX_SERIES:
                continue
            counts = state.fresh[key] = [0, 0]
        counts[0 if is_good(state, slo, subject, value, now) else 1] += times
        if signal.endswith("_ms"):
            recent = state.recent.get(key)
            if recent is None:
                recent = state.recent[key] = Recent(now)
            recent.add(value, times, now)


def is_good(state: State, slo: Slo, subject: str, value: int, now: int) -> bool:
    if slo.high is not None and value > slo.high:
        return False
    if slo.low is None or value >= slo.low:
        return True
    return not seeded(IDLE_IS_BAD) and not is_wanted(state, slo.signal, subject, now)


def is_wanted(state: State, signal: str, subject: str, now: int) -> bool:
    """Whether somebody waits for what this signal measures."""
    if signal == "budget_permille":
        rows = _rows(state, "limiter", "budgets", now)
        return any(isinstance(row, BudgetRow) and row.waiting > 0 and f"{row.budget}/{row.dimension}" == subject
                   for row in rows)  # fmt: skip
    queues = _rows(state, "scheduler", "queues", now)
    return any(isinstance(row, QueueRow) and row.queue != "dead" and row.waiting > 0 for row in queues)


def _rows(state: State, service: str, section: str, now: int) -> Iterator[object]:
    page = state.pages.get(service)
    if page is not None and page.at is not None and now - page.at < DEMAND_MS:
        yield from page.rows.get(section, ())


def burns(state: State, now: int) -> Iterator[Reading]:
    """The burn rates as readings, from what is durable."""
    for (name, subject), series in state.series.items():
        slo = state.policy.slo(name)
        if slo is None:
            continue
        for signal in WINDOWS:
            value = burn_milli(series, signal, now, slo.objective_ppm, slo.at_least_readings)
            if value is not None:
                yield signal, name_of(slo, subject), value


def decide_count(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    counted = [[*key, *counts] for key, counts in state.fresh.items()]
    state.fresh = {}
    event: Event = (events.COUNTED, now, counted)
    return Accept([event], {}) if counted else Refuse({})
