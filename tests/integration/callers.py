"""Agents that reserve and settle at the real limiter, never give up, and note what they were promised."""

from __future__ import annotations

import asyncio
import random
from collections import Counter as Tally
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import BusError
from bursar.bus.connection import NatsBus
from bursar.contracts.base import request_subject
from bursar.kernel.entry import Entry
from bursar_limiter import events
from bursar_limiter.state import State
from tests.integration.fleet import TRY_SECONDS
from tests.integration.support import Rig, until

LIMIT, WINDOW_MS, JITTER_MS, CONCURRENT = 400, 2000, 300, 20
BUDGETS = f"""
[budgets.calls]
jitter = "{JITTER_MS}ms"
send_within = "200ms"
max_ttl = "2s"
limits.requests = {{ limit = {LIMIT}, window = "{WINDOW_MS}ms" }}
limits.concurrent = {CONCURRENT}
"""


@dataclass
class Callers:
    """``granted`` and ``settled``: reservations as they were acknowledged, in the order of the answers."""

    bus: NatsBus
    granted: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    refused: Tally[str] = field(default_factory=Tally)
    errors: Tally[str] = field(default_factory=Tally)
    stopping: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def grants(self, more: int, within: float = 20.0) -> None:
        """Wait for so many more permits."""
        wanted = len(self.granted) + more

        def is_reached() -> bool:
            for task in self.tasks:
                if task.done():
                    task.result()
            return len(self.granted) >= wanted

        await until(is_reached, within, f"{more} more permits; refused {dict(self.refused)}, {dict(self.errors)}")

    async def work(self, worker: int) -> None:
        """One agent: reserve (waiting in line), call for some milliseconds, settle; each until it is answered."""
        chance = random.Random(worker)
        number = 0
        while not self.stopping:
            number += 2
            amounts = {"requests": 1}
            body = {"id": f"c{worker}-{number - 1}", "acked": number - 2, "budget": "calls", "amounts": amounts}
            answer = await self._until_answered("reserve", {**body, "wait_ms": 1500, "ttl_ms": 2000})
            if not answer.get("ok"):
                self.refused[answer["reason"]] += 1
                await asyncio.sleep(0.05)
                continue
            self.granted.append(answer["reservation"])
            await asyncio.sleep(chance.uniform(0.002, 0.02))
            settle = {"id": f"c{worker}-{number}", "acked": number - 1, "reservation": answer["reservation"]}
            if (await self._until_answered("settle", settle)).get("ok"):
                self.settled.append(answer["reservation"])

    async def _until_answered(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        subject = request_subject("limiter", verb, self.bus.principal)
        wait = TRY_SECONDS + body.get("wait_ms", 0) / 1000
        while True:
            try:
                answer = msgpack.unpackb((await self.bus.request(subject, msgpack.packb(body), wait)).data)
            except BusError as error:
                self.errors[error.code] += 1
                await asyncio.sleep(0.03)
                continue
            code = answer.get("error", {}).get("code")
            if code in {None, "unknown_reservation"}:  # the second: lost, or forgotten after its time-out
                return dict(answer)
            self.errors[code] += 1
            assert code in {"not_ready", "failed_closed"}, answer
            await asyncio.sleep(0.03)


@asynccontextmanager
async def callers_of(rig: Rig, agents: int = 30) -> AsyncIterator[Callers]:
    """Run agents while the block runs; at its end each gets the answers that it waits for."""
    callers = Callers(await rig.bus("agent"))
    callers.tasks = [asyncio.create_task(callers.work(i)) for i in range(agents)]
    try:
        yield callers
        callers.stopping = True
        _, waiting = await asyncio.wait(callers.tasks, timeout=15)
        assert not waiting, f"unanswered; errors {dict(callers.errors)}"
        for task in callers.tasks:
            task.result()
    finally:
        for task in callers.tasks:
            task.cancel()
        await asyncio.gather(*callers.tasks, return_exceptions=True)


def settlements_are_kept(callers: Callers, final: State) -> None:
    """Every acknowledged settlement is known, and no permit was given twice."""
    lost = [name for name in callers.settled if final.how_ended(name) is None]
    assert not lost, f"{len(lost)} settlements are lost"
    assert len(set(callers.granted)) == len(callers.granted), "one permit for two requests"


def check(callers: Callers, entries: Sequence[Entry]) -> None:
    """What was promised stands in the journal, once; and no limit is exceeded by what stands there."""
    happened = [event for entry in entries for row in entry.decisions for event in row.events]
    grants = [event for event in happened if event[0] == events.GRANTED]
    names = [event[3] for event in grants]
    assert len(set(names)) == len(names), "one reservation for two grants"
    lost = set(callers.granted) - set(names)
    assert not lost, f"{len(lost)} permits are not in the journal"
    _no_window_has_too_many([event[1] for event in grants])
    _never_too_many_at_once(happened)


def _no_window_has_too_many(times: Sequence[int]) -> None:
    """No stretch of one window and J, wherever it begins, holds more grants than the limit."""
    first = 0
    for last, time in enumerate(times):
        while time - times[first] >= WINDOW_MS + JITTER_MS:
            first += 1
        assert last - first + 1 <= LIMIT, f"{last - first + 1} grants within {time - times[first]} ms"


def _never_too_many_at_once(happened: Sequence[Any]) -> None:
    flying: set[str] = set()
    for event in happened:
        if event[0] == events.GRANTED:
            flying.add(event[3])
            assert len(flying) <= CONCURRENT
        elif event[0] in {events.SETTLED, events.CANCELLED, events.TIMED_OUT}:
            flying.discard(event[2])
