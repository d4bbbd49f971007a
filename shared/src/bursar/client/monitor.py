"""Looking at the fleet: who of the services is there, and what each says about itself.

Used by the monitor and by `bursar top`, which asks the services directly and so works without the monitor. A service
that is away is an answer too: None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from bursar.bus.base import Bus, BusError, Msg, Subscription
from bursar.bus.codec import decode_reply, encode
from bursar.client.monitor_rows import SOURCES, Rows, Verb, instance_of, verbs_of
from bursar.contracts import limiter, limiter_control, scheduler, scheduler_explain
from bursar.contracts.base import request_subject
from bursar.contracts.monitor import SERVICE
from bursar.contracts.monitor_picture import InstanceRow, Status, StatusReply
from bursar.errors import BursarError

SWEEP_SECONDS = 0.3
"""How long a sweep waits for answers: a hundred instances answer within 3 ms."""

STATUS_SECONDS = 1.0
BOOKS: Final[Mapping[str, type[limiter_control.SpendingReply | scheduler_explain.SpendingReply]]] = {
    limiter.SERVICE: limiter_control.SpendingReply,
    scheduler.SERVICE: scheduler_explain.SpendingReply,
}
"""Services that keep a book of what was spent."""
MAX_PAGES: Final = 50
MAX_ANSWERS = 1_024


class FleetWatch:
    """Asks all services as one principal, who must be allowed to (an operator, or the monitor itself)."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = ""
        self._round = 0
        self._answers: dict[tuple[str, str], InstanceRow] = {}
        self._heard: dict[tuple[str, str], list[Verb]] = {}
        self._subscription: Subscription | None = None
        self.verbs: dict[tuple[str, str], list[Verb]] = {}
        """Of each instance (service, instance) that has answered the last sweep."""

    async def start(self) -> None:
        self._inbox = self._bus.new_inbox()
        self._subscription = await self._bus.subscribe(f"{self._inbox}.*", self._on_statistics)

    async def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.unsubscribe()

    async def sweep(self, within: float = SWEEP_SECONDS) -> list[InstanceRow] | None:
        """Every instance of every service that answers within so many seconds; None without a connection, since
        then it says nothing that nobody answers."""
        self._round += 1
        self._answers, self._heard = {}, {}
        try:
            self._bus.publish("$SRV.STATS", b"", f"{self._inbox}.{self._round}")
            await asyncio.sleep(within)
            await self._bus.flush()
        except BusError:
            return None
        self.verbs = self._heard
        return list(self._answers.values())

    def _on_statistics(self, msg: Msg) -> None:
        if msg.subject != f"{self._inbox}.{self._round}" or len(self._answers) >= MAX_ANSWERS:
            return
        row = instance_of(msg.data)
        if row is not None:
            self._answers[row.service, row.instance] = row
            self._heard[row.service, row.instance] = verbs_of(msg.data)

    async def rows(self, service: str, timeout: float = STATUS_SECONDS) -> Rows | None:
        """What a service says of itself, as rows by section; None when it does not answer (or not intelligibly)."""
        source = SOURCES[service]
        try:
            msg = await self._ask(service, timeout)
            return source.rows(decode_reply(source.reply, msg.data, msg.headers))
        except (BursarError, ValueError):  # a row that cannot be: the service has another version
            return None

    async def book(self, service: str, timeout: float = STATUS_SECONDS) -> list[Any] | None:
        """What a service's book of spending says, the dearest first (`BOOKS`); None when it does not answer."""
        kind = BOOKS[service]
        found: list[Any] = []
        try:
            for _ in range(MAX_PAGES):
                body = {"v": 1, "offset": len(found)}
                subject = request_subject(service, "spending", self._bus.principal)
                msg = await self._bus.request(subject, encode(body), timeout)
                reply = decode_reply(kind, msg.data, msg.headers)
                found.extend(reply.rows)
                if not reply.more or not reply.rows:
                    break
        except BursarError:
            return None
        return sorted(found, key=lambda row: -row.usd_micros)

    async def picture(self, timeout: float = STATUS_SECONDS) -> StatusReply | None:
        """The monitor's own picture; None when it does not answer."""
        try:
            msg = await self._ask(SERVICE, timeout)
            return decode_reply(StatusReply, msg.data, msg.headers)
        except BursarError:
            return None

    async def _ask(self, service: str, timeout: float) -> Msg:
        subject = request_subject(service, "status", self._bus.principal)
        return await self._bus.request(subject, encode(Status().model_dump(include={"v"})), timeout)
