"""Anybody reports anything at any time, and the limiter starts again between: a record beside it says what must hold.

A freeze ends when its last report said, or at the bound, or when an operator ends it: nothing is granted before. No
limit is above the configured one, no pace above the limit, no window over its limit, no allowance below zero, and a
replay of the journal gives the same state.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_observed import Adapting, Headroom, RateLimited, Seen, Thaw
from bursar.kernel.decider import Accept, Command
from tests.limiter.fleet import Desk

WINDOW, JITTER, MOST = 2_000, 100, 3_000
PROVIDER = BudgetSpec(
    name="p",
    limits={
        "requests": LimitSpec(limit=60, window_ms=WINDOW),
        "output_tokens": LimitSpec(limit=900, window_ms=WINDOW, charge="production", paced=False),
    },
    jitter_ms=JITTER,
    send_within_ms=50,
    burst_permille=300,
    adapt=Adapting(max_freeze_ms=MOST, ramp_ms=1_000),
)
LEAF = BudgetSpec(name="leaf", parent="p", limits={"concurrent": LimitSpec(limit=40, window_ms=0)}, jitter_ms=JITTER,
                  send_within_ms=50)  # fmt: skip
AGENTS = ("a", "b", "c")
RATES = ("requests", "output_tokens")

who = st.sampled_from(AGENTS)
budget = st.sampled_from(["p", "leaf"])


class Reports(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(PROVIDER, LEAF)
        self.frozen = dict.fromkeys(RATES, 0)
        self.granted: list[tuple[int, int]] = []
        self.live: list[tuple[str, int]] = []

    @rule(ms=st.one_of(st.integers(1, 40), st.integers(1, 4_000)))
    def time_passes(self, ms: int) -> None:
        self.desk.advance(self.desk.now + ms)

    @rule(name=budget, requests=st.integers(0, 9), tokens=st.integers(0, 200))
    def reserve(self, name: str, requests: int, tokens: int) -> None:
        outcome = self.desk.reserve(name, requests=requests, output_tokens=tokens, concurrent=1, ttl_ms=1_500)
        if not isinstance(outcome, Accept):
            return
        for dimension, amount in zip(RATES, (requests, tokens), strict=True):
            assert not amount or self.desk.now >= self.frozen[dimension], f"{dimension} granted while it is frozen"
        self.live.append((outcome.reply["reservation"], requests))
        self.granted.append((self.desk.now, requests))

    @rule(tokens=st.integers(0, 260))
    def settle(self, tokens: int) -> None:
        if self.live:
            key, requests = self.live.pop()
            self.desk.settle(key, requests=requests, output_tokens=tokens)

    @rule(name=budget, named=st.sets(st.sampled_from(RATES)), after=st.sampled_from([None, 0, 300, 2_000, 86_400_000]),
          reporter=who)  # fmt: skip
    def meet_a_429(self, name: str, named: set[Any], after: int | None, reporter: str) -> None:
        body = RateLimited(
            id=self.desk.new_id(), budget=name, dimensions=tuple(sorted(named)), retry_after_ms=after
        )  # fmt: skip
        outcome = self.desk.ask(body, reporter)
        if not isinstance(outcome, Accept):
            return
        until = outcome.reply["until_ms"]
        assert self.desk.now < until <= self.desk.now + MOST, "longer than the bound"
        for dimension in outcome.reply["dimensions"]:
            self.frozen[dimension] = max(self.frozen[dimension], until)

    @rule(name=budget, limit=st.sampled_from([0, 30, 60, 500]), used=st.integers(0, 60), reporter=who,
          age=st.integers(0, 400))  # fmt: skip
    def see_headers(self, name: str, limit: int, used: int, reporter: str, age: int) -> None:
        row = Headroom(dimension="requests", limit=limit, remaining=max(0, limit - used))
        body = Seen(budget=name, window_ms=WINDOW, age_ms=age, limits=(row,))
        self.desk._decide(Command(reporter, "", body))

    @rule()
    def an_operator_ends_it(self) -> None:
        self.desk.ask(Thaw(id=self.desk.new_id(), budget="p"), "ops")
        self.frozen = dict.fromkeys(RATES, 0)

    @rule()
    def start_again(self) -> None:
        self.desk.state = self.desk.decider.load(self.desk.dump())

    @invariant()
    def no_window_is_over(self) -> None:
        since = self.desk.now - WINDOW - JITTER
        self.granted = [(at, amount) for at, amount in self.granted if at > since]
        assert sum(amount for _, amount in self.granted) <= 60, "over the configured limit"

    @invariant()
    def status_tells_the_freeze(self) -> None:
        told = {row.name: row for row in self.desk.status().budgets}["p"].dimensions
        for dimension in RATES:
            left = max(0, self.frozen[dimension] - self.desk.now)
            assert told[dimension].frozen_in_ms == left, f"{dimension}: the freeze ends otherwise than was said"

    def teardown(self) -> None:
        self.desk.check()


Reports.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestReports = pytest.mark.property(Reports.TestCase)
