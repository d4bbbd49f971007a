"""How much a holder asks for."""

from __future__ import annotations

from bursar.client.lease_demand import SLOTS, Demand
from bursar.client.local import CONCURRENT, NOTHING

CALL = (1, 100, 0, 1, 0, 100, 0)


def busy() -> Demand:
    """A hundred calls a second."""
    demand = Demand(0.0)
    for number in range(400):
        demand.note(CALL, number * 10.0)
    return demand


def test_as_many_places_are_wanted_as_are_told_to_be_needed() -> None:
    """What a lease wants of calls in flight is what it says is its demand for them: a limiter that gives nobody more
    than it demands would otherwise give nothing at all, since one dimension seems short for ever."""
    demand = busy()
    for flying in (0, 3, 60):
        assert demand.want(600.0, flying)[CONCURRENT] == demand.per_second(flying)[CONCURRENT]


def test_places_grow_with_the_calls_that_fill_them() -> None:
    """Half as many again as there are, so that a lease that is short of them grows quickly."""
    demand = busy()
    assert demand.per_second(0)[CONCURRENT] == SLOTS
    assert demand.per_second(60)[CONCURRENT] == 90
    demand.short(CALL, NOTHING)
    assert demand.per_second(60)[CONCURRENT] > 90
