"""Budgets of agents and runs while everything around them changes: what counts stays, and when one is dropped and made
again is nobody's business."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Reserve, Settle
from bursar.contracts.limiter_control import Adjust
from bursar.kernel.decider import Accept, Park
from bursar_limiter import resting, tree
from bursar_limiter.checking import validate
from tests.limiter.fleet import Desk


def rate(limit: int, window_ms: int = 1_000) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=window_ms, paced=False)


def calls(limit: int) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=0)


def team(agent: bool, run: bool, limit: int = 4, **more: Any) -> BudgetSpec:
    return BudgetSpec(
        name="team",
        jitter_ms=0,
        lease_ms=0,
        max_ttl_ms=2_000,
        limits={"requests": rate(30), "concurrent": calls(20)},
        each_agent=ChildSpec(limits={"concurrent": calls(limit), "requests": rate(8, 2_000)}) if agent else None,
        each_run=ChildSpec(limits={"requests": rate(limit, 1_500)}) if run else None,
        **more,
    )


@pytest.mark.property
@pytest.mark.parametrize("seed", range(8))
def test_replay_agrees_whatever_was_dropped_and_made_again(seed: int) -> None:
    """Agents and runs come and go; an operator turns their budgets on and off, adjusts them, declares some."""
    rng = random.Random(seed)
    desk, live = Desk(team(agent=True, run=True)), {}
    for step in range(150):
        desk.advance(desk.now + rng.choice((1, 5, 40, 900)))
        who, run = rng.choice(("ann", "bob", "cyd")), rng.choice((None, "r1", "r2"))
        chance = rng.random()
        if chance < 0.6:
            body = Reserve(id=desk.new_id(), budget="team", run=run, amounts=Amounts(), ttl_ms=1_000,
                           wait_ms=rng.choice((0, 0, 500)))  # fmt: skip
            outcome = desk.ask(body, who)
            if isinstance(outcome, Accept):
                live[outcome.reply["reservation"]] = who
        elif chance < 0.8 and live:
            key, holder = live.popitem()
            desk.ask(Settle(id=desk.new_id(), reservation=key), holder)
        elif chance < 0.85:
            declared = BudgetSpec(name="team/bob", parent="team", limits={"concurrent": calls(2)}, lease_ms=0)
            extra = [declared] if rng.random() < 0.3 else []
            agents, runs = bool(extra) or rng.random() < 0.7, rng.random() < 0.7
            desk.reload(team(agent=agents, run=runs, limit=rng.choice((2, 4))), *extra)
        elif chance < 0.9:
            desk.ask(Adjust(id=desk.new_id(), budget="team", agent=who, weight=rng.choice((50, 200))), "ops")
        elif chance < 0.95:
            base = desk.state.budgets["team"]
            resting.drop_idle(desk.state, base)
        desk.settle_due()
        validate(desk.state, desk.now)
        if step % 10 == 0:
            desk.check()
    desk.advance(desk.now + 10_000)
    assert not desk.state.live
    desk.check()


def ask(desk: Desk, who: str, run: str | None = None, wait_ms: int = 0) -> Any:
    body = Reserve(id=desk.new_id(), budget="team", run=run, amounts=Amounts(), wait_ms=wait_ms, ttl_ms=2_000)
    return desk.ask(body, who)


def test_agents_without_budgets_any_more_are_served_by_the_team() -> None:
    """Who waits in one of them is told, and what is in flight still ends."""
    desk = Desk(team(agent=True, run=True))
    held = [ask(desk, "ann", "r1").reply["reservation"] for _ in range(4)]
    assert isinstance(ask(desk, "ann", "r1", 5_000), Park)
    desk.reload(team(agent=False, run=False))
    desk.settle_due()
    assert len(desk.answers) == 1
    desk.check()
    assert isinstance(ask(desk, "ann"), Accept)
    for key in held:
        desk.ask(Settle(id=desk.new_id(), reservation=key), "ann")
    desk.check()
    desk.advance(10_000)
    desk.reload(team(agent=False, run=False, limit=5), BudgetSpec(name="x", limits={"concurrent": calls(1)}))
    desk.check()


def test_runs_alone_stand_below_the_team() -> None:
    """Without agents' budgets a run's takes from itself and the team; with them, from the agent's, too."""
    desk = Desk(team(agent=False, run=True))
    ask(desk, "ann", "r1")
    nodes = desk.state.path_of(desk.state.budgets["team/ann/r1"]).nodes
    assert [node.name for node in nodes] == ["team/ann/r1", "team"]
    desk.reload(team(agent=True, run=True))
    nodes = desk.state.path_of(desk.state.budgets["team/ann/r1"]).nodes
    assert [node.name for node in nodes] == ["team/ann/r1", "team/ann", "team"]
    desk.check()


def test_there_are_no_more_agents_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those at rest make room; when all are in use, another is told so."""
    monkeypatch.setattr(tree, "MAX_MADE", 70)
    desk = Desk(team(agent=True, run=False).model_copy(update={"limits": {"concurrent": calls(1_000)}}))
    for number in range(70):
        assert isinstance(ask(desk, f"a-{number}"), Accept)
    assert desk.rejected(ask(desk, "one-more")) == "too_many_agents"
    desk.advance(20_000)
    desk.must(Adjust(id="q-1", budget="team", weight=7), "ops")  # something has happened since
    assert isinstance(ask(desk, "one-more"), Accept)
    desk.check()


def test_a_request_takes_from_a_bounded_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that it is told so."""
    monkeypatch.setattr("bursar_limiter.asking.MAX_OBJECTS", 2)
    hosts = [BudgetSpec(name=f"h{number}", limits={"concurrent": calls(3)}) for number in range(3)]
    desk = Desk(team(agent=False, run=False), *hosts)
    body = Reserve(id="x-1", budget="team", also=("h0", "h1", "h2"), amounts=Amounts())
    assert desk.rejected(desk.ask(body)) == "too_many_objects"


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([BudgetSpec(name=f"n{n}", parent=f"n{n - 1}" if n else None, limits={"concurrent": calls(1)})
          for n in range(26)], "more than 24 levels"),
        ([BudgetSpec(name="a", limits={"concurrent": calls(1)}, also=("b",)),
          BudgetSpec(name="b", limits={"concurrent": calls(1)}, also=("c",)),
          BudgetSpec(name="c", limits={"concurrent": calls(1)})], "links itself"),
        ([team(agent=True, run=False), BudgetSpec(name="team/ann", limits={"concurrent": calls(1)})],
         "that must be its parent"),
    ],
)  # fmt: skip
def test_a_tree_has_bounds(specs: list[BudgetSpec], words: str) -> None:
    """Depth, links of links, names."""
    fault = tree.fault_of_tree({spec.name: spec for spec in specs})
    assert fault is not None
    assert words in fault[1]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (BudgetSpec(name="a"), "limits nothing"),
        (BudgetSpec(name="a/b/c/d/e/f/g", each_agent=ChildSpec()), "too many parts"),
        (team(agent=True, run=False).model_copy(update={"kind": "purse", "limits": {}}), "no window"),
    ],
)
def test_a_budget_that_makes_no_sense_is_said(spec: BudgetSpec, words: str) -> None:
    """Each with its reason."""
    assert words in (tree.fault_of(spec) or "")
