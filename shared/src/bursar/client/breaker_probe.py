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

SPREAD_MS: Final = 1_000.0
MAX_PAUSE_MS: Final = 8_000.0
"""Within how long of the moment that an answer names it is asked again, unless the answer says so, too; and the longest
pause of who gets no answer at all."""


class Lease(NamedTuple):
    """A probe permit. ``until``: local ms; counted from before it was asked for, so never later than the registry's
    own end of it."""

    key: str
    until: float


class NoProbe(NamedTuple):
    """Why there is none: ``closed`` (none is needed), ``busy`` or ``open``; ``retry_in_ms`` if a time is known;
    ``spread_ms``: within how long of then all who wait ask again."""

    reason: str
    retry_in_ms: int | None
    spread_ms: float = SPREAD_MS


class Probes:
    """``learn`` takes the circuits that an answer names; ``differs`` is called when it shows that what is known here is
    not what the registry says. ``unanswered``: questions in a row that were not answered in time.

    A question that was not answered in time is not asked anew but taken up again by the next call: a registry that
    cannot keep up would only get more to do, and would give a permit to who has long gone."""

    def __init__(
        self, caller: Caller, clock: Clock, learn: Callable[[dict[str, Any]], None], differs: Callable[[], None]
    ) -> None:
        self.background = Background()
        self.is_open = False
        self.unanswered = 0
        self._left: dict[str, tuple[Call, asyncio.Task[None]]] = {}
        self._caller = caller
        self._clock = clock
        self._learn = learn
        self._differs = differs

    async def ask(self, target: str) -> Lease | NoProbe:
        """Ask for a permit. Raises `BreakerUnavailable` or another `BursarError`."""
        if len(self.background):
            await asyncio.sleep(0)  # what is to be told leaves first: it may free the very permit that is asked for
        call = await self._take_up(target) or self._caller.request("probe", {"target": target})
        try:
            reply = await self._caller.run(call, self._clock.now() + ASK_MS)
        except BaseException as error:
            self.unanswered += isinstance(error, BursarError)
            self._leave(target, call)
            raise
        self.unanswered = 0
        body = reply.body
        self._learn(body)
        if body.get("ok") is not True:
            if body.get("reason") != "busy":
                self._differs()
            wait, spread = body.get("retry_in_ms"), body.get("spread_ms")
            told = wait if type(wait) is int else None
            return NoProbe(str(body.get("reason")), told, spread if type(spread) is int else SPREAD_MS)
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
        try:
            reply = await self._caller.ask("probed", fields, self._clock.now() + TELL_MS)
        except BursarError:
            return  # the permit has run out by now
        self._learn(reply.body)

    @property
    def pause_ms(self) -> float:
        """How long who was not answered waits before it asks again."""
        return min(MAX_PAUSE_MS, ASK_MS * 2.0 ** min(self.unanswered, 8))

    def _leave(self, target: str, call: Call) -> None:
        """Nobody waits for the permit just now; if it comes, it goes back."""
        if call.was_sent and self.is_open and target not in self._left:
            self._left[target] = call, self.background.spawn(self._give_back(target, call))
        else:
            self._caller.give_up(call)

    async def _take_up(self, target: str) -> Call | None:
        """The question that was left, if it is not answered yet."""
        call, listening = self._left.pop(target, (None, None))
        if call is None or listening is None:
            return None
        listening.cancel()
        try:
            await asyncio.gather(listening, return_exceptions=True)
        except BaseException:
            self._leave(target, call)
            raise
        return call if call.number else None

    async def _give_back(self, target: str, call: Call) -> None:
        """Listen, and ask no more."""
        try:
            reply = await self._caller.run(call, self._clock.now() + TELL_MS, repeats=False)
        except BursarError:
            self._caller.give_up(call)
            return
        finally:
            self._forget(target, call)
        if reply.body.get("ok") is True:
            await self._tell(str(reply.body["lease"]), "cancelled", None)

    def _forget(self, target: str, call: Call) -> None:
        if target in self._left and self._left[target][0] is call:
            del self._left[target]
