"""The way to the registry: hears its broadcasts, asks for what was missed, fetches the rules and probe permits.

Nobody asks without need, so that a fleet of any size costs the registry one broadcast a second: its pulse says how far
it is and repeats the latest changes, and only who still has something else asks. Whoever has heard for a second and a
half nothing that shows it to be in step asks, too: so what was missed is known within two seconds even when half of all
broadcasts are lost. If nobody answers, the pauses between questions grow.

What it learns goes into the `View`; the `Hearer` is told whenever that, or whether the registry is there at all, may
have changed what is allowed.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any, Final, Protocol

from bursar.bus.base import Bus, Msg, Subscription
from bursar.bus.signing import Verifier
from bursar.client import breaker_policy, breaker_pulse
from bursar.client.background import Background
from bursar.client.breaker_errors import BreakerUnavailable
from bursar.client.breaker_probe import ASK_MS, Lease, NoProbe, Probes
from bursar.client.breaker_view import View
from bursar.client.caller import Caller
from bursar.client.errors import BadReply
from bursar.client.time import Clock
from bursar.contracts.base import event_subject
from bursar.contracts.breaker import CHANGED, PULSE, REGISTRY, SERVICE, Outcome
from bursar.errors import BursarError

SILENCE_MS: Final = (1_300.0, 1_700.0)
"""After so long without a sign of being in step the registry is asked; drawn from between these."""

POLL: Final = 0.5
"""Seconds between two questions where broadcasts cannot be verified, and so are not heard."""

MAX_PAUSE: Final = 15.0
"""Seconds between two questions that are not answered, at most; a pulse ends the pause."""

GAP: Final = 0.05
BEHIND: Final = 0.3
EDITION: Final = 1.0
"""Seconds within which it is asked after a gap between two changes, when a pulse shows that something was missed
(which many may find at the same moment), and when the rules are others (which all find)."""

AWAY_MS: Final = 5_000.0
"""The registry counts as away when nothing was heard of it for so long."""


class Hearer(Protocol):
    """Who is told."""

    def changed(self) -> None:
        """What is allowed may have changed."""

    def came_back(self) -> None:
        """The registry was away, and is there again."""

    def freed(self, circuits: list[str]) -> None:
        """Permits have come back there."""

    def new_policy(self) -> None:
        """Another edition of the rules holds."""


class Registry:
    """``trust`` gives the verifier of broadcasts, if there is one by now. ``refused``: messages that were not
    believed or understood. ``looked``: it was asked once, ``told``: and has answered."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        trust: Callable[[], Verifier | None],
        spread: random.Random,
        hearer: Hearer,
    ) -> None:
        self.view = View()
        self.policy = breaker_policy.Policy()
        self.refused = 0
        self.looked = asyncio.Event()
        self.told = asyncio.Event()
        self._bus = bus
        self._clock = clock
        self._trust = trust
        self._random = spread
        self._hearer = hearer
        self._verifier: Verifier | None = None
        self._caller = Caller(bus, SERVICE, clock, unavailable=BreakerUnavailable)
        self._probes = Probes(self._caller, clock, self._learn, lambda: self._miss(GAP))
        self._is_listening = False
        self._heard_at = self._in_step_at = self._pulse_heard_at = -math.inf
        self._pulse = (0, 0, 0)
        self._edition = -1
        self._missed = asyncio.Event()
        self._within = GAP
        self._hearing: list[Subscription] = []
        self._ears = (
            (event_subject(SERVICE, CHANGED, "*"), self._on_change),
            (event_subject(SERVICE, PULSE, REGISTRY), self._on_pulse),
        )
        self._background = Background()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_started(self) -> bool:
        return self._keeping is not None

    @property
    def away_at(self) -> float:
        """When it counts as away, unless something is heard of it (local ms)."""
        return self._heard_at + AWAY_MS

    @property
    def is_away(self) -> bool:
        return self._clock.now() > self.away_at

    @property
    def has_pulse(self) -> bool:
        """Whether its pulse is heard here."""
        return self._clock.now() - self._pulse_heard_at < AWAY_MS

    def start(self) -> None:
        if self._keeping is None:
            self._probes.is_open = True
            self._keeping = self._background.spawn(self._keep_in_step())

    async def close(self, timeout: float) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
        self._probes.is_open = False
        await self._probes.background.drain(timeout)
        await self._background.drain(timeout)
        hearing, self._hearing = self._hearing, []
        for subscription in hearing:
            await subscription.unsubscribe()
        await self._caller.close()

    async def probe(self, target: str) -> Lease | NoProbe:
        """Ask for a permit. Raises `BreakerUnavailable` or another `BursarError`."""
        return await self._probes.ask(target)

    @property
    def probe_pause_ms(self) -> float:
        """How long who was not answered waits before it asks for a permit again."""
        return self._probes.pause_ms

    def tell(self, lease: str, outcome: Outcome, retry_after_ms: int | None) -> None:
        """Say how a probe ended, in the background."""
        self._probes.tell(lease, outcome, retry_after_ms)

    # ---- asking

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
        while (left := max(not_before, self._in_step_at + silence) - self._clock.now()) > 0:
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
        body = (await self._caller.run(call, self._clock.now() + ASK_MS)).body
        self._take(body, view.load)
        self._in_step_at = self._clock.now()
        edition = body.get("edition")
        self._edition = edition if type(edition) is int else self._edition
        try:
            if self._edition != self.policy.edition:
                await self._ask_policy()
        finally:
            self.told.set()

    async def _ask_policy(self) -> None:
        call = self._caller.query("settings", {"edition": self.policy.edition})
        body = (await self._caller.run(call, self._clock.now() + ASK_MS)).body
        try:
            policy = breaker_policy.read(body)
        except BadReply:
            self.refused += 1
            return
        if policy is not None:
            self.policy, self._edition = policy, policy.edition
            self._hearer.new_policy()

    # ---- hearing

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
            heard = breaker_pulse.read(body)
        except BadReply:
            self.refused += 1
            return
        if heard.moment <= self._pulse:
            return
        self._pulse, self._pulse_heard_at = heard.moment, self._clock.now()
        self._repair(heard)
        self._heard()
        if heard.edition != self._edition:
            self._edition = heard.edition
            self._miss(EDITION)
        if heard.free:
            self._hearer.freed(heard.free)

    def _repair(self, heard: breaker_pulse.Heard) -> None:
        """Take from a pulse what was missed, and ask if that is not all."""
        place = (heard.moment[0], heard.revision, heard.digest)
        if self.view.is_behind(*place):
            for row in heard.recent:
                self._take(row, self.view.hear)
        if self.view.is_behind(*place):
            self._miss(BEHIND)
        else:
            self._in_step_at = self._pulse_heard_at

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
            is_news = apply(body, now)
        except BadReply:
            self.refused += 1
            return
        if is_news and not self.view.has_gap:
            self._in_step_at = now
        if not self._heard() and self.view.changes != before:
            self._hearer.changed()

    def _heard(self) -> bool:
        """The registry is there; True when it was away."""
        was_away, self._heard_at = self.is_away, self._clock.now()
        if was_away:
            self._hearer.came_back()
            self._hearer.changed()
        return was_away

    def _learn(self, body: dict[str, Any]) -> None:
        """The circuits that another answer names."""
        self._take(body, lambda told, now: self.view.merge(told.get("circuits"), told, now))
