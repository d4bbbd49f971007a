"""A tree of budgets under any history: agents and runs, purses and hosts, priorities, streams, live quotas, other
limits, loss of data. Beside it stands a record for every object, which adds up from scratch.
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
    ChildSpec,
    LimitSpec,
    Reload,
    Reserve,
    Settle,
    Usage,
    windows_of,
)
from bursar.contracts.limiter_control import Adjust, Progress
from bursar.kernel.decider import Accept, Park, Refuse, Reject
from bursar_limiter.checking import validate
from tests.limiter.fleet import Desk
from tests.limiter.truth import Call, Truth, no_amounts

pytestmark = pytest.mark.property


def rate(limit: int, window_ms: int, **more: Any) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=window_ms, **more)


def level(limit: int) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=0)


def scaled(limit: LimitSpec, permille: int) -> LimitSpec:
    return limit.model_copy(update={"limit": limit.limit * permille // 1_000})


COMMON: dict[str, Any] = {"jitter_ms": 50, "burst_permille": 300, "max_ttl_ms": 3_000, "max_waiting": 6, "lease_ms": 0}
ORG = BudgetSpec(
    name="org",
    limits={"requests": (rate(9, 500, paced=False), rate(20, 2_000)), "concurrent": level(6)},
    also=("purse",),
    **COMMON,
)
TEAM = BudgetSpec(
    name="org/team",
    parent="org",
    weight=300,
    limits={"input_tokens": rate(900, 1_000), "output_tokens": rate(500, 1_000, charge="production")},
    each_agent=ChildSpec(limits={"concurrent": level(3), "total_tokens": rate(900, 1_500, paced=False)}),
    each_run=ChildSpec(limits={"requests": rate(5, 3_000, paced=False)}),
    **COMMON,
)
FLAT = BudgetSpec(name="flat", parent="org", limits={"input_tokens": rate(700, 1_000)}, **COMMON)
HOST = BudgetSpec(name="host", limits={"concurrent": level(2), "network_bytes": rate(3_000, 800)}, **COMMON)
PURSE = BudgetSpec(
    name="purse", kind="purse", limits={"usd_micros": level(9_000)}, max_ttl_ms=3_000, jitter_ms=50, lease_ms=0
)
AGENTS = ("ann", "bob")

tokens = st.one_of(st.integers(0, 60), st.integers(0, 300), st.just(0))
asked = st.fixed_dictionaries(
    {
        "requests": st.sampled_from([1, 1, 1, 0, 2]),
        "input_tokens": tokens,
        "output_tokens": tokens,
        "concurrent": st.sampled_from([1, 1, 0, 2]),
        "usd_micros": st.integers(0, 300),
        "network_bytes": st.sampled_from([0, 0, 900]),
    }
)
used = st.fixed_dictionaries(
    {
        "requests": st.sampled_from([1, 1, 0, 2]),
        "input_tokens": tokens,
        "output_tokens": tokens,
        "usd_micros": st.integers(0, 350),
        "network_bytes": st.sampled_from([0, 500, 1_200]),
    }
)


def whole(amounts: dict[str, int]) -> dict[str, int]:
    """With the total of tokens, as it is derived."""
    return {**no_amounts(), **amounts, "total_tokens": amounts["input_tokens"] + amounts["output_tokens"]}


class TreeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(PURSE, HOST, ORG, TEAM, FLAT, now=333)
        self.truth: dict[str, Truth] = {}
        self.calls: dict[str, Call] = {}
        self.owner: dict[str, str] = {}
        self.parked: dict[tuple[str, str], Reserve] = {}
        self.ended: set[str] = set()

    # ---------------------------------------------------------------------------------------------- what happens

    @rule(ms=st.one_of(st.integers(1, 40), st.integers(1, 600), st.integers(1, 4_000)))
    def time_passes(self, ms: int) -> None:
        for _ in self.desk.moments(self.desk.now + ms):
            self.note_answers()

    @rule(budget=st.sampled_from(["org/team", "org/team", "flat", "org", "host"]), amounts=asked,
          who=st.sampled_from(AGENTS), run=st.sampled_from([None, None, "r1", "r2"]), host=st.booleans(),
          wait=st.sampled_from([0, 0, 60, 3_000]), ttl=st.sampled_from([100, 900, 9_000]),
          priority=st.sampled_from(["reactive", "standard", "proactive"]))  # fmt: skip
    def reserve(self, budget: str, amounts: dict[str, int], who: str, run: str | None, host: bool, wait: int, ttl: int,
                priority: Any) -> None:  # fmt: skip
        also = ("host",) if host and budget != "host" else ()
        body = Reserve(
            id=self.desk.new_id(), budget=budget, amounts=Amounts.model_validate(amounts), wait_ms=wait, ttl_ms=ttl,
            run=run, also=also, priority=priority,
        )  # fmt: skip
        self.desk.settle_due()
        self.note_answers()
        before = self.desk.dump()
        outcome = self.desk.ask(body, who)
        if isinstance(outcome, Accept):
            self.note_grant(who, body, outcome)
            return
        assert self.desk.dump() == before, "a request that was not granted changed the state"
        if isinstance(outcome, Park):
            self.parked[who, body.id] = body
            self.desk.settle_due()
            self.note_answers()
        else:
            assert isinstance(outcome, Refuse), outcome
            self.note_refusal(who, body, outcome)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), usage=used, outcome=st.sampled_from(["used", "used", "cancelled", "unknown"]))
    def settle(self, data: st.DataObject, usage: dict[str, int], outcome: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.calls)))
        call = self.calls[key]
        given = Usage.model_validate(usage) if outcome == "used" else None
        how: Any = "cancelled" if outcome == "cancelled" else "used"
        before = self.desk.dump()
        body = Settle(id=self.desk.new_id(), reservation=key, outcome=how, usage=given)
        answer = self.desk.ask(body, self.owner[key])
        if not isinstance(answer, Accept):
            assert isinstance(answer, Reject)
            assert answer.code in {"already_settled", "unknown_reservation", "usage_shrank"}
            assert self.desk.dump() == before
            return
        assert key not in self.ended, "a reservation ended twice"
        self.ended.add(key)
        real = no_amounts() if how == "cancelled" else whole(usage) if given else call.in_full()
        call.end(self.desk.now, real)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), usage=used)
    def progress(self, data: st.DataObject, usage: dict[str, int]) -> None:
        key = data.draw(st.sampled_from(sorted(self.calls)))
        body = Progress(id=self.desk.new_id(), reservation=key, usage=Usage.model_validate(usage))
        before = self.desk.dump()
        answer = self.desk.ask(body, self.owner[key])
        if isinstance(answer, Accept):
            self.calls[key].reports.append((self.desk.now, whole(usage)))
        else:
            assert self.desk.dump() == before

    @rule(data=st.data())
    def reload(self, data: st.DataObject) -> None:
        """Other limits of the same dimensions, at every level."""
        factor = data.draw(st.sampled_from([500, 1_000, 2_000]))
        specs = []
        for spec in (ORG, TEAM, FLAT, HOST):
            limits: Any = {
                name: tuple(scaled(limit, factor) for limit in windows_of(given)) for name, given in spec.limits.items()
            }
            specs.append(spec.model_copy(update={"limits": limits}))
        assert not isinstance(self.desk.ask(Reload(id=self.desk.new_id(), budgets=(PURSE, *specs)), "ops"), Reject)

    @rule(who=st.sampled_from(AGENTS), calls=st.integers(1, 5), weight=st.sampled_from([None, 50, 400]))
    def adjust(self, who: str, calls: int, weight: int | None) -> None:
        limits: Any = {"concurrent": level(calls), "total_tokens": rate(400 * calls, 1_500, paced=False)}
        body = Adjust(id=self.desk.new_id(), budget="org/team", agent=who, limits=limits, weight=weight)
        assert not isinstance(self.desk.ask(body, "ops"), Reject)

    @rule(entries=st.integers(1, 8))
    def lose(self, entries: int) -> None:
        """The journal comes back without its last entries; the line, being volatile, is empty."""
        desk = self.desk
        kept = desk.journal[: max(1, len(desk.journal) - entries)]
        state = desk.decider.initial()
        for event in kept:
            desk.decider.evolve(state, event)
        lost = list(desk.decider.recover(state, desk.now))
        for event in lost:
            desk.decider.evolve(state, event)
        desk.state, desk.journal = state, [*kept, *lost]
        desk.incarnation += 1
        self.parked.clear()
        desk.answers.clear()
        self.ended.clear()

    # ------------------------------------------------------------------------------------------- what must hold

    def note_answers(self) -> None:
        for key, outcome in self.desk.answers.items():
            body = self.parked.pop(key)
            if isinstance(outcome, Accept):
                self.note_grant(key[0], body, outcome)
            else:
                assert isinstance(outcome, Refuse | Reject)
        self.desk.answers.clear()

    def note_grant(self, who: str, body: Reserve, outcome: Accept) -> None:
        """The hard guard, against the truth, at every object: nothing was granted beyond a limit in force."""
        reply, state, now = outcome.reply, self.desk.state, self.desk.now
        reservation = reply["reservation"]
        entry = state.live[reservation]
        wanted = whole({name: getattr(body.amounts, name) for name in DIMENSIONS})
        path = state.path_of(state.budgets[entry.budget], entry.also)
        assert {"org/team", "org", "purse"} <= {node.name for node in path.nodes} or body.budget != "org/team"
        call = self.calls[reservation] = Call("", now, reply["expires_at_ms"], wanted)
        self.owner[reservation] = who
        for node in path.nodes:
            record = self.truth.setdefault(node.name, Truth())
            for name, given in node.spec.limits.items():
                for limit in windows_of(given):
                    counted = record.counted_by(limit, node.spec.jitter_ms, name, now)
                    over = counted + wanted[name] > limit.limit
                    assert not wanted[name] or not over, f"over the limit of {name} of {node.name}"
            record.calls[reservation] = call

    def note_refusal(self, who: str, body: Reserve, outcome: Refuse) -> None:
        """``retry_at`` is exact if nobody waits and nothing else happens."""
        if self.desk.state.parked:
            return
        retry_at = outcome.reply["retry_at_ms"]
        again = body.model_copy(update={"wait_ms": 0})
        assert outcome.reply["object"] is not None
        if retry_at is None:
            assert isinstance(self.desk.copy(self.desk.now + 10_000_000).ask(again, who), Refuse)
            return
        assert isinstance(self.desk.copy(retry_at - 1).ask(again, who), Refuse), "refused for too long"
        assert isinstance(self.desk.copy(retry_at).ask(again, who), Accept), "not granted when it should be"

    @invariant()
    def parts_agree(self) -> None:
        validate(self.desk.state, self.desk.now)

    @rule()
    def replay_is_equal(self) -> None:
        """So are dump and load."""
        self.desk.check()

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """Every meter counts at least what the record does, unless the rules have changed since."""
        sent_away = {waiter.command[:2] for waiter in self.desk.state.orphans}  # and not told yet
        assert self.desk.state.parked.keys() | sent_away == self.parked.keys()
        if self.desk.incarnation > 1 or any(event[0] in "bq" for event in self.desk.journal[1:]):
            return
        for name, record in self.truth.items():
            node = self.desk.state.budgets.get(name)
            for meter in node.meters if node is not None else ():
                spec = next(
                    limit for limit in windows_of(node.spec.limits[DIMENSIONS[meter.index]])  # type: ignore[union-attr]
                    if limit.window_ms == meter.window_ms
                )  # fmt: skip
                known = record.counted_by(spec, 50, DIMENSIONS[meter.index], self.desk.now)
                assert meter.counted(self.desk.now) >= known, f"{name} has forgotten {DIMENSIONS[meter.index]}"

    def teardown(self) -> None:
        """Nobody waits beyond the deadline, and everything ends; agents' budgets at rest are not stored."""
        for _ in self.desk.moments(self.desk.now + 20_000):
            self.note_answers()
        assert not self.parked
        assert not self.desk.state.live
        self.desk.check()


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
