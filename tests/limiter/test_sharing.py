"""The tree of lines: shares by weight, borrowing and giving back, priorities, objects beside the tree."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Priority, Reserve
from bursar.kernel.decider import Accept, Outcome, Park, Refuse
from bursar_limiter.turns import AGE_MS
from tests.limiter.fleet import Desk

RATE = LimitSpec(limit=1_000, window_ms=1_000)
ORG = BudgetSpec(name="org", limits={"requests": RATE}, jitter_ms=0, max_waiting=5_000)


def child(name: str, weight: int = 100, **more: Any) -> BudgetSpec:
    return BudgetSpec(name=name, parent="org", weight=weight, jitter_ms=0, max_waiting=5_000, **more)


class Crowd:
    """Agents that always have a backlog of requests in line, as long as they want something."""

    def __init__(self, *specs: BudgetSpec) -> None:
        self.desk = Desk(*specs)
        self.desk.now = 10
        self.open: Counter[tuple[str, str]] = Counter()
        self.names: dict[tuple[str, str], tuple[str, str]] = {}
        self.got: list[tuple[int, str, str]] = []

    def ask(self, budget: str, who: str, wait_ms: int = 600_000, **more: Any) -> Outcome:
        amounts = Amounts.model_validate({"concurrent": 0, **more.pop("amounts", {})})
        body = Reserve(id=self.desk.new_id(), budget=budget, amounts=amounts, wait_ms=wait_ms, **more)
        outcome = self.desk.ask(body, who)
        if isinstance(outcome, Park):
            self.open[budget, who] += 1
            self.names[who, body.id] = (budget, who)
        elif isinstance(outcome, Accept):
            self.got.append((self.desk.now, budget, who))
        return outcome

    def run(self, until: int, wanted: dict[tuple[str, str], int], step: int = 20) -> None:
        while self.desk.now < until:
            for (budget, who), backlog in wanted.items():
                while self.open[budget, who] < backlog:
                    self.ask(budget, who)
            for _ in self.desk.moments(min(until, self.desk.now + step)):
                self.collect()

    def collect(self) -> None:
        for key, outcome in self.desk.answers.items():
            place = self.names.pop(key)
            self.open[place] -= 1
            if isinstance(outcome, Accept):
                self.got.append((self.desk.now, *place))
        self.desk.answers.clear()

    def share(self, budget: str, begin: int, end: int) -> float:
        inside = [place for at, place, _ in self.got if begin <= at < end]
        return inside.count(budget) / max(1, len(inside))


def test_children_share_by_weight() -> None:
    """Three to one, whatever the number of agents and the length of their backlogs."""
    crowd = Crowd(ORG, child("a", 300), child("b", 100))
    crowd.run(4_000, {("a", "ann"): 20, **{("b", f"b-{n}"): 20 for n in range(10)}})
    assert crowd.share("a", 500, 4_000) == pytest.approx(0.75, abs=0.01), "not by weight"
    crowd.desk.check()


def test_what_one_leaves_the_others_have_and_get_back_within_two_seconds() -> None:
    """Alone a child uses all that the parent has; who wants his share again has it at his next turn."""
    crowd = Crowd(ORG, child("a"), child("b"))
    crowd.run(3_000, {("a", "ann"): 30})
    alone = len(crowd.got)
    assert alone >= 0.85 * 1_000 * 2.9
    crowd.run(6_000, {("a", "ann"): 30, ("b", "bob"): 30})
    assert crowd.share("b", 3_000, 3_500) == pytest.approx(0.5, abs=0.03)
    crowd.run(8_000, {("a", "ann"): 30})
    assert len(crowd.got) >= 0.85 * 1_000 * 8


def test_a_child_that_wants_less_than_its_share_has_all_that_it_wants() -> None:
    """Max-min: the rest is shared by the others."""
    crowd = Crowd(ORG, child("a"), child("b"), child("c", limits={"requests": LimitSpec(limit=100, window_ms=1000)}))
    crowd.run(5_000, {("a", "ann"): 20, ("b", "bob"): 20, ("c", "cyd"): 20})
    assert crowd.share("c", 1_000, 5_000) == pytest.approx(0.1, abs=0.01)
    assert crowd.share("a", 1_000, 5_000) == pytest.approx(0.45, abs=0.01)


def test_a_team_without_room_keeps_nobody_else_back() -> None:
    """Its requests wait in its own line, not in that of the organisation."""
    crowd = Crowd(ORG, child("a", limits={"concurrent": LimitSpec(limit=1, window_ms=0)}), child("b"))
    assert isinstance(crowd.ask("a", "ann", amounts={"concurrent": 1}), Accept)
    assert isinstance(crowd.ask("a", "ann", amounts={"concurrent": 1}), Park)
    crowd.desk.settle_due()
    assert isinstance(crowd.ask("b", "bob"), Accept)


def test_nobody_overtakes_who_waits_for_the_parent() -> None:
    """A large request of one team is not passed by small ones of another."""
    crowd = Crowd(ORG, child("a"), child("b"))
    crowd.run(500, {("b", "bob"): 5})
    large = crowd.ask("a", "ann", amounts={"requests": 900})
    assert isinstance(large, Park)
    for _ in range(400):
        crowd.run(crowd.desk.now + 10, {("b", "bob"): 5})
    assert ("a", "ann") in {(budget, who) for _, budget, who in crowd.got}


def test_agents_below_a_team_share_it() -> None:
    """One with fifty requests in line has no more than one with a dozen."""
    team = BudgetSpec(name="org", limits={"requests": RATE}, jitter_ms=0, each_agent=ChildSpec())
    crowd = Crowd(team)
    crowd.run(2_000, {("org", "greedy"): 50, ("org", "modest"): 12})
    counts = Counter(who for at, _, who in crowd.got if at > 200)
    assert abs(counts["greedy"] - counts["modest"]) <= 0.02 * sum(counts.values())
    crowd.desk.check()


@pytest.mark.property
@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_the_fairness_bound_holds_in_the_tree(seed: int) -> None:
    """Over every stretch in which two children always want something, what they get, divided by their weights, differs
    by no more than the largest request of each."""
    rng = random.Random(seed)
    names = ["a", "b", "c"]
    weights = {name: rng.choice((50, 100, 250)) for name in names}
    largest = {name: rng.choice((5, 60, 300)) for name in names}
    crowd = Crowd(ORG, *(child(name, weights[name]) for name in names))
    crowd.ask("a", "z", amounts={"requests": 900})
    sizes: dict[tuple[str, str], int] = {}
    got = Counter(dict.fromkeys(names, 0))
    for _ in range(30):
        for name in names:
            while sum(size for (who, _), size in sizes.items() if who == f"{name}-x") < 1_000:
                size = rng.randint(1, largest[name])
                body = Reserve(
                    id=crowd.desk.new_id(), budget=name, amounts=Amounts(requests=size, concurrent=0), wait_ms=600_000
                )
                assert isinstance(crowd.desk.ask(body, f"{name}-x"), Park)
                sizes[f"{name}-x", body.id] = size
        crowd.desk.advance(crowd.desk.now + rng.randrange(1, 200))
        for key in crowd.desk.answers:
            got[key[0][0]] += sizes.pop(key)
        crowd.desk.answers.clear()
        for one in names:
            for other in names:
                apart = got[one] * 100 / weights[one] - got[other] * 100 / weights[other]
                bound = largest[one] * 100 / weights[one] + largest[other] * 100 / weights[other]
                assert apart <= bound + 1, (one, other)
    crowd.desk.check()


# ------------------------------------------------------------------------------------------- priorities


def busy(limit: int = 1) -> Crowd:
    crowd = Crowd(BudgetSpec(name="b", limits={"concurrent": LimitSpec(limit=limit, window_ms=0)}, max_waiting=500))
    for _ in range(limit):
        assert isinstance(crowd.ask("b", "first", amounts={"concurrent": 1}), Accept)
    return crowd


def serve(crowd: Crowd, count: int = 1, gap: int = 1) -> list[str]:
    """Ends the call in flight so often; who was granted."""
    begin = len(crowd.got)
    for _ in range(count):
        key, live = next(iter(crowd.desk.state.live.items()))
        crowd.desk.settle(key, live.principal)
        for _ in crowd.desk.moments(crowd.desk.now + gap):
            crowd.collect()
    return [who for _, _, who in crowd.got[begin:]]


def put(crowd: Crowd, who: str, priority: Priority, budget: str = "b") -> None:
    assert isinstance(crowd.ask(budget, who, priority=priority, amounts={"concurrent": 1}), Park)


def test_reactive_goes_before_standard_and_that_before_proactive() -> None:
    """In whatever order they came, also within one principal."""
    crowd = busy()
    put(crowd, "p", "proactive")
    put(crowd, "s", "standard")
    put(crowd, "r", "reactive")
    put(crowd, "p", "reactive")
    assert serve(crowd, 4) == ["r", "p", "s", "p"]


def test_a_class_that_is_passed_over_ages() -> None:
    """Reactive requests without end: a proactive one still gets its turn, within twice the age and one of each."""
    crowd = busy()
    put(crowd, "p", "proactive")
    begin, turns = crowd.desk.now, 0
    while "p" not in {who for _, _, who in crowd.got}:
        for name in ("r-1", "r-2"):
            if crowd.open["b", name] < 3:
                put(crowd, name, "reactive")
        serve(crowd, gap=50)
        turns += 1
        assert turns < 200, "it starves"
    assert crowd.desk.now - begin <= 2 * AGE_MS + 4 * 50
    assert crowd.desk.now - begin > AGE_MS


def test_equals_do_not_age() -> None:
    """Without better ones before it a class keeps exact turns, however long it waits."""
    crowd = busy()
    for _ in range(60):
        put(crowd, "flood", "standard")
    serve(crowd, 10, gap=AGE_MS)
    put(crowd, "modest", "standard")
    assert "modest" in serve(crowd, 2)


def test_an_operator_bounds_the_priority_of_a_budget() -> None:
    """What claims to be reactive in it is standard."""
    top = BudgetSpec(name="org", limits={"concurrent": LimitSpec(limit=1, window_ms=0)})
    crowd = Crowd(top, child("low", highest="proactive"), child("b"))
    assert isinstance(crowd.ask("b", "first", amounts={"concurrent": 1}), Accept)
    put(crowd, "low", "reactive", "low")
    put(crowd, "s", "standard", "b")
    assert serve(crowd, 2) == ["s", "low"]


# ------------------------------------------------------------------------------------------- beside the tree


HOST = BudgetSpec(name="host", limits={"concurrent": LimitSpec(limit=2, window_ms=0)})


def at_host(crowd: Crowd, who: str, calls: int = 1, budget: str = "a") -> Outcome:
    return crowd.ask(budget, who, also=("host",), amounts={"concurrent": calls})


def test_who_waits_for_a_host_keeps_nobody_else_back() -> None:
    """Other requests of the same budget go on."""
    crowd = Crowd(ORG, child("a"), child("b"), HOST)
    assert isinstance(at_host(crowd, "x", 2), Accept)
    assert isinstance(at_host(crowd, "ann"), Park)
    crowd.desk.settle_due()
    assert isinstance(crowd.ask("a", "ann"), Accept)
    assert isinstance(crowd.ask("a", "bob"), Accept)
    assert serve(crowd) == ["ann"]
    crowd.desk.check()


def test_a_large_request_for_a_host_does_not_starve() -> None:
    """Small ones of other teams come without end; the eldest is next."""
    crowd = Crowd(ORG, child("a"), child("b"), HOST)
    assert isinstance(at_host(crowd, "x", 1, "b"), Accept)
    assert isinstance(at_host(crowd, "large", 2), Park)
    crowd.desk.settle_due()
    for _ in range(10):
        assert isinstance(at_host(crowd, "small", 1, "b"), Park)
    assert serve(crowd) == ["large"]
    assert serve(crowd) == ["small", "small"]
    crowd.desk.check()


def test_between_host_and_tree_nobody_starves() -> None:
    """One that waits for both, while others take turns at taking one of them, has the host kept for it in the end."""
    org = BudgetSpec(name="org", limits={"requests": LimitSpec(limit=10, window_ms=1_000, paced=False)}, jitter_ms=0)
    crowd = Crowd(org, child("a"), child("b"), HOST)
    assert isinstance(at_host(crowd, "x", 2, "b"), Accept)
    assert isinstance(at_host(crowd, "y", 2), Park)
    begin = crowd.desk.now
    while "y" not in {who for _, _, who in crowd.got}:
        for who in ("p", "q"):
            if not crowd.open["b", who]:
                at_host(crowd, who, 1, "b")
        if not crowd.open["b", "z"]:
            crowd.ask("b", "z", amounts={"requests": 5})
        for key, live in list(crowd.desk.state.live.items()):
            if crowd.desk.now - live.granted_at > 150:
                crowd.desk.settle(key, live.principal, requests=1)
        for _ in crowd.desk.moments(crowd.desk.now + 40):
            crowd.collect()
        assert crowd.desk.now - begin < 3 * AGE_MS
    crowd.desk.check()


def test_a_purse_that_is_empty_refuses_at_once() -> None:
    """No waiting brings money back."""
    purse = BudgetSpec(name="purse", kind="purse", limits={"usd_micros": LimitSpec(limit=100, window_ms=0)})
    crowd = Crowd(ORG, child("a", also=("purse",)), purse)
    crowd.desk.cancel(crowd.desk.granted("a", usd_micros=40))
    call = crowd.desk.granted("a", usd_micros=100)
    crowd.desk.settle(call, usd_micros=100)
    outcome = crowd.ask("a", "ann", amounts={"usd_micros": 1})
    assert isinstance(outcome, Refuse)
    assert (outcome.reply["object"], outcome.reply["retry_at_ms"]) == ("purse", None)


def test_lines_follow_a_tree_that_changes() -> None:
    """Who waits below a parent that goes away waits for what is above him now; who waits for an object that is not
    there any more is told so."""
    crowd = Crowd(ORG, child("a"), child("b"), HOST)
    crowd.run(300, {("a", "ann"): 10, ("b", "bob"): 10})
    at_host(crowd, "x", 2)
    at_host(crowd, "y", 1)
    crowd.desk.reload(ORG, child("a").model_copy(update={"parent": None, "limits": {"requests": RATE}}), child("b"))
    crowd.desk.check()
    crowd.run(2_000, {})
    assert not crowd.names, "somebody stands in line for ever"
    crowd.run(4_000, {("a", "ann"): 30, ("b", "bob"): 30})
    crowd.desk.check()
    assert crowd.share("a", 3_000, 4_000) == pytest.approx(0.5, abs=0.05)


@pytest.mark.property
@pytest.mark.parametrize("seed", range(6))
def test_everybody_gets_through_tree_and_objects(seed: int) -> None:
    """Requests of all sizes for teams and hosts in any combination, without end: nobody waits for more than a bound,
    nothing is over a limit, also while an operator changes the tree and some give up."""
    rng = random.Random(seed)
    level = {"concurrent": LimitSpec(limit=3, window_ms=0)}
    hosts = [
        BudgetSpec(name=f"h{n}", limits={"concurrent": LimitSpec(limit=2, window_ms=0), "requests": RATE})
        for n in range(3)
    ]
    top = BudgetSpec(name="org", limits={"concurrent": LimitSpec(limit=5, window_ms=0)}, jitter_ms=0)
    crowd = Crowd(top, child("a", limits=level), child("b", 300, limits=level), *hosts)
    desk, longest = crowd.desk, 0
    since: dict[tuple[str, str], int] = {}
    ends: list[tuple[int, str]] = []
    for step in range(700):
        if rng.random() < 0.5 and len(crowd.names) < 40:
            also = tuple(rng.sample(["h0", "h1", "h2"], rng.randrange(3)))
            amounts = {"concurrent": rng.choice((1, 1, 2))}
            who, wait = f"p-{rng.randrange(4)}", rng.choice((600_000, 600_000, 300))
            outcome = crowd.ask(rng.choice(("a", "b")), who, wait, also=also, amounts=amounts,
                                priority=rng.choice(("reactive", "standard", "proactive")))  # fmt: skip
            if isinstance(outcome, Park) and wait > 300:
                since[who, f"t-{desk.serial}"] = desk.now
        if step % 150 == 149:
            weight = rng.choice((50, 100, 300))
            desk.reload(top, child("a", weight, limits=level), child("b", limits=level), *hosts)
        for _ in desk.moments(desk.now + rng.randrange(1, 30)):
            for asked in desk.answers:
                longest = max(longest, desk.now - since.pop(asked, desk.now))
            crowd.collect()
            known = {call for _, call in ends}
            ends += [(desk.now + rng.randrange(20, 120), call) for call in desk.state.live if call not in known]
        for at, call in list(ends):
            if at <= desk.now:
                ends.remove((at, call))
                desk.settle(call, desk.state.live[call].principal, requests=1)
        if step % 20 == 0:
            desk.check()
    assert longest <= 3 * AGE_MS, "somebody has waited for too long"
    assert all(desk.now - begin <= 3 * AGE_MS for begin in since.values()), "somebody starves"
