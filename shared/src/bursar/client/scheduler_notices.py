"""What the scheduler tells one principal on ``bursar.assign.<principal>``: one subscription, shared by all who listen.

Notices come from the scheduler alone (permissions see to that), and may be lost: whoever listens has another way too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import Bus, Msg, Subscription
from bursar.contracts.base import notice_subject

log = logging.getLogger("bursar.client")

Hear = Callable[[dict[str, Any]], None]


class Notices:
    """Hands each notice to those who listen to its ``what``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._hearers: dict[str, list[Hear]] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        if self._subscription is None:
            self._subscription = await self._bus.subscribe(notice_subject(self._bus.principal), self._on_message)
            await self._bus.flush()

    async def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self._bus.is_connected:
            await subscription.unsubscribe()

    def listen(self, what: str, hear: Hear) -> None:
        self._hearers.setdefault(what, []).append(hear)

    def ignore(self, what: str, hear: Hear) -> None:
        self._hearers[what].remove(hear)

    def _on_message(self, msg: Msg) -> None:
        try:
            body = msgpack.unpackb(msg.data)
            hearers = self._hearers.get(body["what"], ())
        except (ValueError, TypeError, LookupError):
            log.warning("notice_unreadable")
            return
        for hear in list(hearers):
            hear(body)
