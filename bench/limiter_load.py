"""Agents under load, and the provider that charges them: a history for the oracle.

The agents use `bursar.client` as any agent does. The provider charges a call some milliseconds after its permit was
checked, and answers some time later.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bursar.bus.connection import connect
from bursar.client.errors import LimiterUnavailable, NeverFits, PermitVoid, Refused
from bursar.client.fleet import Fleet
from tests.oracle.history import Charge, Flight, Path, Wish

WIRE_S = 0.04
"""The longest way from the check of a permit to the provider's charge: within J, with the send deadline."""

WAIT_S = 20.0


def now_us() -> int:
    return time.monotonic_ns() // 1_000


@dataclass
class History:
    """What was asked, charged, and in flight; times in µs."""

    charges: list[Charge] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def fate(self, wish: Wish, fate: str) -> None:
        self.wishes.append(wish._replace(fate=fate, until=now_us()))  # type: ignore[arg-type]
        self.counts[fate] += 1


@dataclass
class Caller:
    """One agent's loop. ``size`` draws what a call wants; ``seconds``: the longest call."""

    fleet: Fleet
    history: History
    budget: str
    path: Path
    size: Callable[[random.Random], int]
    seed: int
    seconds: float = 0.15
    calls: int = 0

    async def work(self, stop: asyncio.Event) -> None:
        chance = random.Random(self.seed)
        while not stop.is_set():
            await self.one(chance)

    async def one(self, chance: random.Random) -> None:
        self.calls += 1
        call, tokens = f"{self.budget}/{self.seed}/{self.calls}", self.size(chance)
        wish = Wish(now_us(), self.path, {"input_tokens": tokens}, "open", 0, call)
        reservation = self.fleet.limiter.reserve(self.budget, input_tokens=tokens, wait=WAIT_S, ttl=4.0)
        try:
            async with reservation as permit:
                self.history.fate(wish, "granted")
                permit.sent()
                used = tokens if chance.random() < 0.8 else chance.randint(tokens // 2, tokens)
                await self._provider(chance, call, used)
                permit.used(input_tokens=used)
        except NeverFits:
            self.history.fate(wish, "never")
        except Refused:
            self.history.fate(wish, "refused")
        except LimiterUnavailable:
            self.history.fate(wish, "given_up")
        except PermitVoid:
            self.history.counts["void"] += 1

    async def _provider(self, chance: random.Random, call: str, tokens: int) -> None:
        await asyncio.sleep(chance.random() * WIRE_S)
        charged = now_us()
        self.history.charges.append(Charge(charged, self.path, {"requests": 1, "input_tokens": tokens}, call))
        await asyncio.sleep(0.005 + chance.random() * self.seconds)
        self.history.flights.append(Flight(charged, now_us(), self.path, {"concurrent": 1}, call))


@asynccontextmanager
async def fleets(url: str, count: int, name: str) -> AsyncIterator[list[Fleet]]:
    """So many agents, each with a connection of its own."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number in range(count):
            bus = await connect(url, principal=f"{name}-{number}")
            stack.push_async_callback(bus.close)
            made.append(await stack.enter_async_context(Fleet(None, bus=bus)))
        yield made


async def until_stopped(callers: list[Caller], stop: asyncio.Event, within: float) -> None:
    """Let them work until ``stop`` is set and their calls are over; who still stands in line then gives up."""
    tasks = [asyncio.create_task(caller.work(stop)) for caller in callers]
    await stop.wait()
    _, late = await asyncio.wait(tasks, timeout=within)
    for task in late:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
