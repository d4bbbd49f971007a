"""The leases of one kind that a process holds: renewed while it lives, told when they end, and never forgotten: a grant
that nobody waits for any more goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from bursar.client.background import Background
from bursar.client.caller import Call, Caller, Reply
from bursar.client.gpu_lease import SILENT, Releasable
from bursar.errors import BursarError

REAP_MS: Final = 30_000.0
"""How long the fate of an abandoned request is still looked for."""


class Kept(Releasable, Protocol):
    """A lease as it is kept. ``ttl``, ``left``: seconds."""

    id: str
    ttl: float
    nudge: asyncio.Event

    @property
    def left(self) -> float: ...
    @property
    def held(self) -> bool: ...
    def lose(self, reason: str) -> None: ...


Lease = TypeVar("Lease", bound=Kept)


class HeldLeases(Generic[Lease]):
    """``by_id``: those that were granted and not released. ``renew``: renews one before it ends, or has it lost."""

    def __init__(self, caller: Caller, background: Background, renew: Callable[[Lease], Awaitable[None]]) -> None:
        self._caller = caller
        self._background = background
        self._renew = renew
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self.by_id: dict[str, Lease] = {}

    def keep(self, lease: Lease) -> None:
        """Have it renewed from now on, at a third of its time to live, until it has ended."""
        self._keeping[lease.id] = self._background.spawn(self._keep(lease))

    async def _keep(self, lease: Lease) -> None:
        while lease.held:
            try:
                await asyncio.wait_for(lease.nudge.wait(), max(0.0, lease.left - lease.ttl * 2 / 3))
            except TimeoutError:
                await self._renew(lease)
        lease.lose(SILENT)

    async def release(self, lease: Lease, verb: str, fields: dict[str, Any], deadline: float) -> None:
        """Say that it is not used any more; nobody needs to hear it once it has expired by itself."""
        if lease.ended:
            return
        lease.ended = True
        lease.nudge.set()
        keeping = self._keeping.pop(lease.id, None)
        if keeping is not None:
            keeping.cancel()
        try:
            await self._caller.ask(verb, fields, deadline)
        except BursarError:
            pass  # it has ended, or will by its time
        finally:
            self.by_id.pop(lease.id, None)

    def abandon(self, call: Call, until: float, give_back: Callable[[Reply], Awaitable[None]]) -> None:
        """Nobody waits for the answer any more; if it is a grant, and comes until then (local ms), it goes back."""
        if call.was_sent:
            self._background.spawn(self._reap(call, until, give_back))
        else:
            self._caller.give_up(call)

    async def _reap(self, call: Call, until: float, give_back: Callable[[Reply], Awaitable[None]]) -> None:
        try:
            reply = await self._caller.run(call, until)
        except BursarError:
            self._caller.give_up(call)
            return
        if reply.body.get("ok") is True:
            await give_back(reply)
