"""A part of the fleet: one process with many agents, each on a connection of its own, told what to do line by line.

On uvloop, as the services: on asyncio's own loop a bare broadcast to 1,000 connections takes nearly twice as long.

``python -m bench.breaker_agents URL TRUST FIRST COUNT``. Reads commands from its input and writes what it has seen to
its output, as JSON lines; times are those of the machine's monotonic clock, which all processes share.

- ``["watch", target]``: says ``known`` when the last of the agents would refuse a call there; ``["free", target]``:
  says ``freed`` when the last of them would let one go.
- ``["twins", count]``: the first so many agents get a twin that loses every other broadcast; says ``there``.
- ``["heal", target]``: as ``watch``, for the twins; says ``healed``.
- ``["load", seconds]``: from now on each agent reports one good call each so many seconds (0: no more).
- ``["call", target, host, port, seconds]``: from now on each agent tries one HTTP call each so many seconds, under the
  breaker; a call that goes says ``went``.
- ``["sent"]``: says how many messages and bytes were published since the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from bursar.bus.base import Bus, Handler, Msg, Subscription
from bursar.bus.connection import NatsBus, connect
from bursar.client.breaker import Breaker
from bursar.client.trust import verifier_of

PLAIN = "bursar.evt.bench.plain.x"
TICK = 0.01


def say(*told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


class Agent(Breaker):
    """Tells when it has learned something."""

    learned: Callable[[Agent], None] = staticmethod(lambda _: None)

    def changed(self) -> None:
        super().changed()
        self.learned(self)


class HalfDeaf:
    """A connection on which a half of what is broadcast is lost, by the toss of a coin."""

    def __init__(self, bus: NatsBus, seed: int) -> None:
        self._bus = bus
        self._dice = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        if not subject.startswith("bursar.evt."):
            return await self._bus.subscribe(subject, handler, queue)

        def heard(msg: Msg) -> Any:
            return handler(msg) if self._dice.random() < 0.5 else None

        return await self._bus.subscribe(subject, heard, queue)


class Waiting:
    """Of which targets some of the agents do not know yet that calls may go there, or (``allowed``) may not; says a
    word when all do."""

    def __init__(self, agents: list[Agent], word: str, *, allowed: bool = False) -> None:
        self._agents = {id(agent): agent for agent in agents}
        self._word = word
        self._allowed = allowed
        self._left: dict[str, set[int]] = {}

    def expect(self, target: str) -> None:
        self._left[target] = set(self._agents)
        for agent in self._agents.values():
            self.learned(agent)

    def learned(self, agent: Agent) -> None:
        for target, left in list(self._left.items()):
            if id(agent) in left and bool(agent.peek(target)) is self._allowed:
                left.discard(id(agent))
                if not left:
                    del self._left[target]
                    say(self._word, target, time.monotonic())


class Part:
    """``published``: messages and bytes of reports."""

    def __init__(self, url: str, trust: Path, first: int, count: int) -> None:
        self._url = url
        self._trust = trust
        self._names = [f"agent-{number}" for number in range(first, first + count)]
        self.agents: list[Agent] = []
        self._buses: list[NatsBus] = []
        self._waiting: dict[str, Waiting] = {}
        self._plain_left = 0
        self.published = [0, 0]
        self._busy: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        for name in self._names:
            bus = await connect(self._url, principal=name)
            self._buses.append(bus)
            self._count(bus)
            self.agents.append(self._agent(bus))
            await bus.subscribe(PLAIN, self._plain)
        await self._ready(self.agents)
        self._waiting["watch"] = Waiting(self.agents, "known")
        self._waiting["free"] = Waiting(self.agents, "freed", allowed=True)
        for agent in self.agents:
            agent.learned = self._learned
        gc.collect()
        gc.freeze()
        say("ready")

    async def _twins(self, count: int) -> None:
        twins = [self._agent(HalfDeaf(bus, number)) for number, bus in enumerate(self._buses[:count])]
        await self._ready(twins)
        self._waiting["heal"] = Waiting(twins, "healed")
        for agent in twins:
            agent.learned = self._waiting["heal"].learned
        say("there")

    async def _ready(self, agents: list[Agent]) -> None:
        for agent in agents:
            agent.start()
        for agent in agents:
            if not await agent.ready(30):
                say("the registry does not answer")
                os._exit(1)

    def _agent(self, bus: Bus) -> Agent:
        return Agent(bus, trust=lambda: verifier_of(self._trust))

    def _count(self, bus: NatsBus) -> None:
        inner, counts = bus.publish, self.published

        def publish(subject: str, payload: bytes, *told: Any, **named: Any) -> None:
            if subject.startswith("bursar.obs."):
                counts[0] += 1
                counts[1] += len(payload)
            inner(subject, payload, *told, **named)

        bus.publish = publish  # type: ignore[method-assign]

    def _plain(self, msg: Msg) -> None:
        """One of the bare broadcasts; says when all connections have it."""
        if not self._plain_left:
            self._plain_left = len(self.agents)
        self._plain_left -= 1
        if not self._plain_left:
            say("plain", msg.data[:12].decode(), time.monotonic())

    def _learned(self, agent: Agent) -> None:
        self._waiting["watch"].learned(agent)
        self._waiting["free"].learned(agent)

    def do(self, what: str, *told: Any) -> None:
        if what in self._waiting:
            self._waiting[what].expect(told[0])
        elif what == "twins":
            self._busy[what] = asyncio.get_running_loop().create_task(self._twins(*told))
            return
        elif what == "sent":
            say("sent", *self.published)
            return
        else:
            key = what if what == "load" else f"{what} {told[0]}"
            if key in self._busy:
                self._busy.pop(key).cancel()
            if told[-1]:
                work = self._load(*told) if what == "load" else self._calls(*told)
                self._busy[key] = asyncio.get_running_loop().create_task(work)
        say("done")

    async def _load(self, seconds: float) -> None:
        async for agent in self._in_turn(seconds):
            agent.record("busy/model", "ok")

    async def _calls(self, target: str, host: str, port: int, seconds: float) -> None:
        going: set[asyncio.Task[None]] = set()
        async for agent in self._in_turn(seconds):
            call = asyncio.get_running_loop().create_task(self._call(agent, target, host, port))
            going.add(call)
            call.add_done_callback(going.discard)

    async def _call(self, agent: Agent, target: str, host: str, port: int) -> None:
        with contextlib.suppress(Exception):
            async with agent.call(target) as call:
                say("went", target, time.monotonic())
                call.answered(await _get(host, port))

    async def _in_turn(self, seconds: float) -> Any:
        """Each agent once in so many seconds, evenly spread."""
        began, made = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) / seconds * len(self.agents))
            while made < due:
                yield self.agents[made % len(self.agents)]
                made += 1
            await asyncio.sleep(TICK)


async def _get(host: str, port: int) -> int:
    """The status of an HTTP answer. Raises `OSError` when there is none."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: upstream\r\nConnection: close\r\n\r\n")
        words = (await reader.readline()).split()
        if len(words) < 2:
            raise ConnectionError("it hung up")
        return int(words[1])
    finally:
        writer.close()


async def main() -> None:
    logging.disable()
    url, trust, first, count = sys.argv[1:]
    part = Part(url, Path(trust), int(first), int(count))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    starting = asyncio.create_task(part.start())
    while line := await reader.readline():
        await starting
        part.do(*json.loads(line))


if __name__ == "__main__":
    try:
        uvloop.run(main())
    finally:
        os._exit(0)  # who has started it is gone, and perhaps the server: nothing is left to be closed
