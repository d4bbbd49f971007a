"""The score of a placement: what it is made of, that its arrays are kept up right, and its record."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest

from bursar_scheduler.fleet import IDLE, PPM, Fleet, Load, Offer, Region, Weights
from bursar_scheduler.placing import gang
from bursar_scheduler.scoring import TERMS, Ask, Rated, best
from bursar_scheduler.speeds import Speeds

LANE = "lane"


def fleet_of(*offers: Offer, weights: Weights | None = None, speeds: Speeds | None = None) -> Fleet:
    fleet = Fleet(speeds or Speeds(), weights)
    fleet.lane(LANE, lambda _: True)
    for offer in offers:
        fleet.join(offer)
    return fleet


def chosen(fleet: Fleet, ask: Ask) -> str | None:
    verdict = best(fleet, ask)
    return None if verdict is None else verdict.chosen.worker


def term(rated: Rated, name: str) -> int:
    return rated.terms[TERMS.index(name)]


def test_the_faster_worker_is_chosen() -> None:
    """Run times are learned for each class on each worker."""
    speeds = Speeds()
    fleet = fleet_of(Offer("slow"), Offer("fast"), speeds=speeds)
    speeds.learn("call", "slow", 900_000)
    speeds.learn("call", "fast", 200_000)
    assert chosen(fleet, Ask(LANE, "call")) == "fast"
    for _ in range(40):
        speeds.learn("call", "fast", 2_000_000)
    fleet.learn("call", "fast")
    assert chosen(fleet, Ask(LANE, "call")) == "slow"


def test_the_price_counts_for_the_time_that_the_run_takes() -> None:
    """A dear worker has to be faster by what it costs."""
    speeds = Speeds()
    speeds.learn("call", "dear", 800_000)
    speeds.learn("call", "cheap", 1_000_000)
    offers = Offer("dear", price=1_000), Offer("cheap", price=10)
    assert chosen(fleet_of(*offers, speeds=speeds, weights=Weights(price=0)), Ask(LANE, "call")) == "dear"
    assert chosen(fleet_of(*offers, speeds=speeds, weights=Weights(price=1_000_000)), Ask(LANE, "call")) == "cheap"


def test_the_load_is_spread() -> None:
    """Of equal workers the one whose load is lower makes the load of all more even."""
    fleet = fleet_of(Offer("a", slots=4), Offer("b", slots=4))
    order = []
    for _ in range(8):
        name = chosen(fleet, Ask(LANE))
        assert name is not None
        order.append(name)
        fleet.note(name, Load(fleet.loads[fleet.rows[name]].taken + 1))
    assert order == ["a", "b"] * 4
    assert chosen(fleet, Ask(LANE)) is None


def test_an_unhealthy_or_distant_region_waits_longer() -> None:
    """Regions are weighted by measured latency and health."""
    fleet = fleet_of(Offer("near", region="near"), Offer("far", region="far"))
    fleet.set_region("near", Region(latency_us=5_000))
    fleet.set_region("far", Region(latency_us=80_000))
    assert chosen(fleet, Ask(LANE)) == "near"
    fleet.set_region("near", Region(latency_us=5_000, health_permille=50))
    assert chosen(fleet, Ask(LANE)) == "far"


def test_short_calls_keep_away_from_long_ones() -> None:
    """And long ones from short ones; with no other choice they share."""
    fleet = fleet_of(Offer("a", slots=4), Offer("b", slots=4), weights=Weights(variance=0))
    fleet.note("a", Load(1, long=1))
    fleet.note("b", Load(1, short=1))
    assert chosen(fleet, Ask(LANE, expected_us=1_000)) == "b"
    assert chosen(fleet, Ask(LANE, expected_us=60_000_000)) == "a"
    fleet.note("a", Load(4, short=4))
    assert chosen(fleet, Ask(LANE, expected_us=60_000_000)) == "b"


def test_a_loaded_model_a_known_prefix_and_near_data_count() -> None:
    """A cold model costs its loading, a cached prompt saves its computing, data has to be brought."""
    fleet = fleet_of(
        Offer("cold", host="h1"), Offer("warm", host="h2", models=frozenset({"m"})), Offer("other", numa=1)
    )
    assert chosen(fleet, Ask(LANE, model="m")) == "warm"
    assert chosen(fleet, Ask(LANE, prefix=(("other", 4_000), ("gone", 9)))) == "other"
    assert chosen(fleet, Ask(LANE, host="h2", size=1 << 20)) == "warm"
    fleet.join(Offer("twin", host="h2", numa=1))
    assert chosen(fleet, Ask(LANE, host="h2", numa=1)) == "twin"


def test_resources_and_token_budgets_are_never_exceeded() -> None:
    """Who has too little of anything is not chosen."""
    small = Offer("small", slots=4, room=(("gpu", 8),), tokens=1_000)
    fleet = fleet_of(small, Offer("big", slots=4, room=(("gpu", 24), ("ram", 5))), Offer("none", slots=4))
    assert chosen(fleet, Ask(LANE, needs=(("gpu", 8),))) == "small"
    assert chosen(fleet, Ask(LANE, needs=(("gpu", 9),))) == "big"
    assert chosen(fleet, Ask(LANE, needs=(("gpu", 9), ("ram", 6)))) is None
    fleet.note("big", Load(1, used=(("gpu", 20),)))
    assert chosen(fleet, Ask(LANE, needs=(("gpu", 9),))) is None
    assert chosen(fleet, Ask(LANE, tokens=900)) == "small"
    fleet.note("small", Load(tokens=500))
    assert chosen(fleet, Ask(LANE, tokens=900)) == "none"


def test_who_does_not_serve_the_lane_or_is_closed_is_not_chosen() -> None:
    """Lanes say who serves them, also for workers that come later."""
    fleet = fleet_of(Offer("a"))
    fleet.lane("b only", lambda name: name.startswith("b"))
    assert chosen(fleet, Ask("b only")) is None
    fleet.join(Offer("b1"))
    assert chosen(fleet, Ask("b only")) == "b1"
    fleet.note("b1", IDLE._replace(open=False))
    assert chosen(fleet, Ask("b only")) is None
    fleet.drop_lane("b only")
    assert chosen(fleet, Ask("b only")) == "a"


def test_the_record_names_three_others_and_sums_up() -> None:
    """The terms of a score are the score, but for what rounding to microseconds loses."""
    offers = [Offer(f"w{number}", slots=number % 3 + 1, price=100 * number) for number in range(6)]
    fleet = fleet_of(*offers)
    fleet.note("w3", Load(0, wait_us=50, long=1))
    verdict = best(fleet, Ask(LANE, "call", model="m", host="h", size=10, prefix=(("w2", 3),)))
    assert verdict is not None
    assert len(verdict.rejected) == 3
    rated = [verdict.chosen, *verdict.rejected]
    assert [one.score for one in rated] == sorted(one.score for one in rated)
    for one in rated:
        assert abs(sum(one.terms) - one.score) <= len(TERMS)
    assert term(next(one for one in rated if one.worker == "w2"), "prefix") < 0


def test_nobody_is_chosen_from_nobody() -> None:
    """Without workers there is no verdict."""
    fleet = fleet_of()
    assert best(fleet, Ask(LANE)) is None
    fleet.join(Offer("a"))
    fleet.leave("a")
    fleet.leave("a")
    fleet.note("a", IDLE)
    fleet.learn("call", "a")
    assert best(fleet, Ask(LANE)) is None


def plainly(fleet: Fleet, ask: Ask, speeds: Speeds) -> str | None:
    """The score again, a worker at a time."""
    weights, found = fleet.weights, []
    names = [offer.name for offer in fleet.offers if offer.name]
    fills = {name: fleet.loads[fleet.rows[name]].taken * PPM // fleet.offers[fleet.rows[name]].slots for name in names}
    mean = sum(fills.values()) // max(1, len(names))
    for place, name in enumerate(names):
        offer, load = fleet.offers[fleet.rows[name]], fleet.loads[fleet.rows[name]]
        room, used = dict(offer.room), dict(load.used)
        if not load.open or load.taken >= offer.slots or (ask.tokens > offer.tokens - load.tokens and offer.tokens):
            continue
        if any(room.get(resource, 0) - used.get(resource, 0) < amount for resource, amount in ask.needs):
            continue
        took = speeds.expect_us(ask.task_class, name)
        region = fleet.regions.get(offer.region, Region())
        step = PPM // offer.slots
        lost_us = 1_000_000 * (1_000 - max(10, region.health_permille))
        reach_us = (region.latency_us * 1_000 + lost_us) // max(10, region.health_permille)
        total = (load.wait_us + reach_us) * 1_000
        total += took * (1_000 + offer.price * weights.price // PPM)
        total += weights.variance * step // PPM * (2 * fills[name] + step) // PPM
        total -= 2 * weights.variance * step // PPM // PPM * mean
        total += weights.apart * (load.short if ask.is_long else load.long)
        total += weights.cold if ask.model and ask.model not in offer.models else 0
        if ask.region and ask.region != offer.region:
            total += weights.region + weights.carry * ask.size
        if ask.host and ask.host != offer.host:
            total += weights.host + weights.transfer * ask.size
        elif ask.host and ask.numa >= 0 and ask.numa != offer.numa:
            total += weights.numa
        total -= dict(ask.prefix).get(name, 0) * weights.prefix
        found.append((total, place, name))
    return min(found)[2] if found else None


@pytest.mark.property
@pytest.mark.parametrize("seed", range(8))
def test_the_arrays_say_what_the_formula_says(seed: int) -> None:
    """Whatever joins, leaves, changes or is learned: the same choice as worker by worker, and as from new arrays."""
    rng = random.Random(seed)
    speeds, numbers = Speeds(), count()
    fleet = fleet_of(speeds=speeds)
    for _ in range(400):
        names = list(fleet.rows)
        roll = rng.random()
        if roll < 0.25 or not names:
            fleet.join(offer_of(rng, f"w{next(numbers)}"))
        elif roll < 0.3:
            fleet.join(offer_of(rng, rng.choice(names)), load_of(rng))
        elif roll < 0.4 or (roll < 0.6 and len(names) > 90):
            fleet.leave(rng.choice(names))
        elif roll < 0.6:
            fleet.note(rng.choice(names), load_of(rng))
        elif roll < 0.7:
            name = rng.choice(names)
            speeds.learn("x", name, rng.randrange(1, 10**7))
            fleet.learn("x", name)
        elif roll < 0.73:
            fleet.set_region(rng.choice("rs"), Region(rng.randrange(10**6), rng.randrange(1, 1_001)))
        else:
            ask = ask_of(rng, names)
            assert chosen(fleet, ask) == plainly(fleet, ask, speeds)
            assert chosen(again(fleet, speeds), ask) == plainly(fleet, ask, speeds)


def again(fleet: Fleet, speeds: Speeds) -> Fleet:
    """The same workers in arrays that have seen nothing else."""
    other = fleet_of(speeds=speeds)
    other.regions = dict(fleet.regions)
    for offer, load in zip(fleet.offers, fleet.loads, strict=True):
        if offer.name:
            other.join(offer, load)
    return other


def offer_of(rng: random.Random, name: str) -> Offer:
    models = frozenset(rng.sample("mn", rng.randrange(3)))
    room = (("gpu", rng.randrange(30)), ("ram", rng.randrange(30)))[: rng.randrange(3)]
    return Offer(
        name, rng.randrange(1, 5), rng.randrange(9_000), rng.choice("hij"), rng.randrange(2), rng.choice("rst"), models,
        room, rng.choice([0, 100]),
    )  # fmt: skip


def load_of(rng: random.Random) -> Load:
    used = (("gpu", rng.randrange(30)),)[: rng.randrange(2)]
    return Load(
        rng.randrange(4), rng.random() < 0.9, rng.randrange(10**6), rng.randrange(3), rng.randrange(3),
        rng.randrange(100), used,
    )  # fmt: skip


def ask_of(rng: random.Random, names: list[str]) -> Ask:
    some: dict[str, Any] = {
        "model": rng.choice(["", "m", "n"]),
        "host": rng.choice(["", "h", "nowhere"]),
        "numa": rng.choice([-1, 0, 1]),
        "region": rng.choice(["", "r", "nowhere"]),
        "size": rng.randrange(10**6),
        "tokens": rng.choice([0, 0, 50]),
        "prefix": tuple((rng.choice(names), rng.randrange(5_000)) for _ in range(rng.randrange(2))),
        "needs": (("gpu", rng.randrange(20)), ("ram", rng.randrange(20)))[: rng.randrange(3)],
    }
    return Ask(LANE, rng.choice("xy"), rng.choice([0, 10**7]), **some)


def test_a_gang_sits_on_as_few_hosts_as_it_can() -> None:
    """One host that has room for all goes before a spread one; each member on a worker of its own, all or none."""
    fleet = fleet_of(
        Offer("a", slots=2, host="h1"), Offer("b", slots=3, host="h2"), Offer("c", host="h2"), Offer("d", host="h2"),
        Offer("e", host="h1", slots=2), Offer("f", host="h3"),
    )  # fmt: skip
    assert sorted(gang(fleet, Ask(LANE), 2)) == ["a", "e"]
    assert sorted(gang(fleet, Ask(LANE), 3)) == ["b", "c", "d"]
    assert sorted(gang(fleet, Ask(LANE), 5)) == ["a", "b", "c", "d", "e"]
    assert gang(fleet, Ask(LANE), 7) == ()
    fleet.note("c", Load(1))
    assert {fleet.offers[fleet.rows[name]].host for name in gang(fleet, Ask(LANE), 4)} == {"h1", "h2"}
    assert gang(fleet, Ask(LANE), 6) == ()


def test_speeds_survive_dump_and_load_and_are_bounded() -> None:
    """Means of classes and workers; the class that was heard of first goes when there are too many."""
    speeds = Speeds()
    speeds.learn("a", "w", 800)
    speeds.learn("a", "w", 1_600)
    assert speeds.expect_us("a", "w") == speeds.expect_us("a") == speeds.expect_us("a", "other") == 900
    assert Speeds.load(speeds.dump()).dump() == speeds.dump()
    speeds.forget("w")
    assert speeds.expect_us("a", "w") == 900
    for number in range(1_024):
        speeds.learn(f"c{number}", "w", 5)
    assert "a" not in speeds.classes
    assert len(speeds.classes) == len(speeds.workers) == 1_024
