"""Room for one request by moving leases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_gpu_manager.compaction import MAX_COST_MS, cheapest, room_for
from bursar_gpu_manager.defrag import Movable

GIB = 1 << 30


def on_one_host(free: dict[str, int]) -> dict[str, str]:
    return dict.fromkeys(free, "h")


def test_the_cheapest_lease_goes_where_least_is_left_over() -> None:
    """Two leases would do; the one that costs less moves, to the smallest hole that holds it."""
    free = {"a": 6 * GIB, "b": 3 * GIB, "c": 2 * GIB}
    leases = [Movable("dear", "a", 2 * GIB, cost_ms=5_000), Movable("cheap", "a", 2 * GIB)]
    found = room_for(free, on_one_host(free), leases, 8 * GIB)
    assert found is not None
    assert found.cards == ("a",)
    assert [(move.lease, move.source, move.target) for move in found.moves] == [("cheap", "a", "c")]


def test_nothing_moves_for_a_request_that_fits() -> None:
    """The card is named, and no lease."""
    free = {"a": 8 * GIB}
    found = room_for(free, on_one_host(free), [Movable("x", "a", GIB)], 8 * GIB)
    assert found is not None
    assert (found.cards, found.moves, found.cost) == (("a",), (), 0)


def test_there_is_no_plan_without_room_elsewhere() -> None:
    """Nor with leases that may not go where there is room, nor at too high a cost, nor on cards not allowed."""
    free = {"a": 6 * GIB, "b": GIB}
    two = [Movable("x", "a", 2 * GIB)]
    assert room_for(free, on_one_host(free), two, 8 * GIB) is None
    wide = {"a": 6 * GIB, "b": 4 * GIB}
    assert room_for(wide, on_one_host(wide), two, 8 * GIB) is not None
    assert room_for(wide, on_one_host(wide), [two[0]._replace(to=frozenset({"c"}))], 8 * GIB) is None
    assert room_for(wide, on_one_host(wide), [two[0]._replace(load_ms=MAX_COST_MS)], 8 * GIB) is None
    assert room_for(wide, on_one_host(wide), two, 8 * GIB, allowed={"b"}) is None
    assert room_for(wide, on_one_host(wide), [Movable("x", "gone", 2 * GIB)], 8 * GIB) is None


def test_a_set_is_cleared_on_one_host() -> None:
    """The leases of its cards go to other cards, not to each other."""
    free = {"a0": 6 * GIB, "a1": 6 * GIB, "b0": 2 * GIB, "b1": 7 * GIB, "b2": 2 * GIB}
    hosts = {name: name[0] for name in free}
    leases = [Movable("x", "a0", 2 * GIB), Movable("y", "a1", 2 * GIB)]
    found = room_for(free, hosts, leases, 8 * GIB, cards=2)
    assert found is not None
    assert found.cards == ("a0", "a1")
    assert sorted(move.target for move in found.moves) == ["b0", "b2"]
    assert room_for(free, hosts, leases, 8 * GIB, cards=3) is None


def test_what_is_not_needed_stays() -> None:
    """The cheap one alone is too small, the large one alone is enough."""
    small, large = Movable("small", "a", GIB, load_ms=1), Movable("large", "a", 4 * GIB, load_ms=9_000)
    assert [one.lease for one in cheapest([large, small], 4 * GIB)] == ["large"]
    assert cheapest([small], 0) == []


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 9), st.integers(0, 300)), max_size=12),
    st.integers(1, 14),
    st.integers(1, 2),
)
@pytest.mark.property
def test_a_plan_is_feasible_in_its_order_and_ends_with_room(
    rooms: list[int], rows: list[tuple[int, int, int]], memory: int, cards: int
) -> None:
    """Both copies are charged while a lease moves; afterwards every card of the set has room."""
    free = {f"c{number}": room * GIB for number, room in enumerate(rooms)}
    hosts = {name: "h0" if name[1] in "0123" else "h1" for name in free}
    leases = [
        Movable(f"l{number}", f"c{at % len(rooms)}", size * GIB, cost) for number, (at, size, cost) in enumerate(rows)
    ]
    found = room_for(free, hosts, leases, memory * GIB, cards)
    if found is None:
        assert cards > 1 or all(room < memory for room in rooms)
        return
    for move in found.moves:
        assert free[move.target] >= move.memory
        assert move.target not in found.cards
        free[move.target] -= move.memory
        free[move.source] += move.memory
    assert len(set(found.cards)) == cards
    assert len({hosts[card] for card in found.cards}) == 1
    assert all(free[card] >= memory * GIB for card in found.cards)
