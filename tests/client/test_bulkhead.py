"""The bulkhead, against a small model of a target that queues what it cannot serve at once."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.client.bulkhead import Bounds, Bulkhead, BulkheadFull, Gradient


def settle(gradient: Gradient, slots: int, took: float = 100.0, rounds: int = 400) -> None:
    """As many calls as it allows, at a target that serves so many at once: each takes longer with the queue."""
    for _ in range(rounds):
        under_way = int(gradient.limit)
        gradient.measure(took * max(1.0, under_way / slots), under_way)


def test_the_bound_grows_while_latency_stays_and_stops_when_queues_build_up() -> None:
    """Above what the target serves at once, and not far above."""
    gradient = Gradient(Bounds(initial=10, most=1_000))
    settle(gradient, slots=50)
    assert 50 <= gradient.limit <= 160
    wide = Gradient(Bounds(initial=10, most=1_000))
    settle(wide, slots=10_000, rounds=1_300)
    assert wide.limit == 1_000


def test_a_target_that_becomes_slow_gets_less() -> None:
    """A bulkhead is there for that; the least always remains."""
    gradient = Gradient(Bounds(initial=50, most=100))
    for _ in range(50):
        gradient.measure(100.0, 50)
    before = gradient.limit
    for _ in range(20):
        gradient.measure(1_000.0, int(gradient.limit))
    assert gradient.limit < before / 2
    for _ in range(100):
        gradient.overloaded()
    assert gradient.limit == 2.0


def test_calls_that_use_less_than_half_teach_nothing() -> None:
    """A quiet agent's latency says nothing about the bound."""
    gradient = Gradient(Bounds(initial=20))
    for _ in range(100):
        gradient.measure(100.0, 9)
    assert gradient.limit == 20.0


def test_a_full_bulkhead_refuses_and_has_room_again_when_a_call_ends() -> None:
    """Nobody waits in front of a slow target."""
    bulkhead = Bulkhead("p", Bounds(initial=2, least=1, most=2))
    bulkhead.enter()
    bulkhead.enter()
    with pytest.raises(BulkheadFull) as error:
        bulkhead.enter()
    assert (error.value.code, error.value.limit, copy.copy(error.value).target) == ("bulkhead_full", 2, "p")
    assert "another target" in error.value.advice
    bulkhead.leave(10.0, "ok")
    bulkhead.enter()
    assert (bulkhead.under_way, bulkhead.most, bulkhead.refused) == (2, 2, 1)


@pytest.mark.parametrize(("outcome", "limit"), [("timeout", 18), ("overload", 18), ("auth", 20), ("error", 20)])
def test_by_cause(outcome: str, limit: int) -> None:
    """Overload and time-outs cut the bound at once; what says nothing about the load leaves it."""
    bulkhead = Bulkhead("p")
    bulkhead.enter()
    bulkhead.leave(5.0, outcome)  # type: ignore[arg-type]
    assert (bulkhead.limit, bulkhead.under_way) == (limit, 0)
    bulkhead.enter()
    bulkhead.leave(5.0, None)
    assert (bulkhead.limit, bulkhead.under_way) == (limit, 0)


@pytest.mark.property
@given(
    st.lists(st.tuples(st.sampled_from(["in", "ok", "slow", "timeout", "cancelled"]), st.floats(0, 1e6)), max_size=200)
)
def test_never_more_than_the_bound_and_the_bound_stays_between_its_bounds(steps: list[tuple[str, float]]) -> None:
    """Whatever is measured."""
    bounds = Bounds(initial=5, least=2, most=9)
    bulkhead = Bulkhead("p", bounds)
    for what, took in steps:
        if what == "in":
            had_room = bulkhead.has_room
            try:
                bulkhead.enter()
            except BulkheadFull:
                assert not had_room
            else:
                assert bulkhead.under_way <= bulkhead.limit
        elif bulkhead.under_way:
            bulkhead.leave(took, what)  # type: ignore[arg-type]
        assert bounds.least <= bulkhead.limit <= bounds.most
    assert bulkhead.most <= bounds.most


@pytest.mark.parametrize("told", [{"least": 0}, {"initial": 1}, {"most": 3}, {"tolerance": 0.9}, {"smoothing": 0.0},
                                  {"backoff": 1.0}, {"queue": -1}])  # fmt: skip
def test_bounds_that_make_no_sense_are_refused(told: dict[str, float]) -> None:
    """When they are made."""
    with pytest.raises(ValueError, match=r"bounds are|smoothing"):
        Bounds(**told)  # type: ignore[arg-type]
