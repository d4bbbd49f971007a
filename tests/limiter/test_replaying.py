"""What an event does depends on durable state alone: who waits, and which budgets of agents are there although nothing
counts in them, is another matter on every replica. `Desk.check` compares the owner with two of them."""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Reserve, Settle, Usage
from bursar.contracts.limiter_control import Adjust
from bursar.contracts.limiter_lease import Lease
from bursar.contracts.limiter_observed import RateLimited
from bursar.kernel.decider import Accept, Park, Reject
from bursar_limiter import freezing, resting
from tests.limiter.fleet import Desk


def rate(limit: int, window_ms: int = 1_000, **more: Any) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=window_ms, paced=False, **more)


def calls(limit: int) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=0)


AGENT = ChildSpec(limits={"concurrent": calls(9)})
RUN = ChildSpec(limits={"concurrent": calls(9)})
BASICS: dict[str, Any] = {"jitter_ms": 0, "lease_ms": 0, "max_ttl_ms": 2_000}


def team(**more: Any) -> BudgetSpec:
    limits: Any = {"requests": rate(2), "concurrent": calls(90)}
    return BudgetSpec(**{"name": "team", "limits": limits, "each_agent": AGENT, "each_run": RUN, **BASICS, **more})


def reserve(desk: Desk, who: str, run: str | None = None, wait_ms: int = 0, **more: Any) -> Any:
    body = {"id": desk.new_id(), "budget": "team", "run": run, "wait_ms": wait_ms, "amounts": Amounts(), **more}
    return desk.ask(Reserve(**body), who)


def adjust(desk: Desk, who: str, **limits: LimitSpec) -> None:
    given: Any = limits
    desk.must(Adjust(id=desk.new_id(), budget="team", agent=who, limits=given), "ops")


def fill(desk: Desk) -> None:
    for _ in range(2):
        assert isinstance(reserve(desk, "zoe", ttl_ms=100), Accept)


def test_a_run_that_waits_does_not_keep_its_agents_budget() -> None:
    """An agent's own limits are taken back while one of its runs stands in line: the run goes on waiting."""
    desk = Desk(team())
    adjust(desk, "ann", concurrent=calls(5))
    fill(desk)
    assert isinstance(reserve(desk, "ann", "r1", wait_ms=1_900), Park)
    desk.reload(team())
    desk.check()
    assert desk.state.budgets["team/ann"].base is not None
    desk.advance(desk.now + 1_500)
    assert [isinstance(outcome, Accept) for outcome in desk.answers.values()] == [True]
    desk.check()


def test_a_run_that_waits_does_not_keep_its_agents_budget_when_agents_get_none_any_more() -> None:
    """It waits at the budget of the run, which stands below the declared one from now on."""
    desk = Desk(team())
    fill(desk)
    assert isinstance(reserve(desk, "ann", "r1", wait_ms=1_900), Park)
    desk.reload(team(each_agent=None))
    desk.check()
    assert "team/ann" not in desk.state.budgets
    desk.advance(desk.now + 1_500)
    assert [isinstance(outcome, Accept) for outcome in desk.answers.values()] == [True]


def test_who_waits_where_nobody_gets_a_budget_any_more_is_told_so() -> None:
    """The request is refused; it can be sent again, to the budget that is there."""
    desk = Desk(team())
    fill(desk)
    assert isinstance(reserve(desk, "ann", "r1", wait_ms=1_900), Park)
    desk.reload(team(each_agent=None, each_run=None))
    desk.settle_due()
    assert [outcome.reply["reason"] for outcome in desk.answers.values()] == ["over_limit"]  # type: ignore[union-attr]
    desk.check()


def test_late_usage_is_charged_above_an_agents_budget_that_was_dropped() -> None:
    """The agent's budget was at rest and is gone; the organisation's tokens were used all the same."""
    desk = Desk(team(limits={"input_tokens": rate(1_000, 60_000)}))
    key = reserve(desk, "ann", amounts=Amounts(input_tokens=10), ttl_ms=100).reply["reservation"]
    desk.advance(desk.now + 200)
    resting.drop_idle(desk.state, desk.state.budgets["team"])
    assert "team/ann" not in desk.state.budgets
    desk.must(Settle(id=desk.new_id(), reservation=key, usage=Usage(input_tokens=70)), "ann")
    assert desk.status("team").budgets[0].dimensions["input_tokens"].used == 70
    desk.check()


def test_a_request_names_no_budget_of_another_agent() -> None:
    """Such a budget comes and goes, and is not offered."""
    desk = Desk(team(), BudgetSpec(name="host", limits={"concurrent": calls(5)}, **BASICS))
    assert isinstance(reserve(desk, "ann"), Accept)
    outcome = reserve(desk, "bob", also=("host", "team/ann"))
    assert isinstance(outcome, Reject)
    assert outcome.code == "unknown_budget"


def test_runs_below_an_agents_own_budget_count_as_its_use() -> None:
    """A longer window of the agent's starts full, whether the run's budget is still there or was dropped."""
    desk = Desk(team())
    adjust(desk, "ann", requests=rate(5))
    assert isinstance(reserve(desk, "ann", "r1", ttl_ms=100), Accept)
    desk.advance(desk.now + 5_000)
    resting.drop_idle(desk.state, desk.state.budgets["team"])
    adjust(desk, "ann", requests=rate(5, 60_000))
    assert desk.status("team/ann").budgets[0].dimensions["requests"].headroom == 0
    desk.check()


def test_a_run_that_was_only_refused_does_not_count_as_use() -> None:
    """Its budget was made for the question, on the owner alone."""
    desk = Desk(team())
    adjust(desk, "ann", concurrent=calls(1))
    fill(desk)
    reserve(desk, "ann", "r1")
    adjust(desk, "ann", concurrent=calls(1), requests=rate(5, 60_000))
    desk.check()


def test_a_budget_is_removed_whatever_the_order_in_which_it_came() -> None:
    """A replica from a snapshot has them in another order than the owner."""
    below = BudgetSpec(name="z", parent="team", **BASICS)
    desk = Desk(below, team())
    desk.reload(BudgetSpec(name="new", limits={"concurrent": calls(1)}, **BASICS))
    assert list(desk.state.budgets) == ["new"]
    desk.check()


def test_what_a_lease_holds_above_survives_the_removal_of_its_budget() -> None:
    """The budget that it is of limits nothing itself; what was lent counts at the one above until it is over."""
    above = team(each_agent=None, each_run=None, limits={"requests": rate(20)}, lease_ms=1_000)
    desk = Desk(above, BudgetSpec(name="leaf", parent="team", **{**BASICS, "lease_ms": 1_000}))
    want = (10, 0, 0, 0, 0, 0, 0)
    lent = desk.must(Lease(id=desk.new_id(), budget="leaf", want=want, demand=want, ttl_ms=500))["add"][0]
    assert lent
    desk.reload(above)
    assert desk.status("team").budgets[0].dimensions["requests"].headroom == 20 - lent
    desk.check()


def test_what_a_lease_holds_above_survives_its_agents_budget() -> None:
    """Nothing counts in the agent's budget, so it is at rest; but it is what the lease is of."""
    agent = ChildSpec(limits={"network_bytes": rate(900)})
    desk = Desk(team(each_agent=agent, limits={"requests": rate(20)}, lease_ms=1_000))
    want = (10, 0, 0, 0, 0, 0, 0)
    desk.must(Lease(id=desk.new_id(), budget="team", want=want, demand=want, ttl_ms=500), "ann")
    resting.drop_idle(desk.state, desk.state.budgets["team"])
    desk.reload(team(each_agent=agent, limits={"requests": rate(30)}, lease_ms=1_000))
    desk.check()
    desk.reload(team(each_agent=None, limits={"requests": rate(30)}, lease_ms=1_000))
    desk.check()


def test_a_small_bucket_that_has_refilled_is_like_a_new_one() -> None:
    """An agent's budget with one may be dropped and made again."""
    agent = ChildSpec(limits={"requests": rate(10, bucket=5), "concurrent": calls(3)})
    desk = Desk(team(each_agent=agent, limits={"concurrent": calls(90)}))
    assert isinstance(reserve(desk, "ann", ttl_ms=100), Accept)
    desk.advance(desk.now + 9_000)
    reserve(desk, "bob", ttl_ms=100)
    resting.drop_idle(desk.state, desk.state.budgets["team"])
    reserve(desk, "ann", amounts=Amounts(requests=0, concurrent=1))
    desk.check()


def test_an_agents_budget_that_is_declared_recovers_like_a_new_one() -> None:
    """Under its new rules, whatever those of the agents were."""
    desk = Desk(team(each_agent=ChildSpec(limits={"requests": rate(9, 60_000)})))
    for event in desk.decider.recover(desk.state, desk.now):
        desk.decider.evolve(desk.state, event)
        desk.journal.append(event)
    reserve(desk, "ann")
    adjust(desk, "ann", requests=rate(9, 1_000))
    desk.check()


def test_an_agents_budget_follows_the_class_of_the_one_that_gives_it() -> None:
    """An operator lets a team ask in a better class: that holds for its agents from now on."""
    desk = Desk(team(highest="proactive"))
    assert isinstance(reserve(desk, "ann"), Accept)
    desk.must(Adjust(id=desk.new_id(), budget="team", highest="reactive"), "ops")
    assert desk.state.budgets["team/ann"].highest == 0
    desk.check()


def test_which_reporter_is_forgotten_does_not_depend_on_the_order_of_a_dump() -> None:
    """The one that has reported the longest time ago."""
    desk = Desk(team(each_agent=None, each_run=None))
    for number in range(freezing.MOST_REPORTERS + 3):
        body = RateLimited(id=desk.new_id(), budget="team", dimensions=("requests",), retry_after_ms=300 + number)
        desk.ask(body, f"agent-{(number * 7) % 2_000}")
        if number % 100 == 99:
            desk.state = desk.decider.load(desk.dump())
    desk.check()
