"""After a loss of acknowledged entries."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bursar.contracts.limiter import DIMENSIONS, Amounts, BudgetSpec, LimitSpec, Redeclare, Redeclared, Refused
from bursar.kernel.decider import Accept, Outcome, Park, Refuse
from tests.limiter.fleet import Desk
from tests.limiter.truth import Call, Truth, only

MAC = "0123456789abcdef"
FENCE = f"1.1.1.{MAC}"
SPEC = BudgetSpec(
    name="b",
    limits={
        "input_tokens": LimitSpec(limit=1000, window_ms=1000, paced=False),
        "concurrent": LimitSpec(limit=2, window_ms=0),
    },
    jitter_ms=100,
    lease_ms=0,
    max_ttl_ms=5000,
)
WINDOWED = SPEC.model_copy(update={"limits": {"input_tokens": SPEC.limits["input_tokens"]}})


def lose(desk: Desk, entries: int) -> None:
    """The journal comes back without its last entries, and the service starts a new incarnation."""
    kept = desk.journal[: len(desk.journal) - entries]
    desk.state, desk.journal = desk.decider.initial(), []
    for event in kept:
        desk.decider.evolve(desk.state, event)
    desk.incarnation += 1
    for event in desk.decider.recover(desk.state, desk.now):
        desk.decider.evolve(desk.state, event)
        kept.append(event)
    desk.journal = kept


def redeclare(desk: Desk, reservation: str, principal: str = "agent", budget: str = "b", **amounts: int) -> Outcome:
    given = Amounts.model_validate({"requests": 0, "concurrent": 0, **amounts})
    body = Redeclare(
        id=desk.new_id(), budget=budget, reservation=reservation, fence=f"{reservation}.{MAC}", amounts=given,
        granted_at_ms=0, ttl_ms=4000,
    )  # fmt: skip
    return desk.ask(body, principal)


def adopted(outcome: Outcome) -> bool:
    assert isinstance(outcome, Accept | Refuse), outcome
    return Redeclared(**outcome.reply, fence=FENCE).adopted


def test_windows_are_full_until_what_was_lost_has_left() -> None:
    """One window and J after the loss, and a grain; then the whole limit is free."""
    desk = Desk(WINDOWED)
    desk.granted(input_tokens=1000)
    lose(desk, 1)
    refused = Refused(**desk.refused(input_tokens=1), fence=FENCE)
    assert refused.reason == "recovering"
    assert refused.retry_at_ms is not None
    assert 1100 < refused.retry_at_ms <= 1104
    assert "recovering" in refused.text
    desk.advance(refused.retry_at_ms)
    desk.granted(input_tokens=1000)
    desk.check()


def test_unknown_calls_are_feared_for_the_longest_time_to_live() -> None:
    """A budget that limits calls in flight grants nothing until the last unknown call must be over."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2, ttl_ms=60_000)
    lose(desk, 1)
    assert desk.refused(concurrent=1)["retry_at_ms"] == 5000
    desk.advance(4999)
    desk.refused(concurrent=1)
    desk.advance(5000)
    desk.granted(concurrent=2)


def test_unknown_output_is_feared_for_a_window_more() -> None:
    """What an unknown call produces in its last moment leaves one window and J later."""
    limits = {"output_tokens": LimitSpec(limit=100, window_ms=1000, charge="production", paced=False)}
    desk = Desk(SPEC.model_copy(update={"limits": limits}))
    lose(desk, 0)
    assert 6100 < desk.refused(output_tokens=1)["retry_at_ms"] <= 6104


def test_the_rest_of_a_purse_counts_as_spent_until_the_limit_is_raised() -> None:
    """Money spent once comes back by no waiting; an operator who has seen the bill raises the limit."""
    purse = BudgetSpec(name="b", limits={"usd_micros": LimitSpec(limit=500, window_ms=0)})
    desk = Desk(purse)
    lose(desk, 0)
    desk.advance(10_000_000)
    assert desk.refused(usd_micros=1)["retry_at_ms"] is None
    desk.reload(purse.model_copy(update={"limits": {"usd_micros": LimitSpec(limit=700, window_ms=0)}}))
    desk.granted(usd_micros=200)
    desk.check()


def test_status_tells_of_the_recovery() -> None:
    """Operators see it, and that the limits count as used."""
    desk = Desk(WINDOWED)
    lose(desk, 0)
    status = desk.status()
    assert status.recovering
    assert status.budgets[0].dimensions["input_tokens"].used == 1000
    desk.advance(2000)
    assert not desk.status().recovering


def test_known_reservations_stay_and_end_as_usual() -> None:
    """What the journal still tells is kept: settled or timed out."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=300, concurrent=1)
    desk.granted(input_tokens=300)
    lose(desk, 1)
    assert isinstance(desk.settle(call, input_tokens=10), Accept)
    desk.check()


def test_a_lost_reservation_is_adopted_and_settles() -> None:
    """Its holder states it; then its settlement finds it. It counts in flight, and is refunded from no window."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=300, concurrent=1)
    lose(desk, 1)
    assert desk.rejected(desk.settle(call)) == "unknown_reservation"
    assert adopted(redeclare(desk, call, input_tokens=300, concurrent=1))
    assert desk.state.live[call].expires_at == 4000
    assert not adopted(redeclare(desk, call, input_tokens=300, concurrent=1))
    desk.check()
    used = desk.state.budgets["b"].meters[0].counted(desk.now)
    assert isinstance(desk.settle(call, input_tokens=100), Accept)
    assert desk.state.budgets["b"].meters[0].counted(desk.now) == used
    assert not adopted(redeclare(desk, call))
    desk.check()


def test_an_adopted_reservation_times_out() -> None:
    """Nothing is kept for ever on a holder's word."""
    desk = Desk(SPEC)
    call = desk.granted(concurrent=1)
    lose(desk, 1)
    redeclare(desk, call, concurrent=1)
    desk.advance(4000)
    assert not desk.state.live
    desk.check()


def test_more_than_the_limits_allow_is_not_adopted() -> None:
    """All lost calls together obeyed the limits, so what is stated beyond them is not true."""
    desk = Desk(SPEC)
    lose(desk, 0)
    for number in (7, 8):
        assert adopted(redeclare(desk, f"1.1.{number}", concurrent=1))
    assert desk.rejected(redeclare(desk, "1.1.9", concurrent=1)) == "not_plausible"
    assert desk.rejected(redeclare(desk, "1.1.9", input_tokens=1001)) == "not_plausible"


def test_reservation_is_adopted_only_with_the_fence_that_came_with_it() -> None:
    """A genuine fence of another decision proves nothing about this one."""
    desk = Desk(SPEC)
    call = desk.granted(concurrent=1)
    lose(desk, 1)
    body = Redeclare(
        id="x-1", budget="b", reservation=call, fence=FENCE, amounts=Amounts(), granted_at_ms=0, ttl_ms=900
    )
    assert call != "1.1.1"
    assert desk.rejected(desk.ask(body)) == "bad_fence"
    assert not desk.state.live


def test_adopted_reservations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all others are, whatever the limits."""
    monkeypatch.setattr("bursar_limiter.recovery.MAX_LIVE", 1)
    desk = Desk(SPEC)
    lose(desk, 0)
    assert adopted(redeclare(desk, "1.1.7"))
    assert desk.rejected(redeclare(desk, "1.1.8")) == "not_plausible"


def test_only_lost_reservations_are_adopted() -> None:
    """One of this incarnation cannot be lost; after the recovery there is nothing to adopt any more."""
    desk = Desk(SPEC)
    lose(desk, 0)
    assert desk.rejected(redeclare(desk, "2.1.9")) == "unknown_reservation"
    assert desk.rejected(redeclare(desk, "1.1.9", budget="other")) == "unknown_budget"
    desk.advance(5000)
    assert not adopted(redeclare(desk, "1.1.9"))


def test_who_can_wait_for_the_end_of_the_recovery_may_stand_in_line() -> None:
    """The time is known, so a deadline beyond it is worth waiting for."""
    desk = Desk(WINDOWED)
    lose(desk, 0)
    assert desk.refused(input_tokens=1, wait_ms=1000)["reason"] == "recovering"
    assert isinstance(desk.reserve(input_tokens=1, wait_ms=2000), Park)
    desk.advance(2000)
    assert isinstance(next(iter(desk.answers.values())), Accept)


def test_what_is_declared_late_ends_with_the_recovery() -> None:
    """It was granted before the loss: an invented one would otherwise block the budget for as long again."""
    desk = Desk(SPEC)
    desk.granted(concurrent=1)
    lose(desk, 1)
    desk.now = 4_999
    assert adopted(redeclare(desk, "1.1.2", "evil", concurrent=2))
    desk.advance(5_000)

    assert isinstance(desk.reserve(concurrent=2), Accept)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_budget_that_was_lost_itself_recovers_when_it_is_offered_again(kept: int) -> None:
    """On a fresh disk, or from a copy older than the budget: what it granted may still count."""
    purse = LimitSpec(limit=50, window_ms=0)
    lost = WINDOWED.model_copy(update={"name": "lost", "limits": {**WINDOWED.limits, "usd_micros": purse}})
    desk = Desk(WINDOWED)
    desk.reload(WINDOWED, lost)
    desk.granted("lost", input_tokens=1000)
    lose(desk, len(desk.journal) - kept)
    desk.reload(WINDOWED, lost)

    refused = Refused(**desk.refused("lost", input_tokens=1), fence=FENCE)
    assert (refused.reason, refused.retry_at_ms) == ("recovering", desk.now + 1103)
    assert desk.refused("lost", usd_micros=1)["retry_at_ms"] is None
    desk.check()
    desk.advance(desk.now + 1103)
    desk.granted("lost", input_tokens=1000)


def test_rules_that_were_lost_govern_the_recovery_when_they_are_back() -> None:
    """A copy from before the time to live was raised: calls of that length are feared."""
    long = SPEC.model_copy(update={"max_ttl_ms": 60_000})
    desk = Desk(SPEC)
    desk.reload(long)
    desk.granted(concurrent=1, ttl_ms=60_000)
    lose(desk, 2)
    desk.reload(long)

    assert desk.refused(concurrent=1)["retry_at_ms"] == 60_000
    desk.check()


def test_a_budget_offered_long_after_a_loss_starts_empty() -> None:
    """When nothing that was lost can still count."""
    desk = Desk(SPEC)
    lose(desk, 0)
    desk.now = 5_001
    desk.reload(SPEC, WINDOWED.model_copy(update={"name": "new"}))
    desk.granted("new", input_tokens=1000)
    desk.check()


@pytest.mark.property
@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_over_after_a_loss(seed: int) -> None:
    """A fleet that never stops asking, a loss in the middle, holders that never stop calling: no limit is exceeded,
    counting also what was lost."""
    rng = random.Random(seed)
    kind: Any = rng.choice(["admission", "production"])
    limits: dict[Any, Any] = {"output_tokens": LimitSpec(limit=200, window_ms=700, charge=kind, paced=False)}
    if rng.random() < 0.5:
        limits["concurrent"] = LimitSpec(limit=4, window_ms=0)
    if rng.random() < 0.3:
        limits["usd_micros"] = LimitSpec(limit=900, window_ms=0)
    desk = Desk(BudgetSpec(name="b", limits=limits, jitter_ms=50, max_ttl_ms=900))
    truth = Truth()
    until = [rng.randrange(500, 1500)]
    while desk.now < 6000:
        desk.advance(desk.now + rng.randrange(1, 40))
        if until and desk.now > until[0]:
            until.pop()
            lose(desk, rng.randrange(0, min(40, len(desk.journal))))
        ask = {"output_tokens": rng.randrange(0, 80), "concurrent": 1, "usd_micros": rng.randrange(3)}
        outcome = desk.reserve("b", 0, rng.choice([300, 900, 5000]), **ask)
        if isinstance(outcome, Accept):
            spec = desk.state.budgets["b"].spec
            for name, limit in spec.limits.items():
                assert truth.counted(spec, name, desk.now) + ask[name] <= only(limit).limit, f"over the limit of {name}"
            wanted = {name: ask.get(name, 0) for name in map(str, DIMENSIONS)}
            truth.calls[outcome.reply["reservation"]] = Call("b", desk.now, outcome.reply["expires_at_ms"], wanted)
    assert any(call.granted_at > 3000 for call in truth.calls.values()) or "usd_micros" in limits
    desk.check()
