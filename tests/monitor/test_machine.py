"""The monitor under any history: a state machine that plays hosts, operators, time and take-overs.

Beside it stands a ledger of what hearers have been told, which knows nothing of how the monitor decides.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bursar.contracts.monitor import Acknowledge, Forget, SetRules, Silence, Unsilence
from bursar.contracts.monitor_picture import CircuitRow
from bursar.contracts.monitor_policy import Grouping, Rule
from tests.monitor.fleet import BUSY, GONE, OPEN, OWNERLESS, SILENT, Desk, instance

pytestmark = pytest.mark.property

HOSTS = ("alpha", "beta")
SETS: tuple[tuple[Rule, ...], ...] = (
    (SILENT, BUSY, OPEN, OWNERLESS, GONE),
    (SILENT, BUSY.model_copy(update={"clear_ms": 0, "hold_ms": 0})),
    (OPEN, OWNERLESS, GONE),
)


GROUPING = Grouping(wait_ms=3_000, interval_ms=20_000, repeat_ms=120_000, together_ms=30_000)


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(*SETS[0])
        self.desk.must(SetRules(id=self.desk.id(), rules=SETS[0], grouping=GROUPING))
        self.heard = 0
        self.believed: dict[tuple[str, str], str] = {}
        self.sent: set[tuple[str, str, int]] = set()
        self.last: dict[str, int] = {}
        self.read = 0
        self.open: dict[str, dict[str, Any]] = {}
        self.over: set[str] = set()

    # ---- what happens

    @rule(host=st.sampled_from(HOSTS), cpu=st.sampled_from([100, 850, 950]), count=st.integers(1, 6))
    def a_host_is_heard(self, host: str, cpu: int, count: int) -> None:
        for _ in range(count):
            made = self.desk.sample(host, cpu=cpu)
            self.sent.add((host, made.boot, made.seq))
            self.last[host] = self.desk.now
            self.desk.advance(1_000)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def an_old_sample_comes_again(self, data: st.DataObject) -> None:
        """For an owner that has not heard the host yet, the first sample is news, whatever its number."""
        host, boot, seq = data.draw(st.sampled_from(sorted(self.sent)))
        view = self.desk.state.hosts.get(host)
        if view is not None and view.sample is not None:
            self.desk.sample(host, boot, seq, cpu=950)

    @rule(host=st.sampled_from(HOSTS))
    def a_sample_is_lost(self, host: str) -> None:
        key = (host, "00000000000000aa")
        self.desk.seqs[key] = self.desk.seqs.get(key, 0) + 1

    @rule(owner=st.booleans(), both=st.booleans(), count=st.integers(1, 5))
    def services_are_seen(self, owner: bool, both: bool, count: int) -> None:
        for _ in range(count):
            rows = [instance(owner=owner), *([instance(name="limiter-2", owner=False)] if both else [])]
            self.desk.sweep(*rows)
            self.desk.advance(1_000)

    @rule(state=st.sampled_from(["open", "closed", "half_open"]))
    def a_circuit_is_told(self, state: str) -> None:
        self.desk.page("breaker", circuits=[CircuitRow(target="p", state=state)])

    @rule(ms=st.sampled_from([1, 500, 3_000, 20_000, 700_000]))
    def time_passes(self, ms: int) -> None:
        self.desk.advance(ms)

    @rule(name=st.sampled_from([None, "cpu-high", "host-silent"]), subject=st.sampled_from(["*", "alpha", "be*"]))
    def an_operator_silences(self, name: str | None, subject: str) -> None:
        self.desk.must(Silence(id=self.desk.id(), rule=name, subject=subject, for_ms=10_000))

    @precondition(lambda self: self.desk.state.silences)
    @rule()
    def an_operator_lifts_a_silence(self) -> None:
        self.desk.must(Unsilence(id=self.desk.id(), silence=next(iter(self.desk.state.silences))))

    @precondition(lambda self: self.desk.state.alerts)
    @rule()
    def an_operator_acknowledges(self) -> None:
        self.desk.ask(Acknowledge(id=self.desk.id(), alert=next(iter(self.desk.state.alerts))))

    @rule(kind=st.sampled_from(["host", "service", "instance"]), name=st.sampled_from([*HOSTS, "limiter"]))
    def an_operator_forgets(self, kind: Any, name: str) -> None:
        self.desk.ask(Forget(id=self.desk.id(), kind=kind, name=name))

    @rule(rules=st.sampled_from(SETS))
    def an_operator_sets_rules(self, rules: tuple[Rule, ...]) -> None:
        self.desk.must(SetRules(id=self.desk.id(), rules=rules, grouping=GROUPING))

    @rule(after=st.sampled_from([0, 1_500, 30_000]))
    def another_instance_takes_over(self, after: int) -> None:
        self.desk.take_over(after)

    # ---- what must hold

    @invariant()
    def the_state_holds_together(self) -> None:
        self.desk.check()

    @invariant()
    def what_is_told_is_a_story(self) -> None:
        """Firing then resolved, per rule and subject, never twice the same; and hearers believe what is so."""
        for told in self.desk.told[self.heard :]:
            key = (told["rule"], told["subject"])
            if told["state"] == "firing":
                assert key not in self.believed, f"{key} was told to fire twice"
                self.believed[key] = told["alert"]
            else:
                assert self.believed.pop(key, None) == told["alert"], f"{key} was told to be over and did not fire"
        self.heard = len(self.desk.told)
        state = self.desk.state
        assert self.believed.items() <= state.firing.items()
        for key in state.firing:
            if key not in self.believed:
                assert state.silenced_by(*key, self.desk.now) is not None, f"{key} fires, nobody silenced or told it"

    @invariant()
    def notifications_are_a_story(self) -> None:
        """Of each incident: new, then at most one in an interval unless it is worse or its cause was found, then over,
        then nothing; and every alert that was told for longer than the wait is part of exactly one."""
        for told in self.desk.notified[self.read :]:
            name, before = told["incident"], self.open.get(told["incident"])
            assert name not in self.over, f"{name} was over and is told again"
            assert (told["why"] == "new") == (before is None)
            assert told["number"] == (1 if before is None else before["number"] + 1)
            if before is not None and told["why"] in {"changed", "over"}:
                assert told["at_ms"] - before["at_ms"] >= GROUPING.interval_ms
            if before is not None and told["why"] == "repeat":
                assert told["at_ms"] - before["at_ms"] >= GROUPING.repeat_ms
            if told["state"] == "resolved":
                self.over.add(name)
                del self.open[name]
            else:
                self.open[name] = told
        self.read = len(self.desk.notified)
        assert self.open.keys() == self.desk.state.incidents.keys()
        for name in self.desk.state.unplaced:
            alert = self.desk.state.alerts[name]
            is_muted = self.desk.state.silenced_by(alert.rule, alert.subject, self.desk.now) is not None
            assert is_muted or self.desk.now - alert.fired_at < GROUPING.wait_ms, f"nobody is told of {name}"

    @invariant()
    def samples_are_counted_once(self) -> None:
        for host, view in self.desk.state.hosts.items():
            assert view.samples <= sum(name == host for name, _, _ in self.sent)
            assert view.missed >= 0

    @invariant()
    def ages_are_true(self) -> None:
        for row in self.desk.status().hosts:
            if row.age_ms is not None:
                assert row.age_ms >= self.desk.now - self.last[row.host]


TestFleet = Fleet.TestCase
TestFleet.settings = settings(TestFleet.settings, max_examples=80, stateful_step_count=30, deadline=None)
