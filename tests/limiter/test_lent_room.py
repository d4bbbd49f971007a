"""Refusals and lines while leases and slices hold the room: what is told is as exact as without them."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Reserve
from bursar.contracts.limiter_control import Adjust, Simulate
from bursar.contracts.limiter_lease import Island, Lease
from bursar.kernel.decider import Accept, Park, Refuse
from tests.limiter.fleet import Desk

RATE = LimitSpec(limit=100, window_ms=1_000, paced=False)
CASES: dict[str, Any] = {
    "rate": ({"requests": RATE}, {"requests": 10}),
    "paced": ({"requests": RATE.model_copy(update={"paced": True})}, {"requests": 100}),
    "two windows": ({"requests": (RATE, LimitSpec(limit=150, window_ms=4_000))}, {"requests": 99}),
    "in flight": ({"concurrent": LimitSpec(limit=8, window_ms=0)}, {"concurrent": 1}),
    "produced": ({"output_tokens": RATE.model_copy(update={"charge": "production"})}, {"output_tokens": 10}),
}


def desk_of(limits: dict[Any, Any], **more: Any) -> Desk:
    return Desk(BudgetSpec(name="b", limits=limits, jitter_ms=100, max_ttl_ms=3_000, **more), now=1_000)


def lend(desk: Desk, budget: str = "b") -> None:
    want = (95, 0, 95, 8, 0, 0, 0)
    desk.must(Lease(id=desk.new_id(), budget=budget, want=want, demand=want), "holder")


def is_exact(desk: Desk, **amounts: Any) -> dict[str, Any]:
    """The refusal; at its time the same is granted, and not a millisecond before."""
    told = desk.refused(**amounts)
    at = told["retry_at_ms"]
    assert (told["object"], told["dimension"]) == ("b", next(iter(amounts)))
    assert at is not None
    assert isinstance(desk.copy(at - 1).reserve(**amounts), Refuse), "refused for too long"
    assert isinstance(desk.copy(at).reserve(**amounts), Accept), "not granted when it should be"
    return told


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_behind_a_lease_is_exact(case: str) -> None:
    """It names the limit, and the time at which the lease and what it may have spent are over; `simulate` agrees."""
    limits, amounts = CASES[case]
    desk = desk_of(limits)
    lend(desk)
    told = is_exact(desk, **amounts)
    asked = Amounts.model_validate({"requests": 0, "concurrent": 0, **amounts})
    simulated = desk.ask(Simulate(budget="b", amounts=asked))
    assert isinstance(simulated, Refuse)
    assert (simulated.reply["fits"], simulated.reply["retry_at_ms"]) == (0, told["retry_at_ms"])


def test_it_is_exact_after_a_restart_and_under_other_limits() -> None:
    """Who holds what is known from the journal, and after every change of the rules."""
    desk = desk_of({"requests": RATE})
    lend(desk)
    restarted = desk.copy(desk.now)
    is_exact(restarted, requests=10)
    more: Any = {"requests": RATE.model_copy(update={"limit": 99})}
    desk.must(Adjust(id=desk.new_id(), budget="b", limits=more), "ops")
    is_exact(desk, requests=10)


def test_a_slice_that_is_not_kept_is_waited_for() -> None:
    """A request of the whole limit fits when the slice is over."""
    desk = desk_of({"requests": RATE}, when_unreachable="island")
    desk.must(Island(id=desk.new_id(), budget="b"), "holder")
    told = desk.refused(requests=100)
    assert (told["object"], told["dimension"]) == ("b", "requests")
    assert isinstance(desk.copy(told["retry_at_ms"]).reserve(requests=100), Accept)


def test_who_waits_behind_a_lease_is_looked_at_when_something_changes() -> None:
    """And not every millisecond: there is nothing to see."""
    desk = desk_of({"requests": RATE})
    lend(desk)
    assert isinstance(desk.reserve(requests=10, wait_ms=2_500), Park)
    before = desk.number
    desk.advance(desk.now + 500)
    assert desk.number - before < 10
    desk.advance(5_000)
    (answer,) = desk.answers.values()
    assert isinstance(answer, Accept)


def test_a_lease_of_an_agents_own_budget_is_seen_above_it() -> None:
    """Every object of the path knows who holds something of it."""
    team = BudgetSpec(name="b", limits={"requests": RATE}, each_agent=ChildSpec(limits={}), jitter_ms=100)
    desk = Desk(team, now=1_000)
    lend(desk)
    is_exact(desk, requests=10)


def test_what_if_the_limit_were_another_counts_what_is_lent() -> None:
    """What others hold is theirs under any rules."""
    desk = desk_of({"requests": RATE})
    lend(desk)
    other = desk.state.budgets["b"].spec.model_copy(
        update={"limits": {"requests": RATE.model_copy(update={"limit": 120})}}
    )
    simulated = desk.ask(Simulate(budget="b", amounts=Amounts(concurrent=0), count=200, changed=(other,)))
    assert isinstance(simulated, Refuse)
    assert simulated.reply["fits"] == 25


def test_a_line_behind_leases_goes_on_when_they_are_over() -> None:
    """Nobody who fits the limit waits for ever."""
    desk = desk_of({"concurrent": LimitSpec(limit=8, window_ms=0)})
    lend(desk)
    body = Reserve(id="w", budget="b", amounts=Amounts(requests=0), wait_ms=60_000)
    assert isinstance(desk.ask(body), Park)
    desk.advance(10_000)
    assert isinstance(desk.answers["agent", "w"], Accept)
