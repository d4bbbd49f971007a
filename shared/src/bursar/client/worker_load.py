"""A worker's look at its host, once with each heartbeat: the load that it tells, and the number of its slots."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from bursar.client.worker_meter import HostMeter, Meter
from bursar.client.worker_places import Places
from bursar.client.worker_slots import SlotController, SlotRule
from bursar.errors import CallerError

log = logging.getLogger("bursar.client")


WINDOW: Final = 32
"""Measurements of the way that are kept: the shortest of them is the way without anybody's queue."""


class Way:
    """How long the way is to what the worker works with, or to the scheduler as long as nobody has measured that."""

    def __init__(self) -> None:
        self._measured: deque[int] = deque(maxlen=WINDOW)
        self._to_scheduler: deque[int] = deque(maxlen=WINDOW)

    def measured(self, seconds: float) -> None:
        self._measured.append(_us(seconds))

    def to_scheduler(self, milliseconds: float) -> None:
        self._to_scheduler.append(_us(milliseconds / 1000.0))

    @property
    def latency_us(self) -> int | None:
        """None: not known yet."""
        return min(self._measured or self._to_scheduler, default=None)


def _us(seconds: float) -> int:
    return max(0, min(60_000_000, round(seconds * 1e6)))


class Load:
    """``rule``: for the number of slots; None leaves it as it is. ``meter``: None takes the host's, if it can be had
    (with a rule it has to be). ``permille``: of the CPU, or of the slots where nobody can tell."""

    def __init__(self, rule: SlotRule | None, places: Places, meter: Meter | None, now: Callable[[], float]) -> None:
        self.permille = 0
        self._places = places
        self._control = None if rule is None else SlotController(rule, places.limit)
        self._meter = meter
        if meter is None:
            try:
                self._meter = HostMeter(now)
            except CallerError:
                if rule is not None:
                    raise

    def look(self) -> bool:
        """Read the meter, and set the slots; whether their number has changed."""
        places, control = self._places, self._control
        if self._meter is None:
            self.permille = round(1000.0 * places.used / places.limit)
            return False
        try:
            reading = self._meter.read()
        except Exception as error:  # noqa: BLE001 - heartbeats go on, whatever a meter does
            log.warning("load_unknown", extra={"why": type(error).__name__})
            return False
        self.permille = round(1000.0 * reading.cpu)
        if control is None or control.step(reading, places.used) == places.limit:
            return False
        log.info("slots", extra={"before": places.limit, "slots": control.slots, "cpu_permille": self.permille})
        places.limit = control.slots
        return True
