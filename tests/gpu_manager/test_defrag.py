"""Plans against fragmentation."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_gpu_manager.defrag import PAUSE_MS, Movable, Plan, plan
from bursar_gpu_manager.pools import CLASSES, LARGE, PLAN_ABOVE, PLAN_UNTIL, phi

GIB = 1 << 30
GOLDEN = {"a": 7 * GIB // 2, "b": 5 * GIB, "c": 9 * GIB}


def follow(free: dict[str, int], found: Plan) -> dict[str, int]:
    """Carry a plan out as the manager would: the new copy first, then the old one goes; checks every step."""
    rooms = dict(free)
    before = phi(rooms.values(), found.size)
    for move in found.moves:
        assert rooms[move.target] >= move.memory, "both copies have to fit"
        rooms[move.target] -= move.memory
        assert all(room >= min(0, free[name]) for name, room in rooms.items())
        rooms[move.source] += move.memory
        after = phi(rooms.values(), found.size)
        assert after < before
        assert after == move.phi
        before = after
    return rooms


def test_the_golden_case_needs_one_small_move() -> None:
    """Half a GiB from the first card to the second: 16 of 17.5 GiB are usable, which is enough."""
    found = plan(GOLDEN, [Movable("x", "a", GIB // 2), Movable("y", "b", 6 * GIB)], LARGE)
    assert [(move.lease, move.source, move.target) for move in found.moves] == [("x", "a", "b")]
    assert (found.before, found.after) == (Fraction(11, 35), Fraction(3, 35))
    assert found.cost == PAUSE_MS + 256
    follow(GOLDEN, found)


def test_nothing_is_planned_at_the_threshold_or_below() -> None:
    """0.15 exactly is not above it."""
    free = {"a": 17 * GIB, "b": 3 * GIB}
    assert phi(free.values(), LARGE) == Fraction(20 - 16, 20)
    assert plan(free, [Movable("x", "b", GIB)], LARGE).moves
    assert not plan(free, [Movable("x", "b", GIB)], LARGE, above=Fraction(1, 5)).moves
    assert not plan({"a": 8 * GIB}, [], LARGE).moves


def test_the_cheapest_move_that_gains_comes_first() -> None:
    """Cost is loading, a pause, and what the owner says; measured loading counts before the guess."""
    dear, cheap = Movable("dear", "a", GIB // 2, cost_ms=900), Movable("cheap", "a", GIB // 2)
    assert plan(GOLDEN, [dear, cheap], LARGE).moves[0].lease == "cheap"
    slow = Movable("slow", "a", GIB // 2, load_ms=9_000)
    assert plan(GOLDEN, [slow, dear], LARGE).moves[0].lease == "dear"


def test_a_lease_goes_only_where_it_may() -> None:
    """Its owner, or its set of devices, decides; nowhere is no plan."""
    assert plan(GOLDEN, [Movable("x", "a", GIB // 2, to=frozenset({"c"}))], LARGE).moves[0].target == "c"
    assert not plan(GOLDEN, [Movable("x", "a", GIB // 2, to=frozenset())], LARGE).moves


def test_a_move_without_room_for_both_copies_is_not_planned() -> None:
    """The old copy is given back only after the new one is loaded."""
    free = {"a": 2 * GIB, "b": 3 * GIB}
    assert not plan(free, [Movable("x", "a", 6 * GIB)], LARGE).moves


def test_an_overdrawn_card_is_left_alone() -> None:
    """What strangers took has to go before moves help there."""
    assert not plan({"a": -GIB, "b": 7 * GIB}, [Movable("x", "a", 5 * GIB)], LARGE).moves


def test_a_plan_stops_when_it_is_good_enough() -> None:
    """Below a tenth, not at the last slab; a fleet is planned for in a moment."""
    free = {f"d{number}": 7 * GIB for number in range(40)}
    leases = [Movable(f"l{number}", f"d{number}", GIB) for number in range(40)]
    found = plan(free, leases, LARGE)
    follow(free, found)
    assert found.after < PLAN_UNTIL
    assert len(found.moves) < 40


@given(
    st.lists(st.integers(-GIB, 12 * GIB), min_size=1, max_size=7),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9 * GIB), st.integers(0, 500)), max_size=12),
    st.sampled_from(CLASSES),
)
@pytest.mark.property
def test_every_move_is_feasible_and_lowers_fragmentation(
    rooms: list[int], leases: list[tuple[int, int, int]], size: int
) -> None:
    """At every step, with both copies charged meanwhile; and no single move that gains is left while it matters."""
    free = {f"d{number}": room for number, room in enumerate(rooms)}
    movable = [
        Movable(f"l{number}", f"d{at % len(rooms)}", memory, cost)
        for number, (at, memory, cost) in enumerate(leases)
    ]  # fmt: skip
    found = plan(free, movable, size)
    end = follow(free, found)
    if found.before <= PLAN_ABOVE:
        assert not found.moves
    elif found.after >= PLAN_UNTIL:
        moved = {move.lease for move in found.moves}
        for lease in movable:
            for target, room in end.items():
                if lease.lease in moved or target == lease.device or room < lease.memory or end[lease.device] < 0:
                    continue
                after = {**end, target: room - lease.memory, lease.device: end[lease.device] + lease.memory}
                assert phi(after.values(), size) >= phi(end.values(), size)
