"""The way to the registry: hears its broadcasts, asks for what was missed, fetches probe permits and returns results.

What it learns goes into the `View`; ``changed`` is called whenever that, or whether the registry is there at all, may
have changed what is allowed.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from bursar.bus.base import Bus, Msg, Subscription
from bursar.bus.signing import Verifier
from bursar.client.background import Background
from bursar.client.breaker_errors import BreakerUnavailable
from bursar.client.breaker_view import View
from bursar.client.caller import Call, Caller
from bursar.client.errors import BadReply
from bursar.client.time import Clock
from bursar.contracts.base import event_subject
from bursar.contracts.breaker import CHANGED, SERVICE, Outcome
from bursar.errors import BursarError

REPAIR: Final = 2.0
"""Seconds between looks whether anything was missed."""

POLL: Final = 0.5
"""The same where broadcasts cannot be verified, and so are not heard."""

ASK_MS: Final = 1_000.0
"""How long an answer is waited for."""

AWAY_MS: Final = 5_000.0
"""The registry counts as away when nothing was heard of it for so long."""

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


class Registry:
    """``trust`` gives the verifier of broadcasts, if there is one by now. ``refused``: messages that were not
    believed or understood. ``looked``: it was asked once, ``told``: and has answered."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        trust: Callable[[], Verifier | None],
        spread: random.Random,
        changed: Callable[[], None],
        came_back: Callable[[], None],
    ) -> None:
        self.view = View()
        self.refused = 0
        self.looked = asyncio.Event()
        self.told = asyncio.Event()
        self.background = Background()
        self._bus = bus
        self._clock = clock
        self._trust = trust
        self._random = spread
        self._changed = changed
        self._came_back = came_back
        self._verifier: Verifier | None = None
        self._caller = Caller(bus, SERVICE, clock, unavailable=BreakerUnavailable)
        self._is_listening = False
        self._heard_at = -math.inf
        self._missed = asyncio.Event()
        self._hearing: Subscription | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_started(self) -> bool:
        return self._keeping is not None

    @property
    def is_away(self) -> bool:
        return self._clock.now() - self._heard_at > AWAY_MS

    def start(self) -> None:
        if self._keeping is None:
            self._keeping = self.background.spawn(self._keep_in_step())

    async def close(self, timeout: float) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
        await self.background.drain(timeout)
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            await hearing.unsubscribe()
        await self._caller.close()

    # ---- in step

    async def _keep_in_step(self) -> None:
        """Listen, and ask now and then whether anything was missed."""
        while True:
            try:
                await self._listen()
                await self._ask()
            except BursarError:
                pass  # asked again soon; meanwhile the last word holds
            self.looked.set()
            self._missed.clear()
            pause = REPAIR if self._hearing is not None else POLL
            try:
                async with asyncio.timeout(pause * self._random.uniform(0.8, 1.2)):
                    await self._missed.wait()
                    await asyncio.sleep(self._random.uniform(0.01, 0.06))
            except TimeoutError:
                pass

    async def _listen(self) -> None:
        """To answers at once, to broadcasts as soon as it is known whom to believe."""
        if not self._is_listening:
            await self._caller.start()
            self._is_listening = True
        if self._hearing is None:
            self._verifier = self._trust()
            if self._verifier is not None:
                self._hearing = await self._bus.subscribe(event_subject(SERVICE, CHANGED, "*"), self._on_broadcast)
                await self._bus.flush()

    async def _ask(self) -> None:
        view = self.view
        call = self._caller.query("query", {"revision": view.revision, "digest": view.digest})
        reply = await self._caller.run(call, self._clock.now() + ASK_MS)
        self._take(reply.body, view.load)
        self.told.set()

    def _on_broadcast(self, msg: Msg) -> None:
        assert self._verifier is not None
        try:
            body = self._verifier.open(msg.subject, msg.data)
        except BursarError:
            self.refused += 1
            return
        self._take(body, self.view.hear)
        if self.view.has_gap:
            self._missed.set()

    def _take(self, body: dict[str, Any], apply: Callable[[dict[str, Any], float], Any]) -> None:
        now, before, was_away = self._clock.now(), self.view.changes, self.is_away
        try:
            apply(body, now)
        except BadReply:
            self.refused += 1
            return
        self._heard_at = now
        if was_away:
            self._came_back()
        if was_away or self.view.changes != before:
            self._changed()

    def _merge(self, body: dict[str, Any]) -> None:
        self._take(body, lambda told, now: self.view.merge(told.get("circuits"), told, now))

    # ---- probes

    async def probe(self, target: str) -> Lease | NoProbe:
        """Ask for a permit. Raises `BreakerUnavailable` or another `BursarError`."""
        if len(self.background) > 1:  # beside the one that keeps in step
            await asyncio.sleep(0)  # what is to be told leaves first: it may free the very permit that is asked for
        call = self._caller.request("probe", {"target": target})
        try:
            reply = await self._caller.run(call, self._clock.now() + ASK_MS)
        except BaseException:
            self._give_back_later(call)
            raise
        body = reply.body
        self._merge(body)
        if body.get("ok") is not True:
            self._missed.set()
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
        if self.is_started:
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
        self._merge(reply.body)

    def _give_back_later(self, call: Call) -> None:
        """Nobody waits for the permit any more; if it comes, it goes back."""
        if call.was_sent and self.is_started:
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
