"""A probe of the limiter: a small reserve and settle at a steady rate, whatever became of the ones before.

Each is a task of its own, so that a limiter that is away is asked as often as one that answers: the latencies have no
gap where it hurts, and recovery is seen at the moment of the first grant. It uses a budget of its own, which is never
short, so that a latency is the time of the coordination and not of standing in line.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import bursar
from bursar.demo.plan import PROBE_BUDGET


class Probed(NamedTuple):
    """One probe, by `time.monotonic`: when it was sent, seconds to the grant, and to the settlement after that.
    ``granted`` is negative when there was no grant."""

    sent: float
    granted: float
    settled: float


class Probe:
    """Asks ``rate`` times a second until cancelled; what it found is in ``found``."""

    def __init__(self, fleet: bursar.Fleet, rate: float) -> None:
        self._fleet, self._pause = fleet, 1.0 / rate
        self.found: list[Probed] = []
        self.errors: list[str] = []

    async def run(self) -> None:
        next_at = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._once())
                next_at += self._pause
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def _once(self) -> None:
        sent = time.monotonic()
        try:
            permit = await self._fleet.limiter.acquire(PROBE_BUDGET, ttl=10.0)
            granted = time.monotonic()
            permit.sent()
            await permit.settle()
            self.found.append(Probed(sent, granted - sent, time.monotonic() - granted))
        except bursar.BursarError as error:
            self.found.append(Probed(sent, -1.0, 0.0))
            self.errors.append(f"{error.code}: {error.text}")
