"""A journal of so many events after a snapshot, made by a real owner without clients; and what loading it costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from bursar.bus.connection import NatsBus
from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Reload, Reserve, Settle, Usage
from bursar.kernel.clock import SystemClock
from bursar.kernel.decider import Command
from bursar.kernel.desk import Request, digest_of
from bursar.kernel.journal.jetstream import JetStreamJournal
from bursar.kernel.loader import load
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Options, Role
from bursar.kernel.runner import ShardRunner
from bursar_limiter.core import LimiterDecider

SHARD = 15
PRINCIPALS = 24
HUGE = 10**12


class Sink:
    """An outlet that keeps the reservations that were granted."""

    def __init__(self) -> None:
        self.granted: list[tuple[str, str]] = []
        self.answered = 0

    def answer(self, answer: Any) -> None:
        self.answered += 1
        outcome = answer.outcome
        if isinstance(outcome, dict) and "granted_at_ms" in outcome:
            self.granted.append((answer.ticket, outcome["reservation"]))

    def drop(self, ticket: Any) -> None: ...
    def announce(self, broadcast: Any, fence: Any) -> None: ...
    def heartbeat(self, beat: Any) -> None: ...
    def warn(self, suspect: Any) -> None: ...
    def cork(self) -> None: ...
    def write_out(self) -> None: ...
    def journal_full(self, is_full: bool) -> None: ...
    def role_changed(self, role: str, reason: str) -> None: ...


class Owner:
    """An owner of a shard of its own on the limiter's streams, in this process."""

    def __init__(self, bus: NatsBus) -> None:
        self.journal = JetStreamJournal(bus, "limiter", SHARD)
        self.sink = Sink()
        self._options = Options(snapshot_ms=3_600_000, snapshot_events=10**12)
        self.runner = ShardRunner(
            Replica(LimiterDecider(), b"bench\0\0\0", self._options), self.journal, SystemClock(), self.sink, None
        )
        self._ids = 0

    async def start(self) -> None:
        self.runner.start()
        while self.runner.replica.role is not Role.OWNER:  # noqa: ASYNC110 - every turn of the loop may make it so
            await asyncio.sleep(0.01)
        limit = LimitSpec(limit=HUGE, window_ms=1000)
        budget = BudgetSpec(
            name="bench",
            limits={"requests": limit, "input_tokens": limit},
            utilisation_permille=1000,
            burst_permille=1000,
        )
        await self._decide([("ops", Reload(id="reload", budgets=(budget,)))])

    async def fill(self, decisions: int) -> None:
        """Reserve and settle until so many decisions are made, remembered under two dozen principals."""
        while decisions > 0:
            count = min(2000, decisions)
            amounts = Amounts(input_tokens=1000)
            requests = [Reserve(id=self._id(), budget="bench", amounts=amounts) for _ in range(count // 2)]
            await self._decide([(f"agent-{i % PRINCIPALS}", request) for i, request in enumerate(requests)])
            granted, self.sink.granted = self.sink.granted, []
            usage = Usage(input_tokens=900)
            await self._decide([(who, Settle(id=self._id(), reservation=what, usage=usage)) for who, what in granted])
            decisions -= count

    def _id(self) -> str:
        self._ids += 1
        return f"s-{self._ids}"

    async def _decide(self, commands: list[tuple[str, Any]]) -> None:
        wanted = self.sink.answered + len(commands)
        for who, body in commands:
            if not self.runner.offer(Request(who, Command(who, body.id, body), digest_of(body), 0)):
                raise RuntimeError("the owner's queue is full")
        while self.sink.answered < wanted:  # noqa: ASYNC110 - every turn of the loop may make it so
            await asyncio.sleep(0)

    async def snapshot(self) -> float:
        """Make a snapshot; the longest stall of the loop while it was made (ms)."""
        made = self.runner.snapshots
        replica = self.runner.replica
        stalls: list[float] = []
        replica.options = self._options._replace(snapshot_events=0, snapshot_ms=0)
        replica.folded.events += 1
        before = time.perf_counter()
        while self.runner.snapshots == made:
            await asyncio.sleep(0)
            now = time.perf_counter()
            stalls.append(now - before)
            before = now
            if replica._snapshotting:
                replica.options = self._options
        return max(stalls) * 1000


class ColdStart(NamedTuple):
    """``seconds`` for the snapshot and the ``events`` after it; ``replay_per_second``: of the events alone."""

    seconds: float
    replay_per_second: float
    events: int


class _TimedJournal(JetStreamJournal):
    """Notes when its entries were asked for: what comes before that is the snapshot's."""

    read_at = 0.0

    async def read(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        self.read_at = time.perf_counter()
        async for row in super().read(after):
            yield row


async def measure_cold_start(bus: NatsBus) -> ColdStart:
    """Load the shard as a starting instance does: newest snapshot, then every entry after it."""
    journal = _TimedJournal(bus, "limiter", SHARD)
    began = time.perf_counter()
    follower, damage = await load(journal, LimiterDecider())
    ended = time.perf_counter()
    if damage:
        raise RuntimeError(f"the journal is damaged: {damage}")
    events = follower.folded.events
    return ColdStart(ended - began, events / (ended - journal.read_at), events)
