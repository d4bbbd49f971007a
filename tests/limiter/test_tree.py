"""Budgets above budgets: one decision over all of them."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Reserve
from bursar.kernel.decider import Accept, Park
from bursar_limiter.tree import fault_of_tree
from tests.limiter.fleet import Desk
from tests.limiter.test_recovery import lose


def rate(limit: int, window_ms: int = 1000, **more: Any) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=window_ms, paced=False, **more)


def calls(limit: int) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=0)


ORG = BudgetSpec(name="org", limits={"requests": rate(10), "concurrent": calls(6)})
TEAM = BudgetSpec(name="org/team", parent="org", limits={"input_tokens": rate(1000), "concurrent": calls(4)})
OTHER = BudgetSpec(name="org/other", parent="org", limits={"input_tokens": rate(1000)})
PURSE = BudgetSpec(name="purse", kind="purse", limits={"usd_micros": LimitSpec(limit=500, window_ms=0)})


def headroom(desk: Desk, budget: str) -> dict[str, int]:
    (shown,) = desk.status(budget).budgets
    return {name: dimension.headroom for name, dimension in shown.dimensions.items()}


def test_one_reservation_takes_from_all_levels() -> None:
    """From the budget that it names and from everything above it."""
    desk = Desk(ORG, TEAM)
    call = desk.granted("org/team", requests=1, input_tokens=300, concurrent=1)
    assert headroom(desk, "org/team") == {"input_tokens": 700, "concurrent": 3}
    assert headroom(desk, "org") == {"requests": 9, "concurrent": 5}, "above it nothing was charged"
    desk.check()
    desk.settle(call, requests=1, input_tokens=100)
    assert headroom(desk, "org/team") == {"input_tokens": 900, "concurrent": 4}
    assert headroom(desk, "org") == {"requests": 9, "concurrent": 6}
    desk.check()


def test_a_refusal_at_one_level_takes_nothing_from_another() -> None:
    """All or none, and the refusal says which object was in the way."""
    desk = Desk(ORG, TEAM, OTHER)
    for _ in range(6):
        desk.granted("org/other", requests=1, concurrent=1)
    refusal = desk.refused("org/team", requests=1, concurrent=1)
    assert (refusal["object"], refusal["depth"], refusal["dimension"]) == ("org", 1, "concurrent")
    assert headroom(desk, "org/team") == {"input_tokens": 1000, "concurrent": 4}
    refusal = desk.refused("org/team", input_tokens=1001)
    assert (refusal["reason"], refusal["object"], refusal["depth"]) == ("never_fits", "org/team", 0)
    desk.check()


def test_several_windows_of_one_dimension_all_hold() -> None:
    """Ten a second and fifteen in ten seconds."""
    spec = BudgetSpec(name="b", jitter_ms=0, limits={"requests": (rate(10), rate(15, 10_000))})
    desk = Desk(spec)
    for _ in range(10):
        desk.granted(requests=1)
    assert desk.refused(requests=1)["window_ms"] == 1000
    desk.advance(1500)
    for _ in range(5):
        desk.granted(requests=1)
    refusal = desk.refused(requests=1)
    assert (refusal["window_ms"], refusal["limit"]) == (10_000, 15)
    assert set(desk.status("b").budgets[0].dimensions) == {"requests", "requests/10000"}
    desk.check()


def test_a_purse_is_shared_by_budgets_that_name_it() -> None:
    """A budget spent is spent; a rate beside it is another object."""
    one = BudgetSpec(name="one", also=("purse",), limits={"requests": rate(100)})
    two = BudgetSpec(name="two", also=("purse",), limits={"requests": rate(100)})
    desk = Desk(one, two, PURSE)
    desk.granted("one", requests=1, usd_micros=300)
    desk.granted("two", requests=1, usd_micros=200)
    desk.advance(10_000_000)
    refusal = desk.refused("two", requests=1, usd_micros=1)
    assert (refusal["object"], refusal["retry_at_ms"]) == ("purse", None)
    desk.check()


def test_a_request_may_name_other_objects() -> None:
    """Calls in flight to one host are an ordinary budget beside the caller's own."""
    host = BudgetSpec(name="host/api-example", limits={"concurrent": calls(2), "network_bytes": rate(10_000)})
    desk = Desk(ORG, TEAM, host)

    def ask(name: str, **amounts: int) -> Reserve:
        return Reserve(id=name, budget="org/team", also=("host/api-example",), amounts=Amounts.model_validate(amounts))

    for number in range(2):
        assert isinstance(desk.ask(ask(f"r-{number}", network_bytes=100)), Accept)
    outcome: Any = desk.ask(ask("r-3"))
    assert (outcome.reply["object"], outcome.reply["depth"]) == ("host/api-example", 2)
    assert headroom(desk, "host/api-example") == {"concurrent": 0, "network_bytes": 9_800}
    assert desk.rejected(desk.ask(ask("r-4").model_copy(update={"also": ("nobody",)}))) == "unknown_budget"
    desk.check()


def test_each_agent_has_its_own_below_the_team() -> None:
    """Made at the first request, and what one has is not taken from another's."""
    team = BudgetSpec(
        name="team",
        limits={"concurrent": calls(10)},
        each_agent=ChildSpec(limits={"concurrent": calls(3)}),
        each_run=ChildSpec(limits={"concurrent": calls(2)}),
    )
    desk = Desk(team)

    def ask(who: str, run: str | None = None) -> Any:
        body = Reserve(id=desk.new_id(), budget="team", run=run, amounts=Amounts(requests=0))
        return desk.ask(body, who)

    for _ in range(2):
        assert isinstance(ask("ann", "r1"), Accept)
    assert ask("ann", "r1").reply["object"] == "team/ann/r1"
    assert isinstance(ask("ann", "r2"), Accept)
    assert ask("ann", "r2").reply["object"] == "team/ann"
    assert ask("ann").reply["object"] == "team/ann"
    assert isinstance(ask("bob"), Accept)
    assert headroom(desk, "team") == {"concurrent": 6}
    desk.check()
    desk.advance(1_000_000)
    assert desk.dump()["made"] == []
    assert desk.rejected(desk.ask(Reserve(id="x-1", budget="team/ann", amounts=Amounts()), "bob")) == "unknown_budget"
    desk.check()


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([BudgetSpec(name="a", parent="b", limits={"concurrent": calls(1)})], "b, which is not there"),
        ([BudgetSpec(name="a", parent="b"), BudgetSpec(name="b", parent="a")], "stands above itself"),
        ([BudgetSpec(name="a", parent="a")], "names itself"),
        ([ORG, TEAM.model_copy(update={"also": ("org",)})], "which stands above it"),
        ([ORG.model_copy(update={"each_agent": ChildSpec()}), TEAM.model_copy(update={"parent": "p"}),
          BudgetSpec(name="p", limits={"concurrent": calls(1)})], "one of an agent of org"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_tree_is_said(specs: list[BudgetSpec], words: str) -> None:
    """Cycles, unknown parents and links, and names that belong to agents."""
    fault = fault_of_tree({spec.name: spec for spec in specs})
    assert fault is not None
    assert words in fault[1]
    desk = Desk()
    before = desk.dump()
    assert desk.rejected(desk.reload(*specs)) == "bad_budget"
    assert desk.dump() == before


def test_a_tree_changes_while_calls_are_in_flight() -> None:
    """A budget that moves takes what is in flight with it; what it used counts in full where it stands now."""
    desk = Desk(ORG, TEAM, OTHER)
    call = desk.granted("org/team", requests=1, input_tokens=300, concurrent=2)
    top = BudgetSpec(name="top", limits={"concurrent": calls(9), "requests": rate(50)})
    desk.reload(top, ORG, OTHER, TEAM.model_copy(update={"parent": "top"}))
    assert headroom(desk, "top") == {"concurrent": 7, "requests": 0}, "what it used before is forgotten"
    assert headroom(desk, "org") == {"requests": 9, "concurrent": 6}
    desk.settle(call, requests=0)
    assert headroom(desk, "top") == {"concurrent": 9, "requests": 0}
    desk.check()
    desk.advance(2_000)
    assert headroom(desk, "top") == {"concurrent": 9, "requests": 50}
    desk.check()


def one_a_minute(window_ms: int = 60_000) -> BudgetSpec:
    each = ChildSpec(limits={"requests": rate(3, window_ms)})
    return BudgetSpec(name="team", jitter_ms=0, max_ttl_ms=1_000, lease_ms=0, limits={"concurrent": calls(50)},
                      each_agent=each)  # fmt: skip


def take(desk: Desk, who: str) -> Any:
    outcome = desk.ask(Reserve(id=desk.new_id(), budget="team", amounts=Amounts(), ttl_ms=500), who)
    if isinstance(outcome, Accept):
        desk.settle(outcome.reply["reservation"], who, requests=1)
    return outcome


def test_an_agents_budget_is_kept_while_something_counts_in_it() -> None:
    """However many others come and go meanwhile."""
    desk = Desk(one_a_minute())
    for _ in range(3):
        assert isinstance(take(desk, "ann"), Accept)
    for number in range(300):
        take(desk, f"agent-{number}")
    refusal = take(desk, "ann")
    assert not isinstance(refusal, Accept), "ann is over her limit"
    assert refusal.reply["object"] == "team/ann"
    desk.check()


def test_an_agent_that_was_lost_with_the_journal_recovers_like_its_budget() -> None:
    """Its own window is longer than that of the team: it is not new only because nobody knows it any more."""
    desk = Desk(one_a_minute())
    for _ in range(3):
        assert isinstance(take(desk, "ann"), Accept)
    lose(desk, len(desk.journal) - 1)
    assert "team/ann" not in desk.state.budgets
    desk.advance(desk.now + 30_000)
    refusal = take(desk, "ann")
    assert not isinstance(refusal, Accept), "ann is over her limit"
    assert refusal.reply["reason"] == "recovering"
    desk.check()
    desk.advance(refusal.reply["retry_at_ms"])
    assert isinstance(take(desk, "ann"), Accept)
    desk.check()


def test_a_refund_never_enters_a_meter_that_is_younger_than_its_grant() -> None:
    """What was charged to a limit that was replaced is not taken back from the new one."""
    desk = Desk(ORG, TEAM)
    call = desk.granted("org/team", requests=5, input_tokens=100)
    wide = ORG.model_copy(update={"limits": {**ORG.limits, "requests": rate(12)}})
    desk.reload(wide, TEAM)
    used = 12 - headroom(desk, "org")["requests"]
    desk.settle(call, requests=0)
    assert 12 - headroom(desk, "org")["requests"] == used, "a refund entered another window"
    desk.check()


def test_what_is_spent_once_needs_a_declared_budget() -> None:
    """An agent's budget comes and goes, and money that is spent does not come back."""
    spec = one_a_minute().model_copy(update={"each_agent": ChildSpec(limits={"usd_micros": calls(5)})})
    assert desk_rejects(spec) == "bad_budget"


def desk_rejects(spec: BudgetSpec) -> str:
    desk = Desk()
    return desk.rejected(desk.reload(spec))


def test_a_deep_tree_is_a_tree() -> None:
    """Twenty-four levels: each is charged, each is waited for, and the one in the way is named."""
    specs = [
        BudgetSpec(
            name=f"n{depth}",
            parent=f"n{depth - 1}" if depth else None,
            limits={"requests": LimitSpec(limit=9 if depth == 5 else 20, window_ms=1_000, paced=False)},
        )
        for depth in range(24)
    ]
    desk = Desk(*specs)
    desk.granted("n23", requests=9)
    told = desk.refused("n23", requests=1)
    assert (told["object"], told["depth"], told["level"]) == ("n5", 18, 9)
    waiting = Reserve(id="w", budget="n23", amounts=Amounts(concurrent=0), wait_ms=5_000)
    assert isinstance(desk.ask(waiting), Park)
    desk.advance(told["retry_at_ms"])
    assert isinstance(desk.answers["agent", "w"], Accept)
    desk.check()
