"""What one principal is told on ``bursar.assign.<principal>``: one subscription, shared by all who listen.

Only services may publish there, and each notice says in ``what`` what it is about: ends of tasks, assignments, lost
leases. Notices may be lost, so whoever listens has another way too.

Something else may turn up all the same: a server's own "429", if somebody gave this subject as the reply subject of a
message that could not be stored. What cannot be read, and what nobody listens for, is counted and otherwise ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import Bus, Msg, Subscription
from bursar.contracts.base import notice_subject

Hear = Callable[[dict[str, Any]], None]


class Notices:
    """Hands each notice to those who listen to its ``what``. ``ignored`` counts those that were nobody's.

    Each `start` needs a `close`: it listens from the first one that starts until the last one has closed."""

    def __init__(self, bus: Bus) -> None:
        self.ignored = 0
        self._bus = bus
        self._hearers: dict[str, list[Hear]] = {}
        self._users = 0
        self._starting = asyncio.Lock()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Raises a `BusError` when there is no connection; then it was not started."""
        async with self._starting:
            if self._subscription is None:
                self._subscription = await self._bus.subscribe(notice_subject(self._bus.principal), self._on_message)
                await self._bus.flush()
            self._users += 1

    async def close(self) -> None:
        self._users -= 1
        if self._users > 0:
            return
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
            hearers = tuple(self._hearers.get(body["what"], ()))
        except (ValueError, TypeError, LookupError, RecursionError):
            body, hearers = {}, ()
        if not hearers:
            self.ignored += 1
        for hear in hearers:
            hear(body)
