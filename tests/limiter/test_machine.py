"""The limiter under any history: a state machine that plays agents, operators, time and loss of data.

Beside it stands `Truth`, which adds up from scratch what was granted and used, the lost included.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bursar.contracts.limiter import (
    DIMENSIONS,
    Amounts,
    BudgetSpec,
    LimitSpec,
    Redeclare,
    Reload,
    Reserve,
    Settle,
    Usage,
    Withdraw,
)
from bursar.kernel.decider import Accept, Park, Refuse, Reject
from tests.limiter.fleet import Desk
from tests.limiter.truth import Call, Truth, no_amounts, only

pytestmark = pytest.mark.property

FULL = BudgetSpec(
    name="full",
    limits={
        "requests": LimitSpec(limit=12, window_ms=1000),
        "input_tokens": LimitSpec(limit=1000, window_ms=2000),
        "output_tokens": LimitSpec(limit=500, window_ms=1500, charge="production"),
        "concurrent": LimitSpec(limit=4, window_ms=0),
        "usd_micros": LimitSpec(limit=6000, window_ms=3000),
    },
    jitter_ms=100,
    burst_permille=200,
    max_waiting=6,
    max_ttl_ms=4000,
)
RAW = BudgetSpec(
    name="raw",
    limits={
        "requests": LimitSpec(limit=5, window_ms=700, paced=False),
        "usd_micros": LimitSpec(limit=3000, window_ms=5000, paced=False),
    },
    jitter_ms=0,
    max_ttl_ms=3000,
)
PURSE = BudgetSpec(name="purse", limits={"usd_micros": LimitSpec(limit=2500, window_ms=0)}, max_ttl_ms=1000)
AGENTS = ("ann", "bob")

tokens = st.one_of(st.integers(0, 60), st.integers(0, 400), st.just(0), st.integers(0, 1200))
asked = st.fixed_dictionaries(
    {
        "requests": st.sampled_from([1, 1, 1, 0, 2, 5]),
        "input_tokens": tokens,
        "output_tokens": tokens,
        "concurrent": st.sampled_from([1, 1, 0, 2]),
        "usd_micros": st.integers(0, 600),
    }
)
used = st.fixed_dictionaries(
    {
        "requests": st.sampled_from([1, 1, 0, 3]),
        "input_tokens": tokens,
        "output_tokens": tokens,
        "usd_micros": st.integers(0, 700),
    }
)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(FULL, RAW, PURSE, now=777)
        self.truth = Truth()
        self.owner: dict[str, str] = {}
        self.parked: dict[tuple[str, str], Reserve] = {}
        self.settled: set[str] = set()

    # ---------------------------------------------------------------------------------------------- what happens

    @rule(ms=st.one_of(st.integers(1, 30), st.integers(1, 900), st.integers(1, 5000)))
    def time_passes(self, ms: int) -> None:
        for _ in self.desk.moments(self.desk.now + ms):
            self.note_answers()

    @rule(budget=st.sampled_from(["full", "full", "full", "raw", "purse"]), amounts=asked, who=st.sampled_from(AGENTS),
          wait=st.sampled_from([0, 0, 50, 3000]), ttl=st.sampled_from([100, 1000, 9000]))  # fmt: skip
    def reserve(self, budget: str, amounts: dict[str, int], who: str, wait: int, ttl: int) -> None:
        body = Reserve(
            id=self.desk.new_id(), budget=budget, amounts=Amounts.model_validate(amounts), wait_ms=wait, ttl_ms=ttl
        )
        self.desk.settle_due()
        self.note_answers()
        waiting = self.desk.state.budgets[budget].waiting
        before = self.desk.dump()
        outcome = self.desk.ask(body, who)
        if isinstance(outcome, Accept):
            assert not waiting, "a new request overtook the line"
            self.note_grant(who, body, outcome)
            return
        assert self.desk.dump() == before, "a request that was not granted changed the state"
        if isinstance(outcome, Park):
            self.parked[who, body.id] = body
            self.desk.settle_due()  # who had to make place is told so
            self.note_answers()
        else:
            assert isinstance(outcome, Refuse)
            self.note_refusal(who, body, outcome, waiting)

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def resend_parked(self, data: st.DataObject) -> None:
        """A retry of a request that stands in line does not stand there twice."""
        key = data.draw(st.sampled_from(sorted(self.parked)))
        body = self.parked[key]
        line = len(self.desk.state.budgets[body.budget].line)
        assert isinstance(self.desk.ask(body, key[0]), Park)
        assert len(self.desk.state.budgets[body.budget].line) == line

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """Who stands in line leaves it, and is not let in again; nothing durable changes."""
        who, name = data.draw(st.sampled_from(sorted(self.parked)))
        body = self.parked[who, name]
        before = self.desk.dump()
        answer = self.desk.ask(Withdraw(id=self.desk.new_id(), budget=body.budget, request=name), who)
        assert isinstance(answer, Refuse)
        assert answer.reply["outcome"] == "withdrawn"
        assert self.desk.dump() == before
        self.desk.settle_due()
        told = self.desk.answers[who, name]
        assert isinstance(told, Refuse)
        assert told.reply["reason"] in {"withdrawn", "never_fits"}
        self.note_answers()

    @precondition(lambda self: self.truth.calls)
    @rule(data=st.data(), usage=used, outcome=st.sampled_from(["used", "used", "cancelled", "unknown"]),
          thief=st.sampled_from([False, False, False, True]))  # fmt: skip
    def settle(self, data: st.DataObject, usage: dict[str, int], outcome: str, thief: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.truth.calls)))
        given = Usage.model_validate(usage) if outcome == "used" else None
        how: Any = "cancelled" if outcome == "cancelled" else "used"
        body = Settle(id=self.desk.new_id(), reservation=key, outcome=how, usage=given)
        who = "eve" if thief else self.owner[key]
        before, line = self.desk.dump(), len(self.desk.state.live)
        answer = self.desk.ask(body, who)
        call = self.truth.calls[key]
        if isinstance(answer, Accept):
            assert not thief
            if answer.reply["outcome"] == "timed_out":
                assert key not in self.settled, "a time-out was corrected twice"
                assert call.ended_at is None or self.desk.incarnation > 1, "corrected after it had ended"
                assert self.desk.now >= call.expires_at
            else:
                assert key not in self.settled, "a reservation ended twice"
                assert len(self.desk.state.live) == line - 1
            self.settled.add(key)
            nothing = no_amounts()
            real = nothing if how == "cancelled" else {**nothing, **usage} if given else dict(call.reserved)
            call.end(self.desk.now, real)
        else:
            assert isinstance(answer, Reject)
            assert self.desk.dump() == before

    @rule(data=st.data())
    def reload(self, data: st.DataObject) -> None:
        """Other limits and windows of the same dimensions."""
        limits = {}
        for name, given in FULL.limits.items():
            spec = only(given)
            factor = data.draw(st.sampled_from([500, 1000, 1000, 2000]), label=name)
            stretch = data.draw(st.sampled_from([500, 1000, 1000, 1500]), label="window")
            limits[name] = spec.model_copy(
                update={"limit": spec.limit * factor // 1000, "window_ms": spec.window_ms * stretch // 1000}
            )
        jitter = data.draw(st.sampled_from([0, 100, 200]))
        full = FULL.model_copy(update={"limits": limits, "jitter_ms": jitter})
        self.desk.ask(Reload(id=self.desk.new_id(), budgets=(full, RAW, PURSE)))

    @rule(entries=st.integers(1, 12))
    def lose(self, entries: int) -> None:
        """The journal comes back without its last entries; the line, being volatile, is empty."""
        desk = self.desk
        kept = desk.journal[: max(1, len(desk.journal) - entries)]
        desk.state, desk.journal = desk.decider.initial(), []
        desk.incarnation += 1
        for event in [*kept, *self.recovery(kept)]:
            desk.decider.evolve(desk.state, event)
            desk.journal.append(event)
        self.settled.clear()
        self.parked.clear()
        desk.answers.clear()

    def recovery(self, kept: list[Any]) -> Any:
        state = self.desk.decider.initial()
        for event in kept:
            self.desk.decider.evolve(state, event)
        return self.desk.decider.recover(state, self.desk.now)

    @precondition(lambda self: self.truth.calls)
    @rule(data=st.data())
    def redeclare(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.truth.calls)))
        call = self.truth.calls[key]
        body = Redeclare(
            id=self.desk.new_id(),
            budget=call.budget,
            reservation=key,
            fence=f"{key}.0123456789abcdef",
            amounts=Amounts.model_validate(call.reserved),
            granted_at_ms=call.granted_at,
            ttl_ms=max(100, call.expires_at - call.granted_at),
        )
        known = key in self.desk.state.live
        answer = self.desk.ask(body, self.owner[key])
        if isinstance(answer, Accept):
            assert not known
            assert key in self.desk.state.live
            self.settled.discard(key)

    # ------------------------------------------------------------------------------------------- what must hold

    def note_answers(self) -> None:
        """Each parked request is answered once; requests that were granted at one moment add up."""
        for key, outcome in self.desk.answers.items():
            body = self.parked.pop(key)
            if isinstance(outcome, Accept):
                self.note_grant(key[0], body, outcome)
            else:
                assert isinstance(outcome, Refuse | Reject)
        self.desk.answers.clear()

    def counted(self, budget: str) -> dict[str, int]:
        spec = self.desk.state.budgets[budget].spec
        return {name: self.truth.counted(spec, name, self.desk.now) for name in spec.limits}

    def note_grant(self, who: str, body: Reserve, outcome: Accept) -> None:
        """The hard guard, against the truth: nothing was granted beyond a limit in force."""
        reply = outcome.reply
        wanted: dict[str, int] = {name: getattr(body.amounts, name) for name in DIMENSIONS}
        spent = self.counted(body.budget)
        for name, limit in self.desk.state.budgets[body.budget].spec.limits.items():
            assert not wanted[name] or spent[name] + wanted[name] <= only(limit).limit, f"over the limit of {name}"
        assert reply["reservation"] not in self.truth.calls
        assert reply["granted_at_ms"] == self.desk.now
        self.truth.calls[reply["reservation"]] = Call(body.budget, self.desk.now, reply["expires_at_ms"], wanted)
        self.owner[reply["reservation"]] = who

    def note_refusal(self, who: str, body: Reserve, outcome: Refuse, waiting: int) -> None:
        """``retry_at`` is exact if nothing else happens: refused a millisecond earlier, granted then."""
        reply = outcome.reply
        assert reply["ahead"] == waiting
        retry_at = reply["retry_at_ms"]
        assert retry_at is None or retry_at > self.desk.now or waiting
        if waiting:
            return
        again = body.model_copy(update={"wait_ms": 0})
        if retry_at is None:
            retry_at = self.desk.now + 10_000_000
            assert isinstance(self.desk.copy(retry_at).ask(again, who), Refuse)
            return
        assert isinstance(self.desk.copy(retry_at - 1).ask(again, who), Refuse), "refused for too long"
        assert isinstance(self.desk.copy(retry_at).ask(again, who), Accept), "not granted when it should be"

    @invariant()
    def parts_agree_and_replay_is_equal(self) -> None:
        self.desk.agrees()

    @invariant()
    def who_waits_is_in_line(self) -> None:
        lined = [budget.line for budget in self.desk.state.budgets.values() if budget.has_line]
        assert {key for line in lined for key in line.waiters} == self.parked.keys()
        assert self.desk.state.parked.keys() == self.parked.keys()

    def teardown(self) -> None:
        """Nobody waits beyond the deadline, and everything ends."""
        for _ in self.desk.moments(self.desk.now + 20_000):
            self.note_answers()
        assert not self.parked
        assert not self.desk.state.live
        self.desk.check()


TestLimiter = Machine.TestCase
TestLimiter.settings = settings(max_examples=90, stateful_step_count=40)
