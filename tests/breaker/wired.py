"""Real clients and the real registry on a network in memory, in virtual time: what either of them does wrong alone, and
what they do wrong together.

The registry decides one message after the other and takes ``busy`` seconds for each, so that a fleet that asks too much
finds a line before it. Answers that were accepted are remembered by their request, as the kernel does.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from bursar.bus.signing import Signer, Verifier
from bursar.client.breaker import Breaker
from bursar.contracts import breaker as wire
from bursar.contracts.base import event_subject
from bursar.kernel.decider import Accept, Broadcast, Command, Refuse
from bursar_breaker.telling import LIVELY_PULSE_MS, pulse
from tests.breaker.desk import Desk
from tests.client.fakes import FakeBus, Message
from tests.client.virtual import LoopClock

BODIES: Final[dict[str, Any]] = {
    "report": wire.Report, "probe": wire.Probe, "probed": wire.Probed, "query": wire.Snapshot,
    "settings": wire.Settings,
}  # fmt: skip
TICK: Final = 0.01


class Wired:
    """``lost``: the part of all messages that is; ``asked``: requests by verb; ``opened``: when a circuit of this name
    opened (s)."""

    def __init__(self, *rules: wire.Rule, agents: int, seed: int, busy: float = 0.0, **named: Any) -> None:
        self.random = random.Random(seed)
        self.desk = Desk(*rules, now=1_000_000)
        self.lost = 0.0
        self.busy = busy
        self.asked: Counter[str] = Counter()
        self.opened: dict[str, float] = {}
        self._signer = Signer.generate()
        self._verifier = Verifier({"breaker": self._signer.public_key})
        self._free_at = 0.0
        self._remembered: dict[tuple[str, str], dict[str, Any]] = {}
        self.buses = [FakeBus(f"agent-{number}") for number in range(agents)]
        for bus in self.buses:
            bus.server = self._receive(bus)
            bus.lose = lambda _: self.random.random() < self.lost
        self.agents = [
            Breaker(bus, clock=LoopClock(), trust=lambda: self._verifier, spread=random.Random(seed + n), **named)
            for n, bus in enumerate(self.buses)
        ]
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # ---- the registry's side

    def _receive(self, bus: FakeBus) -> Callable[[Message], None]:
        def receive(message: Message) -> None:
            self._free_at = max(self.now, self._free_at) + self.busy
            asyncio.get_running_loop().call_at(self._free_at, self._decide, bus, message)

        return receive

    def stall(self, seconds: float) -> None:
        """It does nothing for so long."""
        self._free_at = max(self.now, self._free_at) + seconds

    def _decide(self, bus: FakeBus, message: Message) -> None:
        _, _, _, verb, principal = message.subject.split(".")
        self.asked[verb] += 1
        body = BODIES[verb].model_validate(msgpack.unpackb(message.data, use_list=False))
        key = (principal, getattr(body, "id", ""))
        self._pass()
        reply = self._remembered.get(key)
        if reply is None:
            outcome = self.desk._decide(Command(*key, body))
            assert isinstance(outcome, Accept | Refuse), outcome
            reply = {"v": 1, **outcome.reply, "fence": f"1.1.{self.desk.number}.{'0' * 16}"}
            if isinstance(outcome, Accept):
                self._remembered[key] = reply
        self.desk.settle()
        if message.reply and self.random.random() >= self.lost:
            bus.answer(Message(message.reply, "", msgpack.packb(reply)))
        self._announce()

    def _pass(self) -> None:
        self.desk.advance(1_000_000 + round(self.now * 1000) - self.desk.now)

    def _announce(self) -> None:
        """What the registry has told since the last time goes to everybody."""
        told = [Broadcast(wire.CHANGED, wire.token_of(body["target"]), body) for body in self.desk.told]
        told += [Broadcast(wire.PULSE, wire.REGISTRY, one.model_dump(exclude={"fence"})) for one in self.desk.pulses]
        for body in self.desk.told:
            if body["state"] == "open":
                self.opened.setdefault(body["target"], self.now)
        self.desk.told.clear()
        self.desk.pulses.clear()
        for one in told:
            self._broadcast(one)

    def _broadcast(self, told: Broadcast) -> None:
        subject = event_subject("breaker", told.kind, told.name)
        fence = f"1.1.{self.desk.number}.{'0' * 16}"
        message = Message(subject, "", self._signer.sign(subject, {**told.body, "fence": fence}))
        pattern = subject if told.kind == wire.PULSE else event_subject("breaker", told.kind, "*")
        loop = asyncio.get_running_loop()
        for bus in self.buses:
            for sub in bus.subs:
                if sub.subject == pattern and self.random.random() >= self.lost:
                    loop.call_later(bus.delay, sub.handler, message)

    async def _live(self) -> None:
        """Time passes for the registry."""
        for tick in range(1_000_000):
            await asyncio.sleep(TICK)
            self._pass()
            self._announce()
            if tick % round(LIVELY_PULSE_MS / 1000 / TICK) == 0:
                told = pulse(self.desk.state, self.desk.now)
                if told is not None:
                    self._broadcast(told)

    # ---- the agents' side

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.spawn(self._live())
        for agent in self.agents:
            agent.start()
        for agent in self.agents:
            assert await agent.ready(60.0)
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            for agent in self.agents:
                await agent.close(0.0)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        self._tasks.append(asyncio.ensure_future(work))
        return self._tasks[-1]

    async def until(self, what: Callable[[], object], within: float) -> float:
        """Seconds until it is so."""
        began = self.now
        while not what():
            assert self.now - began < within, f"not within {within} s"
            await asyncio.sleep(TICK)
        return self.now - began
