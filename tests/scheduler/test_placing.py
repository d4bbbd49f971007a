"""The policies: what each is for, and what all of them have in common."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bursar_scheduler.fleet import Fleet, Load, Offer
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.scoring import Ask
from bursar_scheduler.speeds import Speeds
from tests.scheduler.test_scoring import LANE, fleet_of


def pick(fleet: Fleet, policy: str, ask: Ask | None = None, number: int = 0) -> str | None:
    ask = ask or Ask(LANE)
    verdict = POLICIES[policy](fleet, ask, number)
    if verdict is None:
        return None
    fleet.last[ask.lane] = verdict.chosen.worker
    return verdict.chosen.worker


@pytest.mark.property
@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_is_work_conserving_and_never_oversteps(name: str) -> None:
    """Somebody is chosen exactly when somebody may be, and that one has a slot, serves the lane and has what is needed;
    the same question has the same answer."""
    rng = random.Random(name)
    for _ in range(150):
        fleet = fleet_of()
        fleet.lane("part", lambda worker: worker.endswith("1"))
        for number in range(rng.randrange(12)):
            offer = Offer(f"w{number}-{rng.randrange(2)}", rng.randrange(1, 4), tokens=rng.choice([0, 3_000]))
            fleet.join(offer._replace(room=(("gpu", rng.randrange(3)),)))
            fleet.note(offer.name, Load(rng.randrange(4), rng.random() < 0.8, tokens=rng.randrange(3_000)))
        ask = Ask("part", tokens=rng.choice([0, 500, 2_500]), needs=(("gpu", 1),), host=rng.choice(["", "h"]))
        if fleet.rows:
            ask = ask._replace(prefix=((rng.choice(list(fleet.rows)), 2_000),))
        suits = [
            worker
            for worker, row in fleet.rows.items()
            if worker.endswith("1")
            and fleet.loads[row].open
            and fleet.loads[row].taken < fleet.offers[row].slots
            and fleet.offers[row].room[0][1] >= 1
            and (not fleet.offers[row].tokens or fleet.offers[row].tokens - fleet.loads[row].tokens >= ask.tokens)
        ]
        verdict = POLICIES[name](fleet, ask, rng.randrange(10**6))
        if verdict is None:
            assert not suits
        else:
            named = [verdict.chosen.worker, *(rated.worker for rated in verdict.rejected)]
            assert set(named) <= set(suits)
            assert len(set(named)) == len(named) <= 4
            seen = rng.randrange(10**6)
            assert POLICIES[name](fleet, ask, seen) == POLICIES[name](fleet, ask, seen)


def test_round_robin_goes_around() -> None:
    """In the order of registration, and on from the one that was last; who is full is passed over."""
    fleet = fleet_of(*(Offer(name, slots=9) for name in "abcd"))
    fleet.note("c", Load(9))
    assert [pick(fleet, "round_robin") for _ in range(6)] == ["a", "b", "d", "a", "b", "d"]


def test_power_of_two_is_nearly_even_and_random_is_less_so() -> None:
    """The highest of 20 bins after 1,000 balls: near 50 with two choices, well above with one."""
    highest = {}
    for policy in ("power_of_two", "random"):
        fleet = fleet_of(*(Offer(f"w{number}", slots=1_000) for number in range(20)))
        counts: Counter[str] = Counter()
        for number in range(1_000):
            name = pick(fleet, policy, number=number)
            assert name is not None
            counts[name] += 1
            fleet.note(name, Load(counts[name]))
        highest[policy] = max(counts.values())
    assert highest["power_of_two"] <= 54 < highest["random"]


def test_least_loaded_goes_by_the_part_of_the_slots() -> None:
    """One of eight is less than one of two."""
    fleet = fleet_of(Offer("small", slots=2), Offer("big", slots=8))
    fleet.note("small", Load(1))
    fleet.note("big", Load(3))
    assert pick(fleet, "least_loaded") == "big"


def test_earliest_completion_counts_wait_and_run() -> None:
    """A fast worker with a queue may end later than a slow one without; prices do not count."""
    speeds = Speeds()
    speeds.learn("x", "fast", 1_000)
    speeds.learn("x", "slow", 5_000)
    fleet = fleet_of(Offer("fast", slots=9, price=10**9), Offer("slow", slots=9), speeds=speeds)
    assert pick(fleet, "earliest_completion", Ask(LANE, "x")) == "fast"
    fleet.note("fast", Load(wait_us=4_500))
    assert pick(fleet, "earliest_completion", Ask(LANE, "x")) == "slow"


def test_hybrid_packs_until_half_and_then_spreads() -> None:
    """The own host while it is below a half; among the rest drawn from the best fifth."""
    fleet = fleet_of(*(Offer(f"w{number}", slots=10, host=f"h{number}") for number in range(10)))
    home = Ask(LANE, host="h7")
    for taken in range(5):
        fleet.note("w7", Load(taken))
        assert pick(fleet, "hybrid", home) == "w7"
    fleet.note("w7", Load(6))
    others = {pick(fleet, "hybrid", home, number) for number in range(40)}
    assert others == {"w0", "w1"}


def test_token_budget_fills_the_emptiest_batch() -> None:
    """And passes over who has too little left for the whole call."""
    fleet = fleet_of(Offer("a", slots=9, tokens=4_000), Offer("b", slots=9, tokens=4_000))
    fleet.note("a", Load(1, tokens=3_000))
    fleet.note("b", Load(1, tokens=2_500))
    assert pick(fleet, "token_budget", Ask(LANE, tokens=1_200)) == "b"
    assert pick(fleet, "token_budget", Ask(LANE, tokens=1_600)) is None


def test_locality_follows_the_cache_for_long_prompts_only() -> None:
    """Unless who has it is much more loaded than others."""
    fleet = fleet_of(Offer("idle", slots=8), Offer("warm", slots=8))
    fleet.note("warm", Load(2))
    long, short = Ask(LANE, prompt=5_000, prefix=(("warm", 4_000),)), Ask(LANE, prompt=500, prefix=(("warm", 400),))
    assert pick(fleet, "locality", long) == "warm"
    assert pick(fleet, "locality", short) == "idle"
    fleet.note("warm", Load(6))
    assert pick(fleet, "locality", long._replace(prefix=(("warm", 10),))) == "idle"
