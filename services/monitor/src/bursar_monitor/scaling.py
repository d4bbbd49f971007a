"""How many workers each pool should have: looked at every five seconds, decided by the formula of the HPA (`hpa`).

What asks for workers: slots that are busy, tasks that wait, and demand as it is forecast for the time when a worker
that is started now will be of use (`forecast`). What is known comes from the scheduler's own status; when that is old
nothing is decided. The number itself, and the demand of each step, are durable: a take-over starts its stabilisation
window with the number that it finds, so that it takes nothing away that the owner before it held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bursar.contracts.monitor_picture import QueueRow, WorkerRow
from bursar.contracts.monitor_scaling import SCALE_KIND, Scaler
from bursar.kernel.decider import Accept, Broadcast, Command, Fence, Outcome, Refuse
from bursar_monitor import advising, events, hpa
from bursar_monitor.forecast import Forecaster
from bursar_monitor.hpa import Change, Recommended
from bursar_monitor.state import Pool, State, matches

SYNC_MS: Final = 5_000
FRESH_MS: Final = 10_000
"""What the scheduler said longer ago says nothing about now."""
HEARD_MS: Final = 15_000
"""Of a worker that has been silent for so long nothing is known."""
PAST: Final = 1_024
SEASONS: Final = 3
"""Seasons of demand that are remembered."""

NOTHING = Refuse({})


class Scale(NamedTuple):
    """It is time to look at a pool."""

    pool: str


class Demanded(NamedTuple):
    """A step of a pool's demand is over."""

    pool: str


class Seen(NamedTuple):
    """What is known of a pool now. ``busy``: of each worker, thousandths of its slots, None when it is not heard;
    ``reactive``: tasks that somebody waits for and that run."""

    busy: list[int | None]
    slots: int
    running: int
    waiting: int
    reactive: int

    @property
    def demand(self) -> int:
        """In slots."""
        return self.running + self.waiting


class PoolView:
    """The volatile part of a pool: what was recommended and changed, what the demand is, and what is foretold."""

    __slots__ = ("changes", "forecaster", "past", "peak", "seen", "step_at", "why")

    def __init__(self, scaler: Scaler, pool: Pool | None, now: int) -> None:
        ahead = hpa.ceil_div(scaler.horizon_s, scaler.step_s)
        self.forecaster = Forecaster(scaler.season_steps, ahead, () if pool is None else pool.demand)
        self.past: deque[Recommended] = deque(maxlen=PAST)
        if pool is not None and pool.desired:
            self.past.append(Recommended(now, pool.desired))
        self.changes: deque[Change] = deque(maxlen=PAST)
        self.peak: int | None = None
        self.seen: Seen | None = None
        self.step_at = (now // (scaler.step_s * 1_000) + 1) * scaler.step_s * 1_000
        self.why = "unknown"


def due(state: State, now: int) -> Scale | Demanded | None:
    if now >= state.scale_at:
        state.scale_at = now + SYNC_MS
        state.to_scale = [scaler.name for scaler in state.policy.scalers]
    for name, view in state.views.items():
        if now >= view.step_at:
            return Demanded(name)
    return Scale(state.to_scale.pop()) if state.to_scale else None


def decide_demanded(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """The largest demand that was seen in the step becomes durable, and is learned from."""
    view, scaler = state.views.get(command.body.pool), state.policy.scaler(command.body.pool)
    if view is None or scaler is None or now < view.step_at:
        return NOTHING
    length = scaler.step_s * 1_000
    view.step_at += ((now - view.step_at) // length + 1) * length
    peak, view.peak = view.peak, None
    if peak is None:
        return NOTHING
    view.forecaster.learn(peak)
    return Accept([(events.DEMANDED, now, scaler.name, peak)], {})


def decide_scale(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    scaler = state.policy.scaler(command.body.pool)
    if scaler is None:
        return NOTHING
    pool = state.pools.get(scaler.name)
    view = state.views.get(scaler.name)
    if view is None:
        view = state.views[scaler.name] = PoolView(scaler, pool, now)
    view.seen = _see(state, scaler, now)
    if view.seen is None:
        view.why = "unknown"
        return NOTHING
    view.peak = max(view.peak or 0, view.seen.demand)
    advising.of_pool(state, scaler, now, view.seen.slots, view.seen.running, view.seen.reactive)
    current = len(view.seen.busy)
    before = pool.desired if pool is not None and pool.desired else max(current, scaler.least)
    desired, view.why = _desired(scaler, view, view.seen, before, now)
    if pool is not None and desired == pool.desired:
        return NOTHING
    view.changes.append(Change(now, desired - before))
    body = {"v": 1, "pool": scaler.name, "desired": desired, "current": current, "why": view.why, "at_ms": now}
    event = (events.SCALED, now, scaler.name, desired, current, view.why)
    return Accept([event], {}, [Broadcast(SCALE_KIND, scaler.name, body)])


def _see(state: State, scaler: Scaler, now: int) -> Seen | None:
    page = state.pages.get("scheduler")
    if page is None or page.at is None or now - page.at >= FRESH_MS:
        return None
    workers = [row for row in page.rows.get("workers", ()) if isinstance(row, WorkerRow)]
    mine = [row for row in workers if matches(scaler.workers, row.worker) and row.state != "draining"]
    queues = [row for row in page.rows.get("queues", ()) if isinstance(row, QueueRow) and row.queue != "dead"]
    return Seen(
        [_busy(row) for row in mine],
        sum(row.slots or 0 for row in mine),
        sum(row.running or 0 for row in mine),
        sum(row.waiting for row in queues),
        sum(row.running for row in queues if row.queue == "reactive"),
    )


def _busy(row: WorkerRow) -> int | None:
    if not row.slots or row.running is None or (row.heard_ms or 0) >= HEARD_MS:
        return None
    return row.running * 1_000 // row.slots


def _desired(scaler: Scaler, view: PoolView, seen: Seen, before: int, now: int) -> tuple[int, str]:
    """The number, and what asks for it."""
    current = len(seen.busy)
    proposals = dict(_proposals(scaler, view, seen))
    wanted = hpa.largest(current, proposals.values())
    if wanted is None:
        return before, "unknown"
    why = next((name for name, found in proposals.items() if found == wanted), "unknown")
    within = min(max(wanted, scaler.least), scaler.most)
    held = hpa.stabilised(before, within, view.past, now, scaler.up_window_s, scaler.down_window_s)
    view.past.append(Recommended(now, within))
    stepped = hpa.limited(before, held, view.changes, now, scaler.up_steps, scaler.down_steps)
    desired = min(max(stepped, scaler.least), scaler.most)
    if desired != within:
        return desired, "steady"
    if within != wanted:
        return desired, "least" if within > wanted else "most"
    return desired, why


def _proposals(scaler: Scaler, view: PoolView, seen: Seen) -> Iterator[tuple[str, int | None]]:
    current, tolerance = len(seen.busy), scaler.tolerance_permille
    if scaler.busy_permille is not None:
        yield "busy", hpa.for_values(seen.busy, scaler.busy_permille, tolerance) if seen.busy else 0
    if scaler.waiting_each is not None:
        yield "waiting", hpa.for_total(seen.waiting, scaler.waiting_each, current, tolerance)
    if scaler.predict and current and seen.slots:
        foretold = view.forecaster.forecast()
        if not foretold.is_naive:
            yield "forecast", _for_demand(round(foretold.value), scaler, seen)


def _for_demand(demand: int, scaler: Scaler, seen: Seen) -> int:
    """Workers whose slots are as busy as they should be with this demand."""
    busy = scaler.busy_permille or 1_000
    return hpa.ceil_div(demand * 1_000 * len(seen.busy), seen.slots * busy)


def rows(state: State, now: int) -> Iterator[dict[str, Any]]:
    """The pools as the picture shows them."""
    page = state.pages.get("scheduler")
    for scaler in state.policy.scalers:
        pool, view = state.pools.get(scaler.name), state.views.get(scaler.name)
        seen = None if view is None else view.seen
        foretold = None if view is None else view.forecaster.forecast()
        yield {
            "v": 1,
            "pool": scaler.name,
            "workers": scaler.workers,
            "desired": None if pool is None or not pool.desired else pool.desired,
            "current": None if seen is None else len(seen.busy),
            "least": scaler.least,
            "most": scaler.most,
            "why": "unknown" if view is None else view.why,
            "slots": None if seen is None else seen.slots,
            "running": None if seen is None else seen.running,
            "waiting": None if seen is None else seen.waiting,
            "forecast": None if foretold is None or foretold.is_naive else round(foretold.value),
            "forecast_error_milli": None if foretold is None else _milli(foretold.error),
            "naive_error_milli": None if foretold is None else _milli(foretold.naive_error),
            "age_ms": None if page is None or page.at is None else max(0, now - page.at),
        }


def _milli(value: float | None) -> int | None:
    return None if value is None else round(value * 1_000)
