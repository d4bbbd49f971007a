"""Agents' load on the limiter of a site, and a ledger of what each was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from bursar.bus.connection import connect
from bursar.client.limiter import Limiter
from bursar.errors import BursarError
from tests.containers.site import Site

BUDGET = "demo"
AGENTS = 4
PAUSE = 0.1
"""Seconds between two calls of an agent: far below what the budget allows, so that nobody waits for room."""
DEADLINE = 10.0
"""Seconds that a call waits in line, and in which it must be granted; a later grant is late."""

TTL = 20.0
"""Seconds after which a reservation that nobody knows of ends by itself."""


class Load:
    """What came of every call: seconds until it was granted, and the calls that were not."""

    def __init__(self) -> None:
        self.granted: list[float] = []
        self.settled = 0
        self.lost: list[str] = []

    async def grow(self, calls: int, within: float = 60.0) -> None:
        """Wait until so many more calls have been granted."""
        wanted, until = len(self.granted) + calls, time.monotonic() + within
        while len(self.granted) < wanted:
            assert time.monotonic() < until, f"{wanted - len(self.granted)} calls are missing after {within:g} s"
            await asyncio.sleep(0.05)

    async def agent(self, limiter: Limiter, stop: asyncio.Event) -> None:
        """Reserve and settle until told to stop."""
        while not stop.is_set():
            began = time.monotonic()
            try:
                permit = await limiter.acquire(BUDGET, input_tokens=1, output_tokens=1, wait=DEADLINE, ttl=TTL)
                self.granted.append(time.monotonic() - began)
                permit.sent()
                await permit.settle(input_tokens=1, output_tokens=1)
                self.settled += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the call is lost, and the test says so
                self.lost.append(repr(error))
            await asyncio.sleep(PAUSE)


@contextlib.asynccontextmanager
async def load(site: Site) -> AsyncIterator[Load]:
    """Agents at work inside the block; at its end every call has been answered. They ask for no leases: each call is
    a decision of the service."""
    found, stop = Load(), asyncio.Event()
    bus = await connect(site.url.split(","), site.directory / "demo/agent.creds", principal="demo")
    limiter = Limiter(bus, patience=2 * DEADLINE, leases=False)
    await limiter.start()
    agents = [asyncio.create_task(found.agent(limiter, stop)) for _ in range(AGENTS)]
    try:
        await found.grow(5)
        yield found
    finally:
        stop.set()
        await asyncio.gather(*agents)
        await limiter.close(DEADLINE)
        await bus.close()


async def ask(site: Site, service: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    """A question as the operator, asked again for 20 s until it is answered."""
    bus = await connect(site.url.split(","), site.directory / "operator/ops.creds", principal="ops")
    until = time.monotonic() + 20.0
    try:
        while True:
            with contextlib.suppress(BursarError):
                answer = await bus.request(f"bursar.req.{service}.{verb}.ops", json.dumps(body).encode(), 2.0)
                if answer.data:
                    return dict(json.loads(answer.data))
            assert time.monotonic() < until, f"{service} does not answer {verb}"
            await asyncio.sleep(0.2)
    finally:
        await bus.close()


async def _budget(site: Site) -> dict[str, Any]:
    [budget] = (await ask(site, "limiter", "status", {"budget": BUDGET}))["budgets"]
    return dict(budget)


async def granted(site: Site) -> int:
    """How many reservations of the budget the limiter says it has granted."""
    return int((await _budget(site))["granted"])


async def nothing_is_left(site: Site) -> None:
    """Wait until no reservation is open and nobody waits: what was withdrawn has gone back."""
    until = time.monotonic() + 2 * TTL
    while (open_ := [(await _budget(site))[key] for key in ("reservations", "waiting")]) != [0, 0]:
        assert time.monotonic() < until, f"reservations and waiting: {open_}"
        await asyncio.sleep(0.2)
