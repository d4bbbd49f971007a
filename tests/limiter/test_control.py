"""Quotas that change live, and questions of what if."""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Reserve, Status
from bursar.contracts.limiter_control import Adjust, Simulate, Simulated
from bursar.kernel.decider import Accept, Refuse, Reject
from tests.limiter.fleet import Desk


def rate(limit: int, **more: Any) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=1_000, paced=False, **more)


def calls(limit: int) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=0)


TEAM = BudgetSpec(
    name="team",
    jitter_ms=0,
    limits={"requests": rate(20), "concurrent": calls(8)},
    each_agent=ChildSpec(limits={"concurrent": calls(2)}),
)


def adjust(desk: Desk, **fields: Any) -> Any:
    return desk.ask(Adjust(id=desk.new_id(), **{"budget": "team", **fields}), "ops")


def ask(desk: Desk, who: str, count: int = 1) -> int:
    body = [
        Reserve(id=desk.new_id(), budget="team", amounts=Amounts(requests=1), ttl_ms=3_600_000) for _ in range(count)
    ]
    return sum(isinstance(desk.ask(one, who), Accept) for one in body)


def test_an_agent_gets_another_quota_live() -> None:
    """While its calls are in flight, and only that agent."""
    desk = Desk(TEAM)
    assert ask(desk, "ann", 3) == 2
    assert adjust(desk, agent="ann", limits={"concurrent": calls(4)}).reply["budget"] == "team/ann"
    assert ask(desk, "ann", 3) == 2
    assert ask(desk, "bob", 3) == 2
    desk.check()
    adjust(desk, agent="ann", limits={"concurrent": calls(1)})
    assert ask(desk, "ann") == 0
    desk.check()
    adjust(desk, agent="new", weight=300, limits={"concurrent": calls(3)})
    assert desk.state.budgets["team/new"].weight == 300
    assert ask(desk, "new", 3) == 2
    desk.check()


def test_a_budget_gets_another_limit_live() -> None:
    """Its own, or its weight; the same again changes nothing."""
    desk = Desk(TEAM)
    assert isinstance(adjust(desk, weight=250), Accept)
    assert desk.state.budgets["team"].weight == 250
    before = desk.dump()
    assert isinstance(adjust(desk, weight=250), Refuse)
    assert desk.dump() == before
    adjust(desk, limits={"requests": rate(1), "concurrent": calls(8)})
    assert ask(desk, "ann", 2) == 1
    desk.check()


def test_a_wrong_adjustment_has_a_code_and_changes_nothing() -> None:
    """Unknown budgets, agents where there are none, wrong limits."""
    desk = Desk(TEAM, BudgetSpec(name="plain", limits={"concurrent": calls(1)}))
    before = desk.dump()
    assert adjust(desk, budget="none").code == "unknown_budget"
    assert adjust(desk, budget="plain", agent="ann").code == "no_agents"
    assert adjust(desk, limits={"requests": calls(5)}).code == "bad_budget"
    assert desk.dump() == before


def test_agents_at_rest_are_like_new_ones_when_they_are_adjusted() -> None:
    """Whether the budget that was made for one is still there or was dropped meanwhile."""
    desk = Desk(TEAM)
    assert ask(desk, "ann") == 1
    for key in list(desk.state.live):
        desk.settle(key, "ann", requests=1)
    desk.advance(5_000)
    adjust(desk, agent="ann", limits={"requests": rate(5)})
    assert ask(desk, "ann", 6) == 5
    desk.check()


def simulate(desk: Desk, **fields: Any) -> Simulated:
    body = Simulate.model_validate({"budget": "team", "amounts": Amounts(), **fields})
    before = desk.dump()
    outcome = desk.ask(body, "ann")
    assert isinstance(outcome, Refuse), outcome
    assert desk.dump() == before, "a question changed the state"
    return Simulated.model_validate({**outcome.reply, "fence": "1.1.1.0123456789abcdef"})


def test_what_if_tells_what_then_happens() -> None:
    """How many fit, what stands in the way of the next, and when it fits."""
    desk = Desk(TEAM)
    ask(desk, "ann")
    told = simulate(desk, count=5)
    assert (told.fits, told.object, told.dimension) == (1, "team/ann", "concurrent")
    assert ask(desk, "ann", 5) == 1
    told = simulate(desk, amounts=Amounts(requests=18, concurrent=0), count=3)
    assert (told.fits, told.object) == (1, "team")
    assert told.retry_at_ms is not None
    assert 1_000 < told.retry_at_ms < 1_010
    assert {room.object for room in told.rooms} == {"team", "team/ann"}
    assert next(room.headroom for room in told.rooms if room.dimension == "requests") == 0


def test_what_if_the_rules_were_others() -> None:
    """The same state under other limits."""
    desk = Desk(TEAM)
    ask(desk, "ann", 2)
    more = TEAM.model_copy(update={"limits": {"requests": rate(3), "concurrent": calls(8)}, "each_agent": None})
    told = simulate(desk, amounts=Amounts(concurrent=0), count=10, changed=(more,))
    assert (told.fits, told.object) == (1, "team")
    outcome = desk.ask(Simulate(budget="team", amounts=Amounts(), changed=(more.model_copy(update={"name": "x"}),)))
    assert isinstance(outcome, Reject)
    assert outcome.code == "not_on_path"
    wrong = more.model_copy(update={"limits": {"requests": calls(3)}})
    assert desk.rejected(desk.ask(Simulate(budget="team", amounts=Amounts(), changed=(wrong,)))) == "bad_budget"
    assert desk.rejected(desk.ask(Simulate(budget="none", amounts=Amounts()))) == "unknown_budget"


def test_what_if_agrees_with_what_happens_after_any_history() -> None:
    """On every step of a busy fleet: what the question promises is granted, and the next one is refused for that."""
    paced = TEAM.model_copy(
        update={
            "limits": {
                "requests": LimitSpec(limit=40, window_ms=1_000),
                "output_tokens": rate(500, charge="production"),
                "concurrent": calls(9),
            }
        }
    )
    desk = Desk(paced)
    for step in range(120):
        desk.advance(desk.now + 17)
        amounts = Amounts(requests=1, output_tokens=step * 7 % 60)
        told = simulate(desk, amounts=amounts, count=3)
        got = 0
        for _ in range(3):
            outcome = desk.ask(Reserve(id=desk.new_id(), budget="team", amounts=amounts), "ann")
            if not isinstance(outcome, Accept):
                assert isinstance(outcome, Refuse)
                assert (outcome.reply["object"], outcome.reply["retry_at_ms"]) == (told.object, told.retry_at_ms)
                break
            got += 1
        assert got == told.fits
        for key in list(desk.state.live)[: step % 3]:
            desk.settle(key, "ann", requests=1, output_tokens=5)
    desk.check()


def test_status_shows_everything_that_a_request_would_take_from() -> None:
    """The agent's own, the team, and objects that it names: what is left, what fits now, how much more each second."""
    host = BudgetSpec(name="host", limits={"concurrent": calls(3)})
    desk = Desk(TEAM, host)
    ask(desk, "ann")
    outcome = desk.ask(Status(budget="team", path=True, also=("host",)), "ann")
    assert isinstance(outcome, Refuse)
    assert [shown["name"] for shown in outcome.reply["budgets"]] == ["team/ann", "team", "host"]
    assert outcome.reply["budgets"][1]["dimensions"]["requests"]["available"] == 19
    assert outcome.reply["budgets"][1]["below"] == 1
    assert desk.rejected(desk.ask(Status(budget="team", path=True, also=("x",)), "ann")) == "unknown_budget"
    assert desk.status("team/ann").budgets[0].dimensions["concurrent"].headroom == 1
