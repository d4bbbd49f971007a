"""Probes of the services: a small request to each at a steady rate, whatever became of the ones before.

Each is a task of its own, so that a service that is away is asked as often as one that answers: the latencies have no
gap where it hurts, and recovery is seen at the moment of the first answer. What is asked is durable where the service
decides on requests (a permit, a task, a lease) and never short, so that a latency is the time of the coordination and
not of standing in line; of the breaker, which decides on reports, the state is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import bursar
from bursar.client.breaker_errors import BreakerUnavailable
from bursar.client.caller import Caller
from bursar.client.time import SystemClock
from bursar.contracts.breaker import SERVICE as BREAKER
from bursar.demo.plan import PROBE_BUDGET

PATIENCE_MS = 10_000.0


class Probed(NamedTuple):
    """One probe: when it was sent (`time.monotonic`) and the seconds to its answer, negative when there was none."""

    sent: float
    answered: float


Ask = Callable[[], Awaitable[Callable[[], Awaitable[object]] | None]]
"""One question; returns when it is answered, with what gives back what was granted."""


class Probe:
    """Asks ``rate`` times a second until cancelled; what it found is in ``found``."""

    def __init__(self, ask: Ask, rate: float) -> None:
        self._ask, self._pause = ask, 1.0 / rate
        self.found: list[Probed] = []
        self.errors: list[str] = []

    async def run(self, after: float) -> None:
        """The first question comes after so many seconds, so that several probes do not ask at the same moment."""
        next_at = time.monotonic() + after
        await asyncio.sleep(after)
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._once())
                next_at += self._pause
                await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def _once(self) -> None:
        sent = time.monotonic()
        give_back = None
        try:
            give_back = await self._ask()
            self.found.append(Probed(sent, time.monotonic() - sent))
        except bursar.BursarError as error:
            self.found.append(Probed(sent, -1.0))
            self.errors.append(f"{error.code}: {error.text}")
        if give_back is not None:
            with contextlib.suppress(bursar.BursarError):
                await give_back()


@contextlib.asynccontextmanager
async def questions(fleet: bursar.Fleet, hosts: list[str]) -> AsyncIterator[dict[str, Ask]]:
    """One question for each service, by its name. ``hosts``: where a little GPU memory is asked for."""
    caller = Caller(fleet.scheduler.bus, BREAKER, SystemClock(), unavailable=BreakerUnavailable)
    await caller.start()

    async def limiter() -> Callable[[], Awaitable[object]]:
        permit = await fleet.limiter.acquire(PROBE_BUDGET, ttl=10.0)
        permit.sent()
        return permit.settle

    async def scheduler() -> Callable[[], Awaitable[object]]:
        handle = await fleet.scheduler.submit("probe", needs={"labels": {"nobody": "has this"}})
        return handle.cancel

    async def gpu() -> Callable[[], Awaitable[object]] | None:
        try:
            lease = await fleet.gpu.lease(1, hosts=hosts, ttl=5.0)
        except bursar.GpuRefused:
            return None
        return lease.release

    async def breaker() -> None:
        await caller.run(caller.query("query", {}), SystemClock().now() + PATIENCE_MS)

    try:
        yield {"limiter": limiter, "scheduler": scheduler, "gpu-manager": gpu, "breaker": breaker}
    finally:
        await caller.close()
