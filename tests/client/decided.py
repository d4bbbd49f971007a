"""The limiter's decider behind a fake network, in the event loop's own time: what the client hears is what the rules
say, without a kernel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]
from pydantic import BaseModel

from bursar.client.limiter import Limiter
from bursar.contracts import limiter as wire
from bursar.contracts import limiter_control as control
from bursar.contracts import limiter_lease as lease
from bursar.kernel.decider import Accept, Command, Outcome, Park, Refuse, Reject
from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from tests.client.fakes import FakeBus, Message
from tests.client.virtual import LoopClock

VERBS: dict[str, type[BaseModel]] = {
    "reserve": wire.Reserve,
    "settle": wire.Settle,
    "withdraw": wire.Withdraw,
    "status": wire.Status,
    "simulate": control.Simulate,
    "clock": wire.Clock,
    "lease": lease.Lease,
    "renew": lease.Renew,
    "return": lease.Return,
    "terms": lease.Terms,
    "island": lease.Island,
    "uncovered": lease.Uncovered,
}


class DecidedLimiter:
    """Several agents' buses lead to it. ``deaf``: nothing is heard; ``mute``: no answer arrives; ``loses``: the part of
    messages that are lost, each way; ``late``: so many seconds after its decision at most an answer leaves, whoever is
    the owner then; ``says``: by verb, what to say instead of an answer; ``ignores``: verbs that are not heard;
    ``heard``: how often each verb was decided."""

    def __init__(self, *budgets: wire.BudgetSpec, seed: int = 1) -> None:
        self.decider = LimiterDecider()
        self.state = self.decider.initial()
        self.deaf = self.mute = False
        self.loses = self.late = 0.0
        self.says: dict[str, Any] = {}
        self.ignores: set[str] = set()
        self.heard: dict[str, int] = {}
        self._epoch, self._number, self._zero = 1, 0, 50_000
        self._random = random.Random(seed)
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}
        self._parked: dict[tuple[str, str], tuple[FakeBus, str]] = {}
        self._decide("ops", wire.Reload(id="start", budgets=budgets), 0)

    @property
    def now(self) -> int:
        return self._zero + int(asyncio.get_running_loop().time() * 1000.0)

    def bus(self, principal: str = "agent-1") -> FakeBus:
        bus = FakeBus(principal)
        bus.server = lambda message: self._hear(bus, message)
        return bus

    def restart(self, lost: bool = False) -> None:
        """Another owner goes on with what is durable; ``lost``: with nothing but the budgets."""
        dumped = self.decider.dump(self.state)
        if lost:
            specs = [budget.spec for budget in self.state.budgets.values() if budget.base is None]
            self.state = self.decider.initial()
            self._answers.clear()
            self._decide("ops", wire.Reload(id="again", budgets=tuple(specs)), self.now)
        else:
            self.state = self.decider.load(dumped)
        self._epoch += 1
        self._parked.clear()

    def reload(self, *budgets: wire.BudgetSpec) -> None:
        """An operator has other rules."""
        self._decide("ops", wire.Reload(id="other", budgets=budgets), self.now)

    def check(self) -> None:
        self._let_pass(self.now)
        validate(self.state, self.now)

    def used(self, budget: str, dimension: str = "input_tokens") -> tuple[int, int]:
        """(charged, in flight)"""
        self._let_pass(self.now)
        outcome = self._decide("ops", wire.Status(budget=budget), self.now)
        assert isinstance(outcome, Refuse)
        told = outcome.reply["budgets"][0]["dimensions"][dimension]
        return told["used"], told["in_flight"]

    def _hear(self, bus: FakeBus, message: Message) -> None:
        verb = message.subject.split(".")[3]
        if self.deaf or self._random.random() < self.loses or verb in self.ignores or verb not in VERBS:
            return
        body = VERBS[verb].model_validate(msgpack.unpackb(message.data, use_list=False))
        key = (bus.principal, getattr(body, "id", ""))
        if verb in self.says:
            self._decide(bus.principal, body, self.now)
            bus.answer(Message(message.reply, "", msgpack.packb(self._fenced(self.says[verb]))))
            return
        if key[1] and key in self._answers:
            self._say(bus, message.reply, self._answers[key])
            return
        self._let_pass(self.now)
        outcome = self._decide(bus.principal, body, self.now)
        self.heard[verb] = self.heard.get(verb, 0) + 1
        if isinstance(outcome, Park):
            self._parked[key] = (bus, message.reply)
        else:
            self._answer(bus, message.reply, key, outcome)
        self._let_pass(self.now)

    def _decide(self, principal: str, body: Any, now: int) -> Outcome:
        self._number += 1
        command = Command(principal, getattr(body, "id", ""), body)
        outcome = self.decider.decide(self.state, command, now, (1, self._epoch, self._number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                self.decider.evolve(self.state, event)
        return outcome

    def _let_pass(self, now: int) -> None:
        """What time has made due."""
        while (command := self.decider.due(self.state, now)) is not None:
            self._number += 1
            outcome = self.decider.decide(self.state, command, now, (1, self._epoch, self._number))
            if isinstance(outcome, Accept):
                for event in outcome.events:
                    self.decider.evolve(self.state, event)
            waiting = self._parked.pop(command[:2], None) if not isinstance(outcome, Park) else None
            if waiting is not None:
                self._answer(*waiting, command[:2], outcome)

    def _answer(self, bus: FakeBus, reply: str, key: tuple[str, str], outcome: Outcome) -> None:
        if isinstance(outcome, Reject):
            error = {"code": outcome.code, "text": outcome.text, "facts": outcome.facts}
            self._say(bus, reply, {"v": 1, "error": error})
            return
        assert isinstance(outcome, Accept | Refuse)
        body = self._fenced(outcome.reply)
        if isinstance(outcome, Accept):
            self._answers[key] = body
        self._say(bus, reply, body)

    def _fenced(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "fence": f"1.{self._epoch}.{self._number}.{'0' * 16}"}

    def _say(self, bus: FakeBus, reply: str, body: dict[str, Any]) -> None:
        if self._random.random() < self.loses or self.mute:
            return
        message = Message(reply, "", msgpack.packb(body))
        if self.late:
            asyncio.get_running_loop().call_later(self.late * self._random.random(), bus.answer, message)
        else:
            bus.answer(message)


@asynccontextmanager
async def agent(there: DecidedLimiter, principal: str = "agent-1", **options: Any) -> AsyncIterator[Limiter]:
    """One agent's limiter client in virtual time."""
    limiter = Limiter(there.bus(principal), clock=LoopClock(), **options)
    await limiter.start()
    try:
        yield limiter
    finally:
        await limiter.close()


async def until(check: Callable[[], bool], within: float = 10.0) -> None:
    async with asyncio.timeout(within):
        while not check():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.005)
