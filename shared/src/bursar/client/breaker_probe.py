"""Permits to try a half-open target: asked for, and their results told, also when nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from bursar.client.background import Background
from bursar.client.caller import Call, Caller
from bursar.client.errors import BadReply
from bursar.client.time import Clock
from bursar.contracts.breaker import Outcome
from bursar.errors import BursarError

ASK_MS: Final = 1_000.0
"""How long an answer is waited for."""

TELL_MS: Final = 30_000.0
"""For how long a probe's result is repeated to a registry that does not answer."""


class Lease(NamedTuple):
    """A probe permit. ``until``: local ms; counted from before it was asked for, so never later than the registry's
    own end of it."""

    key: str
    until: float


class NoProbe(NamedTuple):
    """Why there is none: ``closed`` (none is needed), ``busy`` or ``open``; ``retry_in_ms`` if a time is known."""

    reason: str
    retry_in_ms: int | None


class Probes:
    """``learn`` takes the circuits that an answer names; ``differs`` is called when it shows that what is known here is
    not what the registry says."""

    def __init__(
        self, caller: Caller, clock: Clock, learn: Callable[[dict[str, Any]], None], differs: Callable[[], None]
    ) -> None:
        self.background = Background()
        self.is_open = False
        self._caller = caller
        self._clock = clock
        self._learn = learn
        self._differs = differs

    async def ask(self, target: str) -> Lease | NoProbe:
        """Ask for a permit. Raises `BreakerUnavailable` or another `BursarError`."""
        if len(self.background):
            await asyncio.sleep(0)  # what is to be told leaves first: it may free the very permit that is asked for
        call = self._caller.request("probe", {"target": target})
        try:
            reply = await self._caller.run(call, self._clock.now() + ASK_MS)
        except BaseException:
            self._give_back_later(call)
            raise
        body = reply.body
        self._learn(body)
        if body.get("ok") is not True:
            if body.get("reason") != "busy":
                self._differs()
            wait = body.get("retry_in_ms")
            return NoProbe(str(body.get("reason")), wait if type(wait) is int else None)
        try:
            lease = Lease(str(body["lease"]), reply.sent + body["ttl_ms"])
        except (LookupError, TypeError):
            raise BadReply("the probe permit cannot be read") from None
        if reply.is_lost:
            return NoProbe("open", None)
        if lease.until <= self._clock.now():
            self.tell(lease.key, "cancelled", None)
            return NoProbe("busy", 0)
        return lease

    def tell(self, lease: str, outcome: Outcome, retry_after_ms: int | None) -> None:
        """Say how a probe ended, in the background."""
        if self.is_open:
            self.background.spawn(self._tell(lease, outcome, retry_after_ms))

    async def _tell(self, lease: str, outcome: Outcome, retry_after_ms: int | None) -> None:
        fields = {"lease": lease, "outcome": outcome, "retry_after_ms": retry_after_ms}
        call = self._caller.request("probed", fields)
        try:
            reply = await self._caller.run(call, self._clock.now() + TELL_MS)
        except BursarError:
            return  # the permit has run out by now
        finally:
            self._caller.give_up(call)
        self._learn(reply.body)

    def _give_back_later(self, call: Call) -> None:
        """Nobody waits for the permit any more; if it comes, it goes back."""
        if call.was_sent and self.is_open:
            self.background.spawn(self._give_back(call))
        else:
            self._caller.give_up(call)

    async def _give_back(self, call: Call) -> None:
        try:
            reply = await self._caller.run(call, self._clock.now() + TELL_MS)
        except BursarError:
            self._caller.give_up(call)
            return
        if reply.body.get("ok") is True:
            await self._tell(str(reply.body["lease"]), "cancelled", None)
