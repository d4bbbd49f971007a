"""A 429 stops the fleet: at once, for as long as the provider asks, and never for longer than the bound."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_observed import Adapting, Frozen, Rate, RateLimited, Thaw, freeze_subject
from bursar.kernel.decider import Accept, Broadcast, Outcome, Refuse
from bursar_limiter.freezing import LEAST_MS, tell
from tests.limiter.fleet import Desk

MINUTE = 60_000


def limits(**given: int) -> dict[Any, Any]:
    return {name: LimitSpec(limit=limit, window_ms=MINUTE, paced=False) for name, limit in given.items()}


PROVIDER = BudgetSpec(name="p", limits=limits(requests=1_000, input_tokens=100_000, output_tokens=50_000))
TEAM = BudgetSpec(name="team", parent="p", limits=limits(requests=500))
AGENT = BudgetSpec(name="team/a", parent="team", limits=limits(requests=100))


def limited(desk: Desk, budget: str, *dimensions: Rate, after: int | None = None, who: str = "agent") -> Outcome:
    return desk.ask(RateLimited(id=desk.new_id(), budget=budget, dimensions=dimensions, retry_after_ms=after), who)


def broadcast(outcome: Outcome) -> Frozen:
    assert isinstance(outcome, Accept), outcome
    (told,) = outcome.broadcasts
    assert isinstance(told, Broadcast)
    assert f"bursar.evt.limiter.{told.kind}.{told.name}" == freeze_subject(told.body["budget"])
    return Frozen(**told.body, fence="1.1.1.0123456789abcdef")


def test_one_report_stops_everything_below_the_providers_object() -> None:
    """Whichever budget the call was made under; what is beside it goes on."""
    desk = Desk(PROVIDER, TEAM, AGENT, BudgetSpec(name="other", limits=limits(requests=10)), now=1_000)
    told = broadcast(limited(desk, "team/a", "requests", after=2_000))
    assert (told.budget, told.dimensions, told.remaining_ms, told.reporter) == ("p", ["requests"], 2_000, "agent")
    assert told.below == ["team", "team/a"], "whose names do not say that they are below"
    for budget in ("p", "team", "team/a"):
        refused = desk.refused(budget, requests=1)
        assert (refused["retry_at_ms"], refused["object"]) == (3_000, "p")
        assert "The provider refuses" in refused["text"]
    desk.granted("other", requests=1)
    desk.advance(3_000)
    desk.granted("team/a", requests=1)
    desk.check()


def test_only_the_named_dimension_is_frozen() -> None:
    """A call without output goes on; one that names nothing stops all."""
    desk = Desk(PROVIDER)
    limited(desk, "p", "output_tokens", after=5_000)
    desk.granted("p", requests=1, input_tokens=10)
    assert desk.refused("p", requests=1, output_tokens=10)["retry_at_ms"] == 5_000
    desk.advance(5_000)
    assert broadcast(limited(desk, "p", after=100)).dimensions == []
    assert desk.refused("p", requests=1)["retry_at_ms"] == 5_100


def test_a_limit_on_all_tokens_stands_for_its_parts_and_the_reverse() -> None:
    """Providers name dimensions that a budget may count otherwise."""
    desk = Desk(PROVIDER, BudgetSpec(name="t", limits=limits(total_tokens=1_000)))
    assert broadcast(limited(desk, "p", "total_tokens", after=500)).dimensions == ["input_tokens", "output_tokens"]
    assert broadcast(limited(desk, "t", "input_tokens", after=500)).dimensions == ["total_tokens"]
    desk = Desk(BudgetSpec(name="r", limits=limits(requests=10)))
    assert broadcast(limited(desk, "r", "input_tokens", after=500)).dimensions == ["requests"]


def test_the_later_end_wins() -> None:
    """An earlier one changes nothing, and tells until when it is frozen."""
    desk = Desk(PROVIDER)
    limited(desk, "p", "requests", after=9_000)
    outcome = limited(desk, "p", "requests", after=1_000, who="other")
    assert isinstance(outcome, Refuse)
    assert (outcome.reply["applied"], outcome.reply["remaining_ms"]) == (False, 9_000)
    assert broadcast(limited(desk, "p", "requests", after=10_000, who="other")).remaining_ms == 10_000
    desk.check()


def test_an_earlier_report_of_more_does_not_shorten_what_is_frozen() -> None:
    """One that names everything freezes what was free, until its own end; what was frozen for longer stays so."""
    desk = Desk(PROVIDER)
    limited(desk, "p", "requests", after=9_000)
    assert broadcast(limited(desk, "p", after=2_000, who="other")).remaining_ms == 2_000
    assert desk.refused("p", requests=1)["retry_at_ms"] == 9_000
    assert desk.refused("p", input_tokens=1)["retry_at_ms"] == 2_000


@pytest.mark.parametrize("asked", [120_001, 86_400_000])
def test_no_freeze_is_longer_than_the_bound(asked: int) -> None:
    """Whatever was said; the bound is the budget's."""
    desk = Desk(PROVIDER, BudgetSpec(name="q", limits=limits(requests=1), adapt=Adapting(max_freeze_ms=3_000)))
    assert broadcast(limited(desk, "p", after=asked)).remaining_ms == 120_000
    assert broadcast(limited(desk, "q", after=asked)).remaining_ms == 3_000


def test_one_principal_alone_freezes_for_half_of_the_time_at_most() -> None:
    """It pays from an allowance that fills up half as fast as time passes; somebody else has one of his own."""
    desk = Desk(BudgetSpec(name="p", limits=limits(requests=1_000), adapt=Adapting(max_freeze_ms=10_000)))
    frozen, end = 0, 400_000
    while desk.now < end:
        until = desk.now
        outcome = limited(desk, "p", after=86_400_000, who="liar")
        if isinstance(outcome, Accept):
            until = outcome.reply["until_ms"]
        frozen += until - desk.now
        desk.advance(max(until, desk.now + 50))
    assert frozen <= 10_000 + end // 2 + 10_000
    assert frozen > end // 3
    desk.advance(desk.now + 100)
    assert broadcast(limited(desk, "p", after=5_000, who="honest")).remaining_ms == 5_000
    desk.check()


def test_reports_cost_their_reporter_something_however_little_they_move() -> None:
    """So that nobody makes the limiter broadcast without end."""
    desk = Desk(PROVIDER)
    told = sum(isinstance(limited(desk, "p", after=1_000 + number), Accept) for number in range(2_000))
    assert told <= 120_000 // LEAST_MS


def test_without_a_time_it_is_a_second_then_twice_as_long() -> None:
    """Until there was a minute of calm."""
    desk = Desk(PROVIDER, now=5)
    spans: list[int] = []
    for _ in range(8):
        spans.append(broadcast(limited(desk, "p", who=f"a{len(spans)}")).remaining_ms)
        desk.advance(desk.now + spans[-1])
    assert spans == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    desk.advance(desk.now + 60_000)
    assert broadcast(limited(desk, "p")).remaining_ms == 1_000


def test_a_provider_that_says_at_once_has_refused_all_the_same() -> None:
    """A moment's pause, and the pace is cut."""
    desk = Desk(BudgetSpec(name="p", limits={"requests": LimitSpec(limit=1_000, window_ms=MINUTE)}))
    assert broadcast(limited(desk, "p", after=0)).remaining_ms == LEAST_MS
    assert desk.status("p").budgets[0].dimensions["requests"].pace_permille < 800


def test_an_operator_ends_a_freeze() -> None:
    """And who waits is let in at once."""
    desk = Desk(PROVIDER, TEAM)
    limited(desk, "team", after=60_000)
    parked = desk.reserve("team", wait_ms=90_000, requests=1)
    outcome = desk.ask(Thaw(id=desk.new_id(), budget="p", note="it was our own gateway"), "ops")
    assert broadcast(outcome).remaining_ms == 0
    desk.advance(desk.now + 1)
    assert parked is not None
    assert len(desk.state.live) == 1
    again = desk.ask(Thaw(id=desk.new_id(), budget="p"), "ops")
    assert isinstance(again, Refuse)
    assert again.reply["dimensions"] == []
    desk.check()


def test_a_freeze_that_holds_is_told_again_until_it_is_over() -> None:
    """For who has missed the broadcast; it says what is left, and changes nothing."""
    desk = Desk(PROVIDER, TEAM, BudgetSpec(name="q", limits=limits(requests=1)), now=10)
    assert tell(desk.state, desk.now) is None
    limited(desk, "team", "requests", after=7_000)
    limited(desk, "q", after=3_000)
    before, told = desk.dump(), []
    for _ in range(3):
        desk.now += 2_000
        again = tell(desk.state, desk.now)
        assert again is not None
        frozen = Frozen(**again.body, fence="1.1.1.0123456789abcdef")
        told.append((frozen.budget, frozen.dimensions, frozen.remaining_ms))
    assert told == [("q", [], 1_000), ("p", ["requests"], 3_000), ("p", ["requests"], 1_000)]
    assert desk.dump() == before
    assert tell(desk.state, 7_010) is None


def test_who_waits_in_line_is_let_in_when_it_lifts() -> None:
    """Nothing has to be sent for it."""
    desk = Desk(PROVIDER)
    limited(desk, "p", after=3_000)
    desk.reserve("p", wait_ms=10_000, requests=1)
    desk.advance(2_999)
    assert not desk.state.live
    desk.advance(3_000)
    assert len(desk.state.live) == 1


def test_a_restart_keeps_the_freeze_the_allowance_and_the_cut() -> None:
    """All of it is durable."""
    desk = Desk(BudgetSpec(name="p", limits={"requests": LimitSpec(limit=1_000, window_ms=MINUTE)}))
    limited(desk, "p", after=8_000)
    copy = desk.copy(desk.now)
    assert 8_000 <= copy.refused("p", requests=1)["retry_at_ms"] < 8_200
    meter, had = copy.state.budgets["p"].meters[0], desk.state.budgets["p"].meters[0]
    assert meter.tuned == had.tuned < 1_000
    assert copy.state.adapting.dump() == desk.state.adapting.dump()
    desk.check()


@pytest.mark.parametrize("verb", [RateLimited, Thaw])
def test_an_unknown_budget_is_refused(verb: Any) -> None:
    """With its code, and nothing is changed."""
    desk = Desk(PROVIDER)
    before = desk.dump()
    assert desk.rejected(desk.ask(verb(id=desk.new_id(), budget="nowhere"), "ops")) == "unknown_budget"
    assert desk.dump() == before


def test_a_budget_that_is_removed_forgets_its_freezes() -> None:
    """And nothing of it stays in the state."""
    desk = Desk(PROVIDER)
    limited(desk, "p", after=8_000)
    desk.reload(TEAM.model_copy(update={"parent": None}))
    assert not desk.state.adapting.budgets
    desk.check()


def test_a_linked_object_may_stand_for_the_provider() -> None:
    """Where nothing on the way up limits what was named."""
    key = BudgetSpec(name="key", limits=limits(requests=1_000))
    agent = BudgetSpec(name="agents", also=("key",), limits={"concurrent": LimitSpec(limit=5, window_ms=0)})
    desk = Desk(key, agent)
    told = broadcast(limited(desk, "agents", "requests", after=700))
    assert (told.budget, told.below) == ("key", ["agents"])
    assert desk.refused("agents", requests=1)["retry_at_ms"] == 700
