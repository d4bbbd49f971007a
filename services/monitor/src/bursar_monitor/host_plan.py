"""How the probe learns of the leases of its host: it asks when it is told that something has changed, and every half
minute, since what is told may be lost. What it does not hear it goes on with: the limits stay as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from bursar.bus.base import Bus, BusError, Msg
from bursar.bus.codec import decode_reply, encode
from bursar.contracts.base import event_subject, request_subject
from bursar.contracts.monitor import SERVICE
from bursar.contracts.monitor_quota import QUOTA_KIND, HostPlan, HostPlanQuery
from bursar.errors import BursarError
from bursar_monitor.host_limits import Enforcer

log = logging.getLogger("bursar.node")

EVERY: Final = 30.0
RETRY: Final = 2.0
PATIENCE: Final = 2.0


class Planner:
    """Keeps an enforcer's plan up to date, until it is cancelled."""

    def __init__(self, bus: Bus, enforcer: Enforcer) -> None:
        self._bus = bus
        self._enforcer = enforcer
        self._told = asyncio.Event()

    async def run(self) -> None:
        host = self._bus.principal
        while True:
            with contextlib.suppress(BusError):
                await self._bus.subscribe(event_subject(SERVICE, QUOTA_KIND, host), self._on_change)
                break
            await asyncio.sleep(RETRY)
        while True:
            pause = EVERY if await self.ask() else RETRY
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), pause)
            self._told.clear()

    def _on_change(self, msg: Msg) -> None:
        """Only the monitor may publish there; what it says is asked for."""
        self._told.set()

    async def ask(self) -> bool:
        """Whether the monitor has answered."""
        try:
            subject = request_subject(SERVICE, "host-plan", self._bus.principal)
            msg = await self._bus.request(subject, encode(HostPlanQuery().model_dump(include={"v"})), PATIENCE)
            plan = decode_reply(HostPlan, msg.data, msg.headers)
        except BursarError as error:
            log.debug("no_plan", extra={"code": error.code})
            return False
        self._enforcer.take(plan.leases)
        return True
