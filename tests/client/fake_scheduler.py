"""The real scheduler's decider behind a network in memory: what the client says is validated and decided, at once.

``lose`` drops notices; ``away`` answers nothing; everything is on the time of the test's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.codec import decode, encode, encode_error
from bursar.bus.memory import MemoryBus, MemoryNetwork
from bursar.client.scheduler import INBOX_LIMITS
from bursar.contracts.base import Request
from bursar.contracts.scheduler import SERVICE, Heartbeat, Post
from bursar.errors import BursarError, make_error
from bursar.kernel.decider import Accept, Command, Notice, Outcome, Refuse, Reject
from bursar.kernel.doors import limits_of
from bursar.kernel.inbox import Delivered
from bursar_scheduler.core import SchedulerDecider
from bursar_scheduler.service import SPEC
from bursar_scheduler.state import State

PLACES = {"req": SPEC.verbs, "work": SPEC.work, "adm": SPEC.admin}


class FakeScheduler:
    """See the module's text. ``heard``: (space, verb, principal, message) of what was decided."""

    def __init__(self, network: MemoryNetwork, now: Callable[[], float]) -> None:
        self.bus: MemoryBus = network.connect("svc-scheduler")
        self.decider = SchedulerDecider()
        self.state: State = self.decider.initial()
        self.incarnation = 1
        self.number = 0
        self.away = False
        self.lose: Callable[[dict[str, Any]], bool] = lambda _: False
        self.heard: list[tuple[str, str, str, Any]] = []
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}
        self._letters: list[tuple[str, Post]] = []
        self._now = now
        self._began = now()
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for place in PLACES:
            await self.bus.subscribe(f"bursar.{place}.{SERVICE}.*.*", self._on_request)
        await self.bus.subscribe(f"bursar.obs.{SERVICE}.heartbeat.*", self._on_heartbeat)
        await self.bus.subscribe(f"bursar.inbox.{SERVICE}.*", self._on_post)
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking

    def verbs(self, place: str = "req") -> list[str]:
        return [verb for space, verb, _, _ in self.heard if space == place]

    def forget_everything(self) -> None:
        """The data is gone: a new incarnation with an empty state."""
        self.incarnation += 1
        self.state = self.decider.initial()
        self._answers.clear()

    # ---- in

    def _on_request(self, msg: Any) -> None:
        _, place, _, verb, principal = msg.subject.split(".")
        if self.away:
            return
        rule = PLACES[place][verb]
        try:
            body: Any = decode(rule.message, msg.data, limits=limits_of(rule))[0]
            reply = self._answer(place, verb, principal, body)
        except BursarError as error:
            payload, headers = encode_error(error)
            self.bus.publish(msg.reply, payload, headers=headers)
        else:
            self.bus.publish(msg.reply, encode({"v": 1, **reply}))

    def _answer(self, place: str, verb: str, principal: str, body: Any) -> dict[str, Any]:
        request_id = body.id if isinstance(body, Request) else ""
        known = self._answers.get((principal, request_id)) if request_id else None
        if known is not None:
            return known
        self.heard.append((place, verb, principal, body))
        outcome = self._decide(Command(principal, request_id, body))
        if isinstance(outcome, Reject):
            raise make_error(outcome.code, outcome.text, outcome.facts)
        assert isinstance(outcome, Accept | Refuse)
        reply = {**outcome.reply, "fence": self._fence()}
        if isinstance(outcome, Accept) and request_id:
            self._answers[principal, request_id] = reply
        self._settle()
        return reply

    def _on_heartbeat(self, msg: Any) -> None:
        if not self.away:
            body = decode(Heartbeat, msg.data)[0]
            self.heard.append(("obs", "heartbeat", msg.subject.rpartition(".")[2], body))
            self._decide(Command(msg.subject.rpartition(".")[2], "", body))
            self._settle()

    def _on_post(self, msg: Any) -> None:
        self._letters.append((msg.subject.rpartition(".")[2], decode(Post, msg.data, limits=INBOX_LIMITS)[0]))

    # ---- deciding

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            if not self.away:
                self._settle()

    def _settle(self) -> None:
        while (command := self.decider.due(self.state, self._time())) is not None:
            self._decide(command)
        while self.state.position < len(self._letters):
            principal, post = self._letters[self.state.position]
            self._decide(Command(principal, "", Delivered(self.state.position + 1, post)))

    def _decide(self, command: Command) -> Outcome:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self._time(), (self.incarnation, 1, self.number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                self.decider.evolve(self.state, event)
            for notice in outcome.broadcasts:
                if isinstance(notice, Notice) and not self.lose(notice.body):
                    payload = msgpack.packb({**notice.body, "fence": self._fence()})
                    self.bus.publish(f"bursar.assign.{notice.principal}", payload)
        return outcome

    def _time(self) -> int:
        return int(self._now() - self._began)

    def _fence(self) -> str:
        return f"{self.incarnation}.1.{self.number}.{'0' * 16}"
