"""The way to the registry: hears its broadcasts, asks for what was missed, fetches probe permits and returns results.

Nobody asks without need, so that a fleet of any size costs the registry one broadcast every two seconds: its pulse says
how far it is, and only who has something else asks; and who has heard nothing for some seconds, with pauses that grow.

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
from bursar.contracts.breaker import CHANGED, PULSE, REGISTRY, SERVICE, Outcome
from bursar.errors import BursarError

SILENCE_MS: Final = (3_500.0, 4_500.0)
"""After so long without a word the registry is asked; drawn from between these."""

POLL: Final = 0.5
"""Seconds between two questions where broadcasts cannot be verified, and so are not heard."""

MAX_PAUSE: Final = 15.0
"""Seconds between two questions that are not answered, at most; a pulse ends the pause."""

GAP: Final = 0.05
BEHIND: Final = 0.5
"""Seconds within which it is asked after a gap between two changes, or when a pulse shows that something was missed
(which many may find at the same moment)."""

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
        freed: Callable[[list[str]], None],
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
        self._freed = freed
        self._verifier: Verifier | None = None
        self._caller = Caller(bus, SERVICE, clock, unavailable=BreakerUnavailable)
        self._is_listening = False
        self._heard_at = -math.inf
        self._pulse = (0, 0, 0)
        self._pulse_heard_at = -math.inf
        self._missed = asyncio.Event()
        self._within = GAP
        self._hearing: list[Subscription] = []
        self._ears = (
            (event_subject(SERVICE, CHANGED, "*"), self._on_change),
            (event_subject(SERVICE, PULSE, REGISTRY), self._on_pulse),
        )
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_started(self) -> bool:
        return self._keeping is not None

    @property
    def is_away(self) -> bool:
        return self._clock.now() - self._heard_at > AWAY_MS

    @property
    def has_pulse(self) -> bool:
        """Whether its pulse is heard here."""
        return self._clock.now() - self._pulse_heard_at < AWAY_MS

    def start(self) -> None:
        if self._keeping is None:
            self._keeping = self.background.spawn(self._keep_in_step())

    async def close(self, timeout: float) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
        await self.background.drain(timeout)
        hearing, self._hearing = self._hearing, []
        for subscription in hearing:
            await subscription.unsubscribe()
        await self._caller.close()

    # ---- in step

    async def _keep_in_step(self) -> None:
        """Listen, and ask when something was missed or nothing is heard."""
        failed = 0
        while True:
            self._missed.clear()
            try:
                await self._listen()
                await self._ask()
                failed = 0
            except BursarError:
                failed += 1  # asked again soon; meanwhile the last word holds
            self.looked.set()
            pause = min(MAX_PAUSE, POLL * 2.0**failed) * self._random.uniform(0.8, 1.2)
            if self._hearing:
                await self._until_needed(pause if failed else 0.0)
            else:
                await asyncio.sleep(pause)

    async def _until_needed(self, pause: float) -> None:
        """Until something was missed, or nothing is heard any more; not before ``pause`` (s) in that case."""
        not_before = self._clock.now() + pause * 1000.0
        silence = self._random.uniform(*SILENCE_MS)
        while (left := max(not_before, self._heard_at + silence) - self._clock.now()) > 0:
            try:
                async with asyncio.timeout(left / 1000.0):
                    await self._missed.wait()
            except TimeoutError:
                continue  # something may have been heard meanwhile
            await asyncio.sleep(self._within * self._random.uniform(0.2, 1.0))
            return

    async def _listen(self) -> None:
        """To answers at once, to broadcasts as soon as it is known whom to believe."""
        if not self._is_listening:
            await self._caller.start()
            self._is_listening = True
        self._verifier = self._verifier or self._trust()
        if self._verifier is not None and len(self._hearing) < len(self._ears):
            for subject, hear in self._ears[len(self._hearing) :]:
                self._hearing.append(await self._bus.subscribe(subject, hear))
            await self._bus.flush()

    async def _ask(self) -> None:
        view = self.view
        call = self._caller.query("query", {"revision": view.revision, "digest": view.digest})
        reply = await self._caller.run(call, self._clock.now() + ASK_MS)
        self._take(reply.body, view.load)
        self.told.set()

    def _on_change(self, msg: Msg) -> None:
        body = self._open(msg)
        if body is not None:
            self._take(body, self.view.hear)
            if self.view.has_gap:
                self._miss(GAP)

    def _on_pulse(self, msg: Msg) -> None:
        """Not newer than the last one: kept and sent again by somebody, or of an owner that was replaced."""
        body = self._open(msg)
        if body is None:
            return
        try:
            incarnation, epoch = (int(part) for part in body["fence"].split(".")[:2])
            moment = (incarnation, epoch, int(body["now_ms"]))
            is_behind = self.view.is_behind(incarnation, int(body["revision"]), str(body["digest"]))
            free = [str(target) for target in body["free"]]
        except (LookupError, TypeError, ValueError, AttributeError):
            self.refused += 1
            return
        if moment <= self._pulse:
            return
        self._pulse, self._pulse_heard_at = moment, self._clock.now()
        self._heard()
        if is_behind:
            self._miss(BEHIND)
        elif free:
            self._freed(free)

    def _open(self, msg: Msg) -> dict[str, Any] | None:
        assert self._verifier is not None
        try:
            return self._verifier.open(msg.subject, msg.data)
        except BursarError:
            self.refused += 1
            return None

    def _miss(self, within: float) -> None:
        if not self._missed.is_set():
            self._within = within
            self._missed.set()

    def _take(self, body: dict[str, Any], apply: Callable[[dict[str, Any], float], Any]) -> None:
        now, before = self._clock.now(), self.view.changes
        try:
            apply(body, now)
        except BadReply:
            self.refused += 1
            return
        if not self._heard() and self.view.changes != before:
            self._changed()

    def _heard(self) -> bool:
        """The registry is there; True when it was away."""
        was_away, self._heard_at = self.is_away, self._clock.now()
        if was_away:
            self._came_back()
            self._changed()
        return was_away

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
            if body.get("reason") != "busy":
                self._miss(GAP)  # what is known here is not what the registry says
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
