"""An owner that ends, or that only believes itself to be one."""

from __future__ import annotations

import asyncio
from typing import Any

from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Reload, Reserve
from bursar.kernel.clock import ManualClock
from bursar.kernel.decider import Command, Reject
from bursar.kernel.desk import Request, digest_of
from bursar.kernel.effects import Answer, Append, Heartbeat
from bursar.kernel.journal.base import Appended
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Role
from bursar.kernel.runner import ShardRunner
from bursar_limiter.core import LimiterDecider
from tests.kernel.bench import owner, pay


def test_an_owner_that_cannot_append_stops_saying_that_it_lives() -> None:
    """The journal may be out of its reach alone; as long as it is heard no standby would try."""
    alice = owner()
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    takeover = alice.replica.options.takeover_ms
    alice.replica.unknown(append.token, alice.mono)
    alice.replica.tick(alice.mono + 2 * takeover - 1)
    assert alice.wants(Heartbeat)
    alice.replica.effects.clear()
    alice.replica.tick(alice.mono + 3 * takeover)
    assert not alice.wants(Heartbeat)
    alice.mono += 3 * takeover
    alice.append(append)
    alice.replica.tick(alice.mono)
    assert alice.wants(Heartbeat)


def test_who_has_resigned_answers_nothing_without_an_entry() -> None:
    """A standby takes over at once, not when the lease would have ended."""
    alice = owner()
    alice.replica.resign(alice.mono)
    alice.ask(pay("", op="ask"), ticket="query")
    assert not alice.answers()
    assert alice.wants(Append)


class _Outlet:
    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class _SlowJournal(MemoryJournal):
    """Appends wait until they are let through."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.gate = asyncio.Event()
        self.gate.set()

    def start_append(self, expected: int, payload: bytes, then: Appended) -> None:
        async def append() -> None:
            await self.gate.wait()
            MemoryJournal.start_append(self, expected, payload, then)

        self.appending = asyncio.get_running_loop().create_task(append())


async def test_who_gets_in_line_during_the_drain_is_sent_away_too() -> None:
    """Requests that were accepted and not yet decided when the drain began: none is left without an answer."""
    journal, outlet, clock = _SlowJournal(), _Outlet(), ManualClock()
    replica = Replica(LimiterDecider(), b"instance")
    runner = ShardRunner(replica, journal, clock, outlet, None)
    runner.start()
    await asyncio.sleep(0.05)
    assert replica.role is Role.OWNER

    def offer(body: Any) -> None:
        assert runner.offer(Request(body.id, Command("a", body.id, body), digest_of(body), 0))

    spec = BudgetSpec(name="b", limits={"concurrent": LimitSpec(limit=1, window_ms=0)})
    offer(Reload(id="o-1", budgets=(spec,)))
    offer(Reserve(id="s-1", budget="b", amounts=Amounts()))
    await asyncio.sleep(0.01)
    journal.gate.clear()
    offer(Reserve(id="s-2", budget="b", amounts=Amounts(concurrent=0)))
    await asyncio.sleep(0.01)
    clock.advance(40_000)  # a snapshot is due: it waits for the append, and the queue waits for it
    await asyncio.sleep(0.05)
    offer(Reserve(id="s-3", budget="b", amounts=Amounts(), wait_ms=60_000))
    draining = asyncio.ensure_future(runner.drain(5.0))
    await asyncio.sleep(0.01)
    assert len(replica.queue) == 1
    journal.gate.set()
    await draining
    await runner.stop()

    told = {answer.ticket: answer.outcome for answer in outlet.answers}
    assert isinstance(told["s-2"], dict)
    assert isinstance(told["s-3"], Reject)
    assert told["s-3"].code == "not_ready"
