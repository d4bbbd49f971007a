"""Agents as a process, and the provider's record of what they did.

``python -m tests.integration.limiter_agents URL NAME COUNT CONNECTIONS FILE``: so many agents on so many connections
(those that share one are together in enough demand to be given leases) call under the budgets of `BUDGETS` until the
process is ended. What the provider is told of a call stands in the file
before anything else happens, so that it is there whoever is killed: when it charges (some milliseconds later, at most
`WIRE_MS`), how much, on which path, and until when the call is under way.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from bursar.bus.connection import connect
from bursar.client.errors import LimiterUnavailable, PermitVoid, Refused
from bursar.client.fleet import Fleet
from tests.oracle.history import Charge, Flight, Limit, Wish

WINDOW_MS, JITTER_MS, SEND_WITHIN_MS = 2_000, 300, 200
WIRE_MS = 60
KEY_REQUESTS, KEY_TOKENS, CONCURRENT, TEAM_TOKENS = 160, 18_000, 40, 12_000
WAIT_S = 15.0

BUDGETS = f"""
[budgets.key]
jitter = "{JITTER_MS}ms"
send_within = "{SEND_WITHIN_MS}ms"
max_ttl = "3s"
limits.requests = {{ limit = {KEY_REQUESTS}, window = "{WINDOW_MS}ms" }}
limits.input_tokens = {{ limit = {KEY_TOKENS}, window = "{WINDOW_MS}ms" }}
limits.concurrent = {CONCURRENT}
""" + "".join(
    f"""
[budgets."key/{team}"]
parent = "key"
jitter = "{JITTER_MS}ms"
send_within = "{SEND_WITHIN_MS}ms"
max_ttl = "3s"
limits.input_tokens = {{ limit = {TEAM_TOKENS}, window = "{WINDOW_MS}ms" }}
"""
    for team in "ab"
)

LIMITS = (
    Limit("key", "requests", KEY_REQUESTS, WINDOW_MS * 1_000),
    Limit("key", "input_tokens", KEY_TOKENS, WINDOW_MS * 1_000),
    Limit("key", "concurrent", CONCURRENT, 0),
    Limit("key/a", "input_tokens", TEAM_TOKENS, WINDOW_MS * 1_000),
    Limit("key/b", "input_tokens", TEAM_TOKENS, WINDOW_MS * 1_000),
)


def now_us() -> int:
    return time.monotonic_ns() // 1_000


class Record:
    """A file to which whole lines are added at once."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *row: object) -> None:
        os.write(self._file, json.dumps(row).encode() + b"\n")


class Agent:
    def __init__(self, fleet: Fleet, record: Record, number: int) -> None:
        self.fleet, self.record = fleet, record
        self.name = f"{fleet.principal}/{number}"
        self.budget = f"key/{'ab'[number % 3 % 2]}"
        self.chance = random.Random(self.name)
        self.calls = 0

    async def live(self) -> None:
        while True:
            await self.call()
            await asyncio.sleep(self.chance.expovariate(1.0))

    async def call(self) -> None:
        chance = self.chance
        self.calls += 1
        call, asked = f"{self.name}/{self.calls}", now_us()
        tokens = TEAM_TOKENS if chance.random() < 0.001 else chance.randint(1, 400)
        reservation = self.fleet.limiter.reserve(self.budget, input_tokens=tokens, wait=WAIT_S, ttl=2.0)
        try:
            async with reservation as permit:
                self._wish(asked, tokens, "granted", call)
                permit.sent()
                charged = now_us() + chance.randint(0, WIRE_MS * 1_000)
                ends = charged + chance.randint(5_000, 150_000)
                used = tokens if chance.random() < 0.8 else chance.randint(1, tokens)
                self.record.write("call", charged, ends, self.budget, used, call)
                await asyncio.sleep((ends - now_us()) / 1e6)
                permit.used(input_tokens=used)
        except Refused as refused:
            self._wish(asked, tokens, "refused" if refused.reason != "never_fits" else "never", call)
        except LimiterUnavailable:
            self._wish(asked, tokens, "given_up", call)
        except PermitVoid:
            self.record.write("void", now_us(), 0, self.budget, tokens, call)

    def _wish(self, asked: int, tokens: int, fate: str, call: str) -> None:
        self.record.write(fate, asked, now_us(), self.budget, tokens, call)


async def main(url: str, name: str, count: int, connections: int, path: Path) -> None:
    record = Record(path)
    buses = await asyncio.gather(*(connect(url, principal=f"{name}-{number}") for number in range(connections)))
    fleets = [Fleet(None, bus=bus) for bus in buses]
    for fleet in fleets:
        await fleet.__aenter__()
    agents = [Agent(fleets[number % connections], record, number) for number in range(count)]
    await asyncio.gather(*(agent.live() for agent in agents))


class Told:
    """What stands in the files."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.charges: list[Charge] = []
        self.flights: list[Flight] = []
        self.wishes: list[Wish] = []
        self.voids = 0
        for file in files:
            for line in file.read_bytes().splitlines():
                self._take(*json.loads(line))

    def _take(self, kind: str, begin: int, end: int, budget: str, tokens: int, call: str) -> None:
        path = ("key", budget)
        if kind == "call":
            self.charges.append(Charge(begin, path, {"requests": 1, "input_tokens": tokens}, call))
            self.flights.append(Flight(begin, end, path, {"concurrent": 1}, call))
        elif kind == "void":
            self.voids += 1
        else:
            self.wishes.append(Wish(begin, path, {"input_tokens": tokens}, kind, end, call))  # type: ignore[arg-type]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])))
