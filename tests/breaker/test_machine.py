"""The registry under any history, held against the executable model of its rules after every step: reporters, probers,
operators, time and take-overs in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bursar.contracts.breaker import OUTCOMES, Annotate, Probe
from bursar.kernel.decider import Accept, Refuse, Reject
from bursar_breaker.state import validate
from tests.breaker.desk import ORDERS, Desk
from tests.breaker.desk import rule as rule_of
from tests.breaker.history import check_history
from tests.breaker.model import Model
from tests.breaker.model_words import added

pytestmark = pytest.mark.property

TARGETS = ("p", "p/m", "p/m/k", "p/n", "q")
GROUPS = {"g": ("p/m", "q")}
AGENTS = ("ann", "bob", "cat")
RULES = (
    rule_of(probes=2, successes=2, consecutive=3, ramp=(100, 500), ramp_step_ms=150),
    rule_of("p/m", consecutive=0, probe_ttl_ms=900, slow_permille=600),
    rule_of("q", ramp=(50,), ramp_step_ms=400, minimum_calls=6, quorum=1, quorum_permille=0),
)
times = st.one_of(st.integers(1, 60), st.integers(1, 700), st.integers(1, 3_000))
spans = st.sampled_from([None, None, None, 0, 900, 60_000])
told_counts = st.dictionaries(st.sampled_from(OUTCOMES), st.integers(0, 5), max_size=3)
ills = st.dictionaries(st.sampled_from(("timeout", "error", "overload")), st.integers(1, 6), min_size=1, max_size=2)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(*RULES, groups=GROUPS)
        self.model = Model(RULES, GROUPS, self.desk.now)
        self.probers: dict[str, str] = {}

    @rule(ms=times)
    def time_passes(self, ms: int) -> None:
        self.desk.advance(ms)
        self.model.advance(ms)

    @rule(name=st.sampled_from(TARGETS), who=st.sampled_from(AGENTS), counts=told_counts | ills, retry=spans)
    def report(self, name: str, who: str, counts: dict[str, int], retry: int | None) -> None:
        self.desk.saw(counts, name, who, retry)
        self.model.report(who, name, counts, retry)

    @rule(
        name=st.sampled_from(TARGETS), who=st.sampled_from(AGENTS), counts=st.just({}) | told_counts | ills,
        streak=st.sampled_from((2, 3, 9)),
    )  # fmt: skip
    def stops_by_itself(self, name: str, who: str, counts: dict[str, int], streak: int) -> None:
        self.desk.saw({**counts, "shut": streak}, name, who)
        self.model.report(who, name, counts, None, streak)

    @rule(name=st.sampled_from(TARGETS), who=st.sampled_from(AGENTS))
    def goes_down(self, name: str, who: str) -> None:
        """A burst, so that circuits open often enough."""
        for reporter in AGENTS:
            self.report(name, reporter, {"error": 4}, None)

    @rule(name=st.sampled_from((*TARGETS, "group/g")), who=st.sampled_from(AGENTS))
    def probe(self, name: str, who: str) -> None:
        expected = self.model.may_probe(name)
        outcome = self.desk.ask(Probe(id=self.desk.new_id(), target=name), who)
        assert isinstance(outcome, Accept | Refuse)
        assert outcome.reply["ok"] == expected
        if expected:
            self.probers[outcome.reply["lease"]] = who
            self.model.lend(outcome.reply["lease"], who, name)

    @precondition(lambda self: self.probers)
    @rule(data=st.data(), outcome=st.sampled_from(("ok", "ok", "ok", *OUTCOMES)), retry=spans)
    def probed(self, data: st.DataObject, outcome: Any, retry: int | None) -> None:
        lease = data.draw(st.sampled_from(sorted(self.probers)))
        self.desk.probed(lease, outcome, self.probers[lease], retry)
        self.model.probed(lease, outcome, retry)

    @rule(name=st.sampled_from(TARGETS), who=st.sampled_from(AGENTS), times=st.integers(1, 4))
    def comes_back(self, name: str, who: str, times: int) -> None:
        """Its time passes and probes succeed."""
        self.time_passes(max(1, self.desk.explain(name).next_probe_ms or 1))
        for _ in range(times):
            self.probe(name, who)
            for lease, prober in list(self.probers.items())[-1:]:
                self.desk.probed(lease, "ok", prober)
                self.model.probed(lease, "ok", None)

    @rule(name=st.sampled_from((*TARGETS, "group/g")), to=st.sampled_from(list(ORDERS)), for_ms=st.none() | times)
    def order(self, name: str, to: str, for_ms: int | None) -> None:
        fields = {"for_ms": for_ms} if to not in {"reset", "release"} else {}
        body = ORDERS[to].model_validate({"id": self.desk.new_id(), "target": name, **fields})
        assert isinstance(self.desk.ask(body, "ops"), Accept | Reject)
        self.model.order(name, to, fields.get("for_ms"))

    @rule(name=st.sampled_from(TARGETS))
    def annotate(self, name: str) -> None:
        self.desk.order(Annotate, name, note="seen")
        self.model.order(name, "note", None)

    @rule()
    def take_over(self) -> None:
        self.desk = self.desk.restarted()
        self.model.take_over()

    @invariant()
    def the_model_says_the_same(self) -> None:
        state = self.desk.state
        shown = {
            name: (c.state, c.until, c.share, c.opened, c.successes, c.reason, c.generation)
            for name, c in state.circuits.items()
        }
        assert shown == self.model.shown()
        assert state.revision == self.model.revision
        assert {key: lease.expires_at for key, lease in state.leases.items()} == {
            key: lease.ends for key, lease in self.model.leases.items()
        }

    @invariant()
    def windows_are_the_sums_of_what_was_reported(self) -> None:
        for name in (*TARGETS, "group/g"):
            seen = self.desk.state.windows.look(name, self.desk.now)
            counts = {} if seen is None else {key: count for key, count in seen.named().items() if count}
            assert counts == added([row.counts for row in self.model.recent(name)]), name

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
