"""Many clients that never give up, and the record of what they were told.

Each worker sends one request after the other under its own session and repeats it, with the same id, until it gets an
answer. Some ask twice for what they know already (the answer must be the same), some read. Every answer is recorded
with the moments between which it was true, for `history.check`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import BusError, Msg, NoResponders
from bursar.bus.connection import NatsBus
from bursar.contracts.base import request_subject
from bursar.kernel.fencing import parse_fence
from tests.integration.support import Rig, until
from tests.integration.toy_service import SERVICE

TRY_SECONDS = 0.4
PAUSE_SECONDS = 0.025
_fleets = count(1)


@dataclass(slots=True)
class Operation:
    """One request: what was asked, when it was first sent and answered (s), and the answer. ``kind``: add, get or
    again (an add that had been answered before)."""

    kind: str
    name: str
    sent: float
    answered: float = 0.0
    tries: int = 0
    n: int = 0
    fence: tuple[int, int, int] = (0, 0, 0)

    @property
    def seconds(self) -> float:
        return self.answered - self.sent


@dataclass
class Fleet:
    """Clients on some connections; ``done`` are the answered operations, ``open`` those still waiting."""

    buses: list[NatsBus]
    done: list[Operation] = field(default_factory=list)
    open: dict[int, Operation] = field(default_factory=dict)
    errors: Tally[str] = field(default_factory=Tally)
    seen: dict[str, str] = field(default_factory=dict)
    stopping: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    pause: float = PAUSE_SECONDS
    tag: str = field(default_factory=lambda: f"f{next(_fleets)}")

    @property
    def answered(self) -> int:
        return len(self.done)

    def gap(self, since: float = 0.0) -> float:
        """The longest time (s) without any answer."""
        times = [o.answered for o in self.done if o.answered >= since]
        times = ([since] if since else []) + sorted(times)
        return max((b - a for a, b in pairwise(times)), default=0.0)

    def slowest(self) -> float:
        """The longest time (s) from first sending to the answer."""
        return max((o.seconds for o in self.done), default=0.0)

    def resumed_after(self, moment: float) -> float:
        """Seconds from a moment (`time.monotonic`) to the first answer of a request that was sent after it."""
        return min((o.answered for o in self.done if o.sent >= moment), default=float("inf")) - moment

    def median(self, since: float) -> float:
        times = sorted(o.seconds for o in self.done if o.sent >= since)
        return times[len(times) // 2]

    async def answers(self, more: int, within: float = 15.0) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + more

        def is_reached() -> bool:
            for task in self.tasks:
                if task.done():
                    task.result()
            return self.answered >= wanted

        await until(is_reached, within, f"{more} more answers; errors {dict(self.errors)}")

    async def refusals(self, more: int, within: float = 15.0) -> None:
        """Wait for so many more errors."""
        wanted = sum(self.errors.values()) + more
        await until(lambda: sum(self.errors.values()) >= wanted, within, f"{more} more errors; {dict(self.errors)}")

    async def work(self, worker: int) -> None:
        """One client: adds, every eighth time the last add again, every fifth a read."""
        bus = self.buses[worker % len(self.buses)]
        remembers = worker % 2 == 0
        number, last = 0, None
        while not self.stopping:
            number += 1
            add = self._new("add", f"{bus.principal}/{self.tag}w{worker}-{number}")
            await self._until_answered(bus, worker, add, number, remembers)
            last = add
            if number % 8 == 0:
                await self._until_answered(bus, worker, self._new("again", last.name), number, remembers)
            if number % 5 == 0:
                await self._until_answered(bus, worker, self._new("get", ""), 0, remembers)
            await asyncio.sleep(self.pause)

    def _new(self, kind: str, name: str) -> Operation:
        return Operation(kind, name, time.monotonic())

    async def _until_answered(
        self, bus: NatsBus, worker: int, operation: Operation, number: int, remembers: bool
    ) -> None:
        self.open[worker] = operation
        verb = "get" if operation.kind == "get" else "add"
        subject = request_subject(SERVICE, verb, bus.principal)
        body: dict[str, Any] = {}
        if verb == "add":
            body = {"id": operation.name.partition("/")[2], "acked": max(0, number - 4)}
        while True:
            if remembers and bus.principal in self.seen:
                body["seen"] = self.seen[bus.principal]
            operation.tries += 1
            try:
                reply = await bus.request(subject, msgpack.packb(body), TRY_SECONDS)
            except BusError as error:
                self.errors[error.code] += 1
                await asyncio.sleep(0.02 if isinstance(error, NoResponders) else 0.05)
                continue
            if self._take(operation, bus.principal, reply):
                break
            await asyncio.sleep(0.02)
        del self.open[worker]

    def _take(self, operation: Operation, principal: str, reply: Msg) -> bool:
        answer = msgpack.unpackb(reply.data)
        if "error" in answer:
            self.errors[answer["error"]["code"]] += 1
            assert answer["error"]["code"] in {"not_ready", "failed_closed", "journal_full"}, answer
            return False
        operation.answered = time.monotonic()
        operation.n = answer["n"]
        operation.fence = parse_fence(answer["fence"])
        if principal not in self.seen or operation.fence > parse_fence(self.seen[principal]):
            self.seen[principal] = answer["fence"]
        self.done.append(operation)
        return True


@asynccontextmanager
async def fleet_of(rig: Rig, clients: int = 50, connections: int = 2, url: str = "") -> AsyncIterator[Fleet]:
    """Run a fleet while the block runs; at its end every client gets the answer that it waits for."""
    buses = [await rig.bus(f"agent-{i}", url) for i in range(connections)]
    fleet = Fleet(buses)
    tasks = fleet.tasks = [asyncio.create_task(fleet.work(i)) for i in range(clients)]
    try:
        await fleet.answers(clients)
        yield fleet
        fleet.stopping = True
        done, waiting = await asyncio.wait(tasks, timeout=15)
        for task in done:
            task.result()
        assert not waiting, f"unanswered: {list(fleet.open.values())[:3]}; errors {dict(fleet.errors)}"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(bus: NatsBus, verb: str, body: dict[str, Any], within: float = 10.0) -> dict[str, Any]:
    """One request, repeated until it is answered without an error; the answer."""
    subject = request_subject(SERVICE, verb, bus.principal)
    deadline = time.monotonic() + within
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = msgpack.unpackb((await bus.request(subject, msgpack.packb(body), TRY_SECONDS)).data)
            if "error" not in last:
                return dict(last)
        except BusError as error:
            last = error.code
        await asyncio.sleep(0.02)
    raise AssertionError(f"no answer to {verb} within {within:g} s: {last}")
