"""Which task goes next: bands, shares, programs, deadlines, quotas; against the same rules without heaps."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count

import pytest

from bursar_scheduler.accounts import Quota, Who
from tests.scheduler.queueing import Call, Yard, chosen_plainly

ANN = Who("team", "ann", "main")


def drain(yard: Yard, ms: int = 0) -> list[Call]:
    """Run all that wait, one after the other."""
    order = []
    while (call := yard.next()) is not None:
        yard.take(call)
        yard.now += ms
        yard.end(call)
        order.append(call)
    return order


def test_calls_of_one_program_go_as_they_came() -> None:
    """First come, first served, where nothing else is said."""
    yard = Yard()
    calls = [yard.submit(Call(number, ANN, number)) for number in range(5)]
    assert drain(yard) == calls


def test_a_deadline_goes_before_calls_with_time() -> None:
    """Least slack first within a program."""
    yard = Yard()
    patient = yard.submit(Call(1, ANN))
    later = yard.submit(Call(2, ANN, deadline_at=30_000))
    sooner = yard.submit(Call(3, ANN, deadline_at=20_000))
    long = yard.submit(Call(4, ANN, deadline_at=35_000, expected_ms=10_000))
    assert drain(yard) == [sooner, long, later, patient]


def test_a_call_without_deadline_does_not_wait_for_ever() -> None:
    """After a minute it stands before deadlines that came later."""
    yard = Yard()
    patient = yard.submit(Call(1, ANN, 0))
    assert drain_of(yard, [Call(2, ANN, 70_000, deadline_at=100_000)]) == [patient]


def drain_of(yard: Yard, calls: list[Call]) -> list[Call]:
    yard.now = max(call.submitted_at for call in calls)
    for call in calls:
        yard.submit(call)
    return drain(yard)[:1]


def test_a_late_call_goes_before_other_programs_of_its_agent() -> None:
    """Its slack is gone; its agent pays for it like for any other."""
    yard = Yard()
    fresh = yard.submit(Call(1, ANN))
    late = yard.submit(Call(2, ANN._replace(program="old"), deadline_at=1_500))
    assert drain(yard)[0] is fresh
    yard.submit(Call(3, ANN))
    yard.submit(late2 := Call(4, ANN._replace(program="old"), deadline_at=900))
    assert yard.next() is late2
    assert not late.listed


def test_bands_are_strict_until_somebody_has_waited_too_long() -> None:
    """A standard task stands a minute behind a reactive one, a proactive one five."""
    yard = Yard()
    proactive, standard = yard.submit(Call(1, ANN, 0, band=2)), yard.submit(Call(2, ANN, 250_000, band=1))
    reactive = yard.submit(Call(3, ANN, 309_000, band=0))
    late = yard.submit(Call(4, ANN, 311_000, band=0))
    yard.now = 311_000
    assert drain(yard) == [proactive, reactive, standard, late]


def test_the_program_with_the_least_service_goes_first() -> None:
    """A newcomer overtakes a program that has had much; among equals first come, first served."""
    yard = Yard()
    old, new = ANN._replace(program="old"), ANN._replace(program="new")
    first = yard.submit(Call(1, old))
    yard.take(first)
    yard.now = 60_000
    yard.end(first)
    again, fresh = yard.submit(Call(2, old, yard.now)), yard.submit(Call(3, new, yard.now))
    assert drain(yard) == [fresh, again]


def test_what_runs_is_counted_while_it_runs() -> None:
    """A program whose call has been running for long stands behind one that has had nothing."""
    yard = Yard()
    busy, idle = ANN._replace(program="busy"), ANN._replace(program="idle")
    yard.take(yard.submit(Call(1, busy)))
    waits = yard.submit(Call(2, busy))
    other = yard.submit(Call(3, idle, 1))
    assert yard.next() is waits
    yard.now = 10_000
    assert yard.next() is other


def test_a_starved_program_goes_first_again() -> None:
    """Eight times its service it has waited: it goes before programs that have had less."""
    yard = Yard()
    old = ANN._replace(program="old")
    first = yard.submit(Call(1, old))
    yard.take(first)
    yard.now = 10_000
    yard.end(first)
    waits = yard.submit(Call(2, old, yard.now))
    for number in range(3, 200):
        yard.now += 1_000
        fresh = yard.submit(Call(number, ANN._replace(program=f"p{number}"), yard.now))
        chosen = yard.next()
        if chosen is waits:
            assert yard.now == 10_000 + 80_000
            return
        assert chosen is fresh
        yard.take(fresh)
        yard.end(fresh)
    raise AssertionError("it starves")


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (5, 2)])
def test_agents_share_by_weight(weights: tuple[int, int]) -> None:
    """Of two that always want, each gets its part of the slot time, however many tasks it sends."""
    yard = Yard()
    served: Counter[str] = Counter()
    numbers = count(1)
    for agent, weight in zip("ab", weights, strict=True):
        yard.ledger.set_quota("team", agent, Quota(weight))
        for _ in range(400 if agent == "a" else 250):
            yard.submit(Call(next(numbers), Who("team", agent, agent)))
    for _ in range(280):
        call = yard.next()
        assert call is not None
        yard.take(call, 100)
        yard.now += 100
        yard.end(call)
        served[call.who.agent] += 1
    assert abs(served["a"] * weights[1] - served["b"] * weights[0]) <= 2 * sum(weights)


def test_teams_share_before_agents() -> None:
    """A team of three agents gets as much as a team of one."""
    yard = Yard()
    numbers = count(1)
    for team, agent in (("big", "a"), ("big", "b"), ("big", "c"), ("small", "d")):
        for _ in range(100):
            yard.submit(Call(next(numbers), Who(team, agent, agent)))
    served: Counter[str] = Counter()
    for _ in range(60):
        call = yard.next()
        assert call is not None
        yard.take(call, 10)
        yard.now += 10
        yard.end(call)
        served[call.who.agent] += 1
    assert served["d"] == 30
    assert {served[agent] for agent in "abc"} == {10}


def test_idleness_saves_nothing_up() -> None:
    """Who comes back shares from now on; it does not get all that it has not wanted before."""
    yard = Yard()
    numbers = count(1)
    for _ in range(100):
        yard.submit(Call(next(numbers), Who("team", "busy", "x")))
    for _ in range(50):
        call = yard.next()
        assert call is not None
        yard.take(call, 100)
        yard.now += 100
        yard.end(call)
    for _ in range(20):
        yard.submit(Call(next(numbers), Who("team", "new", "y"), yard.now))
    first = Counter(call.who.agent for call in drain(yard, 100)[:10])
    assert abs(first["busy"] - first["new"]) <= 2


def test_a_burst_on_free_slots_is_shared() -> None:
    """Slots that are given away in the same millisecond are charged at once."""
    yard = Yard()
    for number in range(20):
        yard.submit(Call(number, Who("team", "first", "x")))
    for number in range(20, 40):
        yard.submit(Call(number, Who("team", "second", "y")))
    for _ in range(10):
        call = yard.next()
        assert call is not None
        yard.take(call, 500)
    assert Counter(call.who.agent for call in yard.running) == {"first": 5, "second": 5}


def slots_of(yard: Yard, slots: int) -> Counter[str]:
    """Fill so many slots; who has how many."""
    while len(yard.running) < slots and (call := yard.next()) is not None:
        yard.take(call, 100)
    return Counter(call.who.team for call in yard.running)


def two_teams(**quotas: Quota) -> Yard:
    yard = Yard()
    yard.ledger.set_capacity(10)
    for team, quota in quotas.items():
        yard.ledger.set_quota(team, "", quota)
    return yard


def want(yard: Yard, team: str, tasks: int, first: int) -> None:
    for number in range(first, first + tasks):
        yard.submit(Call(number, Who(team, team, team)))


def test_unused_slots_are_lent_and_come_back() -> None:
    """One borrows all while the other is away; the other's next tasks go first until it has its own."""
    yard = two_teams(a=Quota(slots=5), b=Quota(slots=5))
    want(yard, "a", 20, 1)
    assert slots_of(yard, 10) == {"a": 10}
    want(yard, "b", 20, 100)
    for _ in range(6):
        yard.now += 100
        yard.end(next(call for call in yard.running if call.who.team == "a"))
        slots_of(yard, 10)
    assert Counter(call.who.team for call in yard.running) == {"a": 5, "b": 5}


def test_slots_that_are_not_lent_stay_free() -> None:
    """With ``lend`` 2 three of five own slots are kept for their owner."""
    yard = two_teams(a=Quota(slots=5), b=Quota(slots=5, lend=2))
    want(yard, "a", 20, 1)
    assert slots_of(yard, 10) == {"a": 7}
    want(yard, "b", 20, 100)
    assert slots_of(yard, 10) == {"a": 7, "b": 3}


def test_borrowing_is_bounded_and_adjusts_live() -> None:
    """With ``borrow`` 1 a team gets one slot beyond its own; another rule holds at once."""
    yard = two_teams(a=Quota(slots=3, borrow=1))
    want(yard, "a", 20, 1)
    assert slots_of(yard, 10) == {"a": 4}
    assert yard.next() is None
    yard.ledger.set_quota("a", "", Quota(slots=3, borrow=3))
    assert slots_of(yard, 10) == {"a": 6}
    yard.ledger.set_quota("a", "", Quota(slots=2, borrow=0))
    yard.end(yard.running[0])
    assert yard.next() is None


def test_an_agent_that_is_held_lets_others_of_its_team_go() -> None:
    """Its bound keeps only itself."""
    yard = two_teams()
    yard.ledger.set_quota("team", "ann", Quota(slots=1, borrow=0))
    for number in range(5):
        yard.submit(Call(number, ANN))
    for number in range(5, 10):
        yard.submit(Call(number, Who("team", "bob", "x")))
    while (call := yard.next()) is not None:
        yard.take(call)
    assert Counter(call.who.agent for call in yard.running) == {"ann": 1, "bob": 5}
    yard.end(next(call for call in yard.running if call.who.agent == "ann"))
    held = yard.next()
    assert held is not None
    assert held.who.agent == "ann"


@pytest.mark.property
@pytest.mark.parametrize("seed", range(12))
def test_the_heaps_say_what_the_rules_say(seed: int) -> None:
    """Whatever comes, runs, ends, is preempted or gets another quota: the same choice as by looking at everything."""
    rng = random.Random(seed)
    yard = Yard(lanes=2, rule=rng.choice(["plas", "atlas"]))
    yard.ledger.set_capacity(6)
    numbers = count(1)
    for _ in range(250):
        yard.now += rng.choice([0, 0, 1, 7, 20])
        roll = rng.random()
        if roll < 0.45:
            who = Who(rng.choice("st"), rng.choice("abc"), rng.choice("xyz"))
            deadline = yard.now + rng.randrange(1, 4_000) if rng.random() < 0.3 else 0
            call = Call(next(numbers), who, yard.now, band=rng.randrange(3), deadline_at=deadline)
            call.expected_ms = rng.choice([0, 50, 2_000])
            yard.submit(call, rng.randrange(2))
        elif roll < 0.8 and len(yard.running) < 6:
            lanes = rng.choice([[0], [1], [0, 1]])
            expected = chosen_plainly(yard, lanes)
            assert yard.next(lanes) is expected
            if expected is not None:
                yard.take(expected, rng.choice([1, 50, 900]))
        elif roll < 0.95 and yard.running:
            yard.end(rng.choice(yard.running)) if rng.random() < 0.8 else yard.preempt(rng.choice(yard.running))
        elif roll >= 0.95:
            quota = Quota(rng.randrange(1, 4), rng.randrange(4), rng.choice([None, 0, 1]), rng.choice([None, 0, 2]))
            yard.ledger.set_quota(rng.choice("st"), rng.choice(["", *"abc"]), quota)


@pytest.mark.property
@pytest.mark.parametrize("seed", range(6))
def test_nobody_falls_behind_its_share_by_more_than_two_calls(seed: int) -> None:
    """The bound of start-time fair queueing: with several slots, virtual times of those who want stay together."""
    rng = random.Random(seed)
    slots, longest = rng.randrange(1, 6), 300
    yard, numbers = Yard(), count(1)
    agents = {name: rng.randrange(1, 5) for name in "abcd"}
    for agent, weight in agents.items():
        yard.ledger.set_quota("t", agent, Quota(weight))
        for _ in range(600):
            yard.submit(Call(next(numbers), Who("t", agent, agent)))
    ends: dict[int, int] = {}
    for _ in range(600):
        while len(yard.running) < slots:
            call = yard.next()
            assert call is not None
            took = rng.randrange(1, longest)
            yard.take(call, took)
            ends[call.order] = yard.now + took
        first = min(yard.running, key=lambda call: (ends[call.order], call.order))
        yard.now = ends[first.order]
        yard.end(first)
        virtual = [yard.ledger.agents["t", agent].virtual(yard.now) for agent in agents]
        assert max(virtual) - min(virtual) <= 2 * longest * 1_000


def test_a_ledger_survives_dump_and_load() -> None:
    """What was had, what runs, quotas: all is there again, and goes on alike."""
    yard = two_teams(a=Quota(2, 3, 1, 1), b=Quota(slots=5, lend=2))
    want(yard, "a", 8, 1)
    want(yard, "b", 8, 100)
    slots_of(yard, 7)
    yard.now = 2_500
    yard.end(yard.running[0])
    again = type(yard.ledger).load(yard.ledger.dump())
    assert again.dump() == yard.ledger.dump()
    yard.now = 9_000
    for call in yard.running:
        assert again.end(call.token, yard.now) == yard.ledger.end(call.token, yard.now)
    assert again.dump() == yard.ledger.dump()
    assert again.end("unknown", 0) == 0
