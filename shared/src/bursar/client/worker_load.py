"""A worker's look at its host, once with each heartbeat: the load that it tells, and the number of its slots."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bursar.client.worker_meter import HostMeter, Meter
from bursar.client.worker_places import Places
from bursar.client.worker_slots import SlotController, SlotRule
from bursar.errors import CallerError

log = logging.getLogger("bursar.client")


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
