"""What is remembered of reporters is bounded; every event can be told in words; odd trees are served, too."""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import BudgetSpec, ChildSpec, LimitSpec
from bursar.contracts.limiter_observed import Headroom, RateLimited, Seen
from bursar.kernel.decider import Accept, Command
from bursar_limiter import adapting_events as events
from bursar_limiter.adapting_voices import MOST, Voices
from bursar_limiter.freezing import MOST_REPORTERS
from tests.limiter.fleet import Desk


def test_every_event_is_told_in_words() -> None:
    """For an operator who reads the journal."""
    desk = Desk()
    told: list[tuple[Any, ...]] = [
        (events.FROZEN, 5, "p", "agent-1", 905, 900, 0, [0, 2]),
        (events.THAWED, 6, "p", "ops", ""),
        (events.THAWED, 6, "p", "ops", "a mistake"),
        (events.LEARNED, 7, "p", 0, 60_000, 500),
        (events.FOREIGN, 8, "p", 1, 60_000, 1_200),
        (events.TUNED, 9, "p", 0, 60_000, 700),
    ]
    words = [desk.decider.describe(event) for event in told]
    assert words[0] == "5 ms: agent-1 met a 429: requests, output_tokens of p frozen until 905 ms"
    assert "no reason given" in words[1]
    assert "a mistake" in words[2]
    assert "500 requests" in words[3]
    assert "1200 input_tokens" in words[4]
    assert "700 thousandths" in words[5]


def test_the_last_reporters_of_a_figure_are_remembered_and_no_more() -> None:
    """Whoever spoke longest ago is forgotten first."""
    voices = Voices()
    for number in range(3 * MOST):
        voices.say(f"a{number}", number, number)
    assert voices.median(3 * MOST, 10**6) == 2 * MOST + (MOST - 1) // 2
    assert voices.median(10**9, 10) is None
    assert voices.steady(3 * MOST, 10**6) is None, "nobody has spoken twice"


def test_allowances_are_bounded_and_forgotten_when_full_again() -> None:
    """However many agents meet a 429."""
    desk = Desk(BudgetSpec(name="p", limits={"requests": LimitSpec(limit=10, window_ms=1_000)}))
    for number in range(MOST_REPORTERS + 20):
        body = RateLimited(id=desk.new_id(), budget="p", retry_after_ms=1_000 + 300 * number % 90_000)
        desk.ask(body, f"agent-{number}")
        desk.advance(desk.now + 97)
    assert len(desk.state.adapting.budgets["p"].allowances) <= MOST_REPORTERS
    desk.advance(desk.now + 600_000)
    outcome = desk.ask(RateLimited(id=desk.new_id(), budget="p", retry_after_ms=500), "last")
    assert isinstance(outcome, Accept)
    assert list(desk.state.adapting.budgets["p"].allowances) == ["last"]
    desk.check()


def test_a_budget_without_rates_is_frozen_as_a_whole() -> None:
    """Here only calls in flight are limited; there is no pace to cut."""
    desk = Desk(BudgetSpec(name="p", limits={"concurrent": LimitSpec(limit=3, window_ms=0)}))
    desk.must(RateLimited(id=desk.new_id(), budget="p", dimensions=("requests",), retry_after_ms=800))
    assert desk.refused("p", concurrent=1)["retry_at_ms"] == 800
    desk.advance(800)
    desk.granted("p", concurrent=1)
    desk.check()


def test_what_an_agents_own_budget_meets_is_the_business_of_the_declared_one() -> None:
    """Budgets of agents come and go; the journal never speaks of them here, so that it can always be replayed."""
    each = ChildSpec(limits={"requests": LimitSpec(limit=10, window_ms=1_000)})
    desk = Desk(BudgetSpec(name="p", limits={"concurrent": LimitSpec(limit=9, window_ms=0)}, each_agent=each))
    desk.granted("p", requests=1)
    assert "p/agent" in desk.state.budgets
    noted = desk.must(RateLimited(id=desk.new_id(), budget="p/agent", dimensions=("requests",), retry_after_ms=800))
    assert noted["budget"] == "p"
    row = Headroom(dimension="requests", limit=5, remaining=0)
    desk._decide(Command("agent", "", Seen(budget="p/agent", window_ms=1_000, age_ms=0, limits=(row,))))
    desk.advance(20_000)
    desk.granted("p", requests=1)
    desk.check()
