"""A deterministic stand-in for the kernel and a fleet: drives the decider through time, one seed, no IO.

`Desk` does what the kernel does around a decider: decides, applies, hands out what is due, keeps the journal.
`sizes` and `arrivals` have the published statistics of the Azure 2023 code trace: prompts of median 1469 and 99th
percentile 7436 tokens, short completions (mean 28, at most 1900), inter-arrival times with a CV of 13.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from bursar.contracts.limiter import Amounts, BudgetSpec, Reload, Reserve, Settle, Status, StatusReply, Usage
from bursar.kernel.decider import Accept, Command, Event, Outcome, Refuse, Reject
from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from bursar_limiter.events import ADJUSTED, BUDGETS, LOST
from bursar_limiter.state import State
from tests.desk import DeskBase

SWEEPING = {BUDGETS, ADJUSTED, LOST}


class Desk(DeskBase):
    """Decides and applies at once. ``now`` is the decider's clock; answers to parked commands go to ``answers``."""

    decider: LimiterDecider
    state: State

    def __init__(self, *budgets: BudgetSpec, now: int = 0, incarnation: int = 1) -> None:
        self.decider = LimiterDecider()
        self.state = self.decider.initial()
        super().__init__(now, incarnation)
        self.journal: list[Event] = []
        if budgets:
            self.must(Reload(id=self.new_id(), budgets=budgets), principal="ops")

    def _decide(self, command: Command) -> Outcome:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self.now, (self.incarnation, 1, self.number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                self.decider.evolve(self.state, event)
                self.journal.append(event)
        return outcome

    def advance(self, to: int) -> None:
        for _ in self.moments(to):
            pass

    def copy(self, at: int) -> Desk:
        """Another desk with the same durable state, at a later time, if nothing happens in between."""
        other = Desk(now=self.now, incarnation=self.incarnation)
        other.state = other.decider.load(self.dump())
        other.number = self.number
        other.advance(at)
        return other

    def reserve(self, budget: str = "b", wait_ms: int = 0, ttl_ms: int = 60_000, **amounts: int) -> Outcome:
        amounts = {"requests": 0, "concurrent": 0, **amounts}
        body = Reserve(
            id=self.new_id(), budget=budget, amounts=Amounts.model_validate(amounts), wait_ms=wait_ms, ttl_ms=ttl_ms
        )
        return self.ask(body)

    def granted(self, budget: str = "b", ttl_ms: int = 60_000, **amounts: int) -> str:
        outcome = self.reserve(budget, ttl_ms=ttl_ms, **amounts)
        assert isinstance(outcome, Accept), outcome
        reservation: str = outcome.reply["reservation"]
        return reservation

    def refused(self, budget: str = "b", wait_ms: int = 0, **amounts: int) -> dict[str, Any]:
        outcome = self.reserve(budget, wait_ms=wait_ms, **amounts)
        assert isinstance(outcome, Refuse), outcome
        return outcome.reply

    def settle(self, reservation: str, principal: str = "agent", **usage: int) -> Outcome:
        body = Settle(id=self.new_id(), reservation=reservation, usage=Usage.model_validate({"requests": 0, **usage}))
        return self.ask(body, principal)

    def cancel(self, reservation: str, principal: str = "agent") -> Outcome:
        return self.ask(Settle(id=self.new_id(), reservation=reservation, outcome="cancelled"), principal)

    def reload(self, *budgets: BudgetSpec) -> Outcome:
        return self.ask(Reload(id=self.new_id(), budgets=budgets), "ops")

    def status(self, budget: str | None = None) -> StatusReply:
        outcome = self.ask(Status(budget=budget), "ops")
        assert isinstance(outcome, Refuse), outcome
        return StatusReply(**outcome.reply, fence="1.1.1.0123456789abcdef")

    def rejected(self, outcome: Outcome) -> str:
        assert isinstance(outcome, Reject), outcome
        return outcome.code

    def dump(self) -> Any:
        return self.decider.dump(self.state)

    def check(self) -> None:
        """What must hold at any time: `agrees`, and a replica that forgets all that is volatile before each event which
        touches many budgets at once has the same state, too."""
        self.agrees()
        replayed, forgetful = self.decider.initial(), self.decider.initial()
        for event in self.journal:
            if event[0] in SWEEPING:
                forgetful = self.decider.load(self.decider.dump(forgetful))
                self.decider.evolve(forgetful, event)
                self.decider.evolve(replayed, event)
                assert self.decider.dump(forgetful) == self.decider.dump(replayed), f"{event}: what is volatile counted"
            else:
                self.decider.evolve(forgetful, event)
                self.decider.evolve(replayed, event)
        assert self.decider.dump(forgetful) == self.dump(), "a replica that forgets has another state"

    def agrees(self) -> None:
        """The parts agree, replay gives the same state, and so does dump and load."""
        validate(self.state, self.now)
        replayed = self.decider.initial()
        for event in self.journal:
            self.decider.evolve(replayed, event)
        assert self.decider.dump(replayed) == self.dump(), "replay gives another state"
        assert self.decider.dump(self.decider.load(self.dump())) == self.dump(), "load gives another state"


def prompt_tokens(rng: random.Random) -> int:
    """Log-normal by the median and the 99th percentile of the trace, cut at the trace's maximum of 7437."""
    sigma = math.log(7436 / 1469) / 2.326
    return max(1, min(7437, round(1469 * math.exp(rng.gauss(0, sigma)))))


def completion_tokens(rng: random.Random) -> int:
    """Mean about 28, at most 1900."""
    return max(1, min(1900, round(12 * math.exp(rng.gauss(0, 1.25)))))


def arrivals(rng: random.Random, mean_ms: float, until: int) -> Iterator[int]:
    """Bursts of many calls and long silences: hyper-exponential gaps with a coefficient of variation near 13."""
    at = 0.0
    rare = 1 / 170
    while at < until:
        long = rng.random() < rare
        at += rng.expovariate(1.0) * (mean_ms * 0.92 / rare if long else mean_ms * 0.0805)
        yield round(at)
