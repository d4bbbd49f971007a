"""The registry under any history: a state machine that plays reporters, probers, operators, time and take-overs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bursar.contracts.breaker import OUTCOMES, Probe
from bursar.kernel.decider import Accept, Refuse
from bursar_breaker.state import validate
from tests.breaker.desk import Desk
from tests.breaker.desk import rule as rule_of
from tests.breaker.history import check_history

pytestmark = pytest.mark.property

TARGETS = ("p", "p/m", "p/m/k", "q")
AGENTS = ("ann", "bob", "cat")


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(rule_of(probes=2, successes=2), rule_of("p/m", consecutive=3, probe_ttl_ms=900))
        self.probers: dict[str, str] = {}

    @rule(ms=st.one_of(st.integers(1, 60), st.integers(1, 3_000)))
    def time_passes(self, ms: int) -> None:
        self.desk.advance(ms)

    @rule(
        name=st.sampled_from(TARGETS),
        who=st.sampled_from(AGENTS),
        counts=st.dictionaries(st.sampled_from(OUTCOMES), st.integers(0, 6), max_size=3),
        retry=st.sampled_from([None, None, 0, 900, 60_000]),
    )
    def report(self, name: str, who: str, counts: dict[str, int], retry: int | None) -> None:
        self.desk.saw(counts, name, who, retry)

    @rule(name=st.sampled_from(TARGETS), who=st.sampled_from(AGENTS))
    def probe(self, name: str, who: str) -> None:
        outcome = self.desk.ask(Probe(id=self.desk.new_id(), target=name), who)
        assert isinstance(outcome, Accept | Refuse)
        if outcome.reply["ok"]:
            self.probers[outcome.reply["lease"]] = who

    @precondition(lambda self: self.probers)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def probed(self, data: st.DataObject, outcome: Any) -> None:
        lease = data.draw(st.sampled_from(sorted(self.probers)))
        self.desk.probed(lease, outcome, self.probers[lease])

    @rule(name=st.sampled_from(TARGETS), to=st.sampled_from(["open", "closed", "reset"]))
    def force(self, name: str, to: str) -> None:
        self.desk.force(name, to)

    @rule()
    def take_over(self) -> None:
        self.desk = self.desk.restarted()

    @invariant()
    def parts_agree(self) -> None:
        validate(self.desk.state, self.desk.now)
        for target, count in self.desk.state.out.items():
            assert count <= self.desk.state.rules.of(target).probes

    def teardown(self) -> None:
        self.desk.check()
        check_history(self.desk.journal)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
