"""Holders and the limiter under any sequence of events: whatever is late, lost, stopped or forgotten, no window of any
object sees more than its limit, and every unit is in one place.

The judge knows nothing of ledgers or leases: it has the calls as the provider saw them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bursar.client.local import HeldLease
from bursar.client.local_permit import LocalPermit
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.kernel import bugs as kernel_bugs
from bursar.kernel.decider import Accept
from bursar_limiter import leasing_bugs as bugs
from tests.limiter import test_islands, test_leasing
from tests.limiter.fleet import Desk
from tests.limiter.lease_holder import Holder, hand

J = 60
WINDOWS = {"org": (1_000, 600), "b": (700, 500)}
"""Of each object: its window in ms, and how many tokens it lets pass in it."""
OUTPUT = 300
CALLS = 9
TTL = 1_500


def spec(name: str, parent: str | None) -> BudgetSpec:
    window, limit = WINDOWS[name]
    limits: Any = {
        "input_tokens": LimitSpec(limit=limit, window_ms=window, paced=False),
        "concurrent": LimitSpec(limit=CALLS, window_ms=0),
    }
    if name == "org":
        limits["output_tokens"] = LimitSpec(limit=OUTPUT, window_ms=window, charge="production", paced=False)
    return BudgetSpec(
        name=name, parent=parent, limits=limits, jitter_ms=J, send_within_ms=J, max_ttl_ms=TTL, lease_ms=400
    )


class Call(NamedTuple):
    """A call at the provider: its permit, when it was taken, and what was charged on arrival; output is charged when it
    ends. ``dead``: when it ends if its process has died."""

    permit: LocalPermit
    taken: int
    charge: list[int]
    dead: int = 0


class World:
    """One desk, some holders, and the provider's view. Times in ms."""

    def __init__(self) -> None:
        self.desk = Desk(spec("org", None), spec("b", "org"))
        self.holders = [Holder(self.desk, f"agent-{n}", skew=skew, ttl_ms=TTL) for n, skew in enumerate((0, 900, -900))]
        self.in_charges: list[list[int]] = []
        self.out_charges: list[list[int]] = []
        self.flying: list[Call] = []
        self.late: list[tuple[Holder, int, Any]] = []
        self.orphans: list[Call] = []

    # -- what may happen

    def ask(self, who: int, tokens: int, slots: int) -> None:
        holder = self.holders[who]
        if not holder.key:
            holder.ask(hand(input_tokens=tokens, output_tokens=tokens // 2, concurrent=slots))

    def call(self, who: int, tokens: int, output: int, delay: int) -> None:
        """Take a permit; the provider charges within J of it."""
        lease = self.holders[who].lease
        permit = lease.take(tokens, output, 0, 1)
        if permit is None:
            return
        charge = [self.desk.now + min(delay, J - 1), tokens]
        self.flying.append(Call(permit, self.desk.now, charge))
        self.in_charges.append(charge)

    def finish(self, which: int, part: int) -> None:
        """A call ends, with so many percent of its output (more than 100 never; input as reserved or less)."""
        if not self.flying:
            return
        call = self.flying.pop(which % len(self.flying))
        output = call.permit.output_tokens * part // 100
        if self.desk.now - call.taken < TTL:
            self.out_charges.append([self.desk.now, output])
        call.permit.end(output_tokens=output)

    def refuse(self, which: int) -> None:
        """A call was never sent: nothing is charged."""
        if not self.flying:
            return
        call = self.flying.pop(which % len(self.flying))
        if call.charge[0] > self.desk.now:
            call.charge[1] = 0
            call.permit.cancel_now()
        else:
            call.permit.end(output_tokens=0)

    def renew(self, who: int, tokens: int, slots: int, fate: str) -> None:
        """Report and renew; the answer comes at once, late, or the message never arrives."""
        holder = self.holders[who]
        if not holder.key or any(entry[0] is holder for entry in self.late):
            return
        holder.lapse()
        sent, told = holder.report()
        if fate == "lost":
            self.forget(holder)
            return
        outcome = self.desk.ask(holder.renewal(told, hand(0, tokens, tokens // 2, slots)), holder.principal)
        if not isinstance(outcome, Accept):
            self.forget(holder)
        elif fate == "late":
            self.late.append((holder, sent, outcome.reply))
        else:
            holder.hear(sent, outcome.reply)

    def arrive(self, which: int) -> None:
        if self.late:
            holder, sent, reply = self.late.pop(which % len(self.late))
            holder.lapse()
            holder.hear(sent, reply)

    def give_back(self, who: int) -> None:
        holder = self.holders[who]
        if holder.key and not any(entry[0] is holder for entry in self.late):
            holder.lapse()
            holder.give_back()
            holder.lease.until = 0
            self.forget(holder)

    def forget(self, holder: Holder) -> None:
        """The process dies: what it had and what was on its way is never heard of again; calls go on."""
        at = self.holders.index(holder)
        self.late = [entry for entry in self.late if entry[0] is not holder]
        self.holders[at] = Holder(self.desk, holder.principal, skew=holder.skew, ttl_ms=TTL)
        for call in [call for call in self.flying if call.permit.lease is holder.lease]:
            self.flying.remove(call)
            ends = min(call.taken + TTL - 1, self.desk.now + 300)
            if ends >= self.desk.now:
                self.out_charges.append([ends, call.permit.output_tokens])
                self.orphans.append(call._replace(dead=ends))

    def direct(self, tokens: int) -> None:
        """A reservation of somebody without a lease, charged at once."""
        outcome = self.desk.reserve(input_tokens=tokens, ttl_ms=500)
        if isinstance(outcome, Accept):
            self.in_charges.append([self.desk.now + J - 1, tokens])

    def restart(self) -> None:
        self.desk.state = self.desk.decider.load(self.desk.dump())

    # -- what must hold

    def judge(self) -> None:
        for name, (window, limit) in WINDOWS.items():
            assert most(self.in_charges, window) <= limit, f"{name}: over its limit in some window"
        assert most(self.out_charges, WINDOWS["org"][0]) <= OUTPUT, "org: over its limit of output in some window"
        alive = [call for call in self.flying if self.desk.now - call.taken < TTL]
        alive += [call for call in self.orphans if self.desk.now < call.dead]
        assert len(alive) <= CALLS, "too many calls in flight"


def most(charges: list[list[int]], window: int) -> int:
    """The most in any window [t, t + window), wherever it starts."""
    best = held = first = 0
    ordered = sorted(charges)
    for at, amount in ordered:
        held += amount
        while ordered[first][0] <= at - window:
            held -= ordered[first][1]
            first += 1
        best = max(best, held)
    return best


WHO = st.integers(0, 2)
TOKENS = st.integers(1, 400)


class LeaseMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(who=WHO, tokens=TOKENS, slots=st.integers(0, CALLS))
    def ask(self, who: int, tokens: int, slots: int) -> None:
        self.world.ask(who, tokens, slots)

    @rule(who=WHO, tokens=TOKENS, output=st.integers(0, 60), delay=st.integers(0, J))
    def call(self, who: int, tokens: int, output: int, delay: int) -> None:
        self.world.call(who, tokens, output, delay)

    @rule(which=st.integers(0, 9), part=st.integers(0, 100))
    def finish(self, which: int, part: int) -> None:
        self.world.finish(which, part)

    @rule(which=st.integers(0, 9))
    def refuse(self, which: int) -> None:
        self.world.refuse(which)

    @rule(who=WHO, tokens=TOKENS, slots=st.integers(0, CALLS), fate=st.sampled_from(["well", "well", "late", "lost"]))
    def renew(self, who: int, tokens: int, slots: int, fate: str) -> None:
        self.world.renew(who, tokens, slots, fate)

    @rule(which=st.integers(0, 9))
    def arrive(self, which: int) -> None:
        self.world.arrive(which)

    @rule(who=WHO)
    def give_back(self, who: int) -> None:
        self.world.give_back(who)

    @rule(who=WHO)
    def die(self, who: int) -> None:
        self.world.forget(self.world.holders[who])

    @rule(tokens=TOKENS)
    def direct(self, tokens: int) -> None:
        self.world.direct(tokens)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule(ms=st.sampled_from([1, 30, 150, 200, 390, 410, 700, 2_000]))
    def pass_time(self, ms: int) -> None:
        self.world.desk.advance(self.world.desk.now + ms)

    @invariant()
    def no_limit_is_exceeded_and_the_parts_agree(self) -> None:
        self.world.judge()
        self.world.desk.check()


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestLeaseMachine = pytest.mark.property(TestLeaseMachine)


def live(seed: int, steps: int = 900) -> World:
    """A random life of a fleet that asks for as much as it can get."""
    rng, world = random.Random(seed), World()
    for _ in range(steps):
        who, tokens = rng.randrange(3), rng.randrange(1, 400)
        kind = rng.choices(
            ["ask", "call", "finish", "refuse", "renew", "arrive", "back", "die", "direct", "restart", "time"],
            [4, 30, 18, 1, 8, 2, 0.2, 0.2, 0.5, 0.2, 9],
        )[0]
        if kind == "ask":
            world.ask(who, 400, rng.randrange(1, CALLS + 1))
        elif kind == "call":
            world.call(who, tokens // rng.choice([2, 4, 10]), rng.randrange(0, 60), rng.randrange(J))
        elif kind == "finish":
            world.finish(rng.randrange(9), rng.choice([0, 30, 100]))
        elif kind == "refuse":
            world.refuse(rng.randrange(9))
        elif kind == "renew":
            world.renew(who, 400, rng.randrange(CALLS), rng.choices(["well", "late", "lost"], [8, 1, 0.3])[0])
        elif kind == "arrive":
            world.arrive(rng.randrange(9))
        elif kind == "back":
            world.give_back(who)
        elif kind == "die":
            world.forget(world.holders[who])
        elif kind == "direct":
            world.direct(tokens)
        elif kind == "restart":
            world.restart()
        else:
            world.desk.advance(world.desk.now + rng.choice([1, 5, 20, 40, 60, 150, 420]))
        world.judge()
    return world


@pytest.mark.parametrize("seed", range(4))
def test_no_limit_is_exceeded_in_a_long_life(seed: int) -> None:
    """Random, greedy, with losses and deaths; and the limit is used, or the test would show nothing."""
    world = live(seed)
    world.desk.check()
    assert most(world.in_charges, WINDOWS["b"][0]) > 250


def is_caught(bug: str, seeds: int = 12) -> bool:
    """Whether the judge, or the check of the state, notices a mistake within so many lives."""
    with kernel_bugs.switched_on(bug):
        for seed in range(seeds):
            try:
                live(seed).desk.check()
            except AssertionError:
                return True
    return False


@pytest.mark.parametrize(
    "bug",
    [
        bugs.UNRETURNED_REFUNDED,
        bugs.PARENT_SHRUNK,
        bugs.LEASE_NOT_DUMPED,
        bugs.ONE_LEVEL_ONLY,
    ],
)
def test_a_mistake_in_the_rules_of_leases_is_caught(bug: str) -> None:
    """Each safety rule, switched off, is noticed."""
    assert is_caught(bug)


@pytest.mark.parametrize(
    ("bug", "check"),
    [
        (bugs.REGRANTED_EARLY, test_leasing.test_what_is_not_returned_counts_as_spent),
        (bugs.REFUND_IN_OTHER_WINDOW, test_leasing.test_a_refund_leaves_the_window_in_which_it_was_charged),
        (
            bugs.OPEN_CALLS_FORGOTTEN,
            test_leasing.test_calls_in_flight_outlive_the_lease_until_they_are_told_to_have_ended,
        ),
        (bugs.OVERAGE_FORGIVEN, test_leasing.test_usage_beyond_the_advance_is_charged_and_owed),
        (bugs.UNRETURNED_REFUNDED, test_leasing.test_what_is_not_returned_counts_as_spent),
        (bugs.SLICE_REGRANTED, test_islands.test_there_are_no_more_slices_than_the_budget_has),
    ],
)
def test_a_mistake_is_caught_by_the_test_of_its_rule(bug: str, check: Callable[[], None]) -> None:
    """The test that states a rule fails without it."""
    with kernel_bugs.switched_on(bug), pytest.raises(AssertionError):
        check()


def test_every_mistake_has_a_test_that_catches_it() -> None:
    """None is declared for show."""
    text = Path(__file__).read_text()
    assert [name for name, value in vars(bugs).items() if value in bugs.NAMES and f"bugs.{name}" not in text] == []


def test_a_holder_that_forgets_its_deadline_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other half of the rule lies with the holder."""

    def forgetful(lease: HeldLease, *amounts: int, **named: int) -> LocalPermit | None:
        until, lease.until = lease.until, 1 << 62
        try:
            return take(lease, *amounts, **named)
        finally:
            lease.until = until

    take = HeldLease.take
    monkeypatch.setattr(HeldLease, "take", forgetful)
    with pytest.raises(AssertionError):
        test_leasing.test_a_lease_is_not_granted_again_before_its_end_and_the_drift()
