"""Placement over all cards."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_gpu_manager.contention import Load
from bursar_gpu_manager.fleet import Ask, Card, Fleet, Role, role_for
from bursar_gpu_manager.pools import LARGE
from bursar_gpu_manager.thermal import Heat

GIB = 1 << 30


def fleet(**rooms: int) -> Fleet:
    """Cards by name and GiB of room; ``a0`` is card 0 of host a."""
    found = Fleet()
    for name, room in rooms.items():
        found.put(Card(name, name[0], int(name[1:])))
        found.change(name, room * GIB, usable=True)
    return found


def pair(numa: tuple[int, ...], link: tuple[int, ...] | None = None, host: str = "h") -> Fleet:
    """One host with a card of 20 GiB per entry."""
    found = Fleet()
    for number, node in enumerate(numa):
        found.put(Card(f"{host}{number}", host, number, numa=node, link=-1 if link is None else link[number]))
        found.change(f"{host}{number}", 20 * GIB, usable=True)
    return found


def test_the_smallest_hole_that_fits_is_taken() -> None:
    """Best fit; spread takes the largest."""
    cards = fleet(a0=40, b0=12, c0=11, d0=9)
    assert cards.choose(Ask(10 * GIB)) == ("c0",)
    assert cards.choose(Ask(10 * GIB, policy="spread")) == ("a0",)
    assert cards.choose(Ask(41 * GIB)) is None


def test_a_hole_that_is_no_loss_for_large_requests_is_better() -> None:
    """2 GiB out of 8 breaks a slab of 4; out of 11 it does not, and leaves more over."""
    cards = fleet(a0=8, b0=11)
    assert cards.choose(Ask(2 * GIB)) == ("b0",)
    assert fleet(a0=8, b0=31).choose(Ask(2 * GIB)) == ("a0",)


def test_nothing_goes_to_a_card_that_cannot_be_used() -> None:
    """Not usable, hot, overdrawn, or not among the allowed."""
    cards = fleet(a0=10, b0=10)
    cards.change("a0", 10 * GIB, usable=False)
    assert cards.choose(Ask(GIB)) == ("b0",)
    cards.change("b0", 10 * GIB, usable=True, heat=Heat.HOT)
    assert cards.choose(Ask(GIB)) is None
    cards.change("b0", -5 * GIB, usable=True)
    assert cards.choose(Ask(0)) is None
    assert fleet(a0=10, b0=10).choose(Ask(GIB), allowed=["b0", "zz"]) == ("b0",)
    assert Fleet().choose(Ask(GIB)) is None


def test_heat_goes_before_load_and_load_before_space() -> None:
    """A warm card is the last choice, a saturated one the last but that."""
    cards = fleet(a0=11, b0=12, c0=40)
    cards.change("a0", 11 * GIB, usable=True, heat=Heat.WARM)
    cards.change("b0", 12 * GIB, usable=True, load=Load.SATURATED)
    assert cards.choose(Ask(10 * GIB)) == ("c0",)
    cards.change("c0", GIB, usable=True)
    assert cards.choose(Ask(10 * GIB)) == ("b0",)
    cards.change("b0", GIB, usable=True)
    assert cards.choose(Ask(10 * GIB)) == ("a0",)


@pytest.mark.parametrize(
    ("memory", "purpose", "role"),
    [
        (LARGE, "", "primary"),
        (GIB, "", "any"),
        (GIB, "weights", "primary"),
        (GIB, "kv_cache", "primary"),
        (GIB, "inference", "primary"),
        (GIB, "loading", "secondary"),
        (8 * LARGE, "preprocessing", "secondary"),
    ],
)
def test_work_has_its_role(memory: int, purpose: str, role: Role) -> None:
    """Large models and inference on primary cards, loading and preprocessing on secondary ones."""
    assert role_for(memory, purpose) == role


def test_a_card_meant_for_other_work_is_taken_only_when_there_is_no_other() -> None:
    """A role is a preference; a card without a role is for all."""
    cards = Fleet()
    cards.put(Card("p", "h", 0, "primary"))
    cards.put(Card("s", "h", 1, "secondary"))
    for name in ("p", "s"):
        cards.change(name, 10 * GIB, usable=True)
    assert cards.choose(Ask(GIB, role="secondary")) == ("s",)
    assert cards.choose(Ask(GIB, role="primary")) == ("p",)
    assert cards.choose(Ask(GIB)) == ("p",)
    cards.change("p", 0, usable=True)
    assert cards.choose(Ask(GIB, role="primary")) == ("s",)


def test_others_of_the_group_are_avoided() -> None:
    """On the card, or on the host; strictly means never."""
    cards = fleet(a0=10, a1=20, b0=40)
    assert cards.choose(Ask(GIB, apart=["a0"])) == ("a1",)
    assert cards.choose(Ask(GIB, apart=["a"])) == ("b0",)
    assert cards.choose(Ask(GIB, apart=["a", "b", "nobody"])) == ("a0",)
    assert cards.choose(Ask(GIB, apart=["a", "b"], strictly=True)) is None


def test_a_set_is_of_one_host_unless_it_may_be_of_several() -> None:
    """The host that is left with least; over hosts simply the best ones."""
    cards = fleet(a0=20, b0=12, b1=30, c0=11, c1=13, d0=10)
    assert cards.choose(Ask(10 * GIB, 2)) == ("c0", "c1")
    assert cards.choose(Ask(10 * GIB, 2, one_host=False)) == ("d0", "c0")
    assert cards.choose(Ask(12 * GIB, 2)) == ("b0", "b1")
    assert cards.choose(Ask(14 * GIB, 2)) is None
    assert cards.choose(Ask(14 * GIB, 2, one_host=False)) == ("a0", "b1")
    assert cards.choose(Ask(10 * GIB, 9)) is None


def test_a_set_is_as_near_as_there_is_one() -> None:
    """One island on one node, then an island, then a node, then the host."""
    assert pair((0, 0, 1, 1), (0, 1, 0, 0)).choose(Ask(GIB, 2)) == ("h2", "h3")
    assert pair((0, 1, 2, 3), (-1, 0, -1, 0)).choose(Ask(GIB, 2)) == ("h1", "h3")
    assert pair((0, 1, 1, -1)).choose(Ask(GIB, 2)) == ("h1", "h2")
    assert pair((0, 1, 2, 3)).choose(Ask(GIB, 2)) == ("h0", "h1")


def test_what_has_to_be_near_is_not_taken_from_farther() -> None:
    """And an unknown node is no common node."""
    assert pair((0, 1, 2, 3)).choose(Ask(GIB, 2, numa="same")) is None
    assert pair((-1, -1)).choose(Ask(GIB, 2, numa="same")) is None
    assert pair((0, 0)).choose(Ask(GIB, 2, link="same")) is None
    assert pair((0, 1, 1), (0, 0, 1)).choose(Ask(GIB, 2, link="same")) == ("h0", "h1")
    assert pair((0, 1, 1), (0, 0, 1)).choose(Ask(GIB, 2, link="same", numa="same")) is None


def test_a_warm_set_is_not_taken_for_being_near() -> None:
    """Heat goes first; when only a warm set is there, it is taken."""
    cards = pair((0, 0, 1, 2))
    cards.change("h0", 20 * GIB, usable=True, heat=Heat.WARM)
    assert cards.choose(Ask(GIB, 2)) == ("h1", "h2")
    for name in ("h1", "h2"):
        cards.change(name, 0, usable=True)
    assert cards.choose(Ask(GIB, 2)) == ("h3", "h0")
    assert cards.choose(Ask(GIB, 2, one_host=False)) == ("h3", "h0")


def test_equal_states_give_equal_choices_whatever_came_before() -> None:
    """The order in which cards came, went and came again does not matter."""
    names = [f"{host}{number}" for host in "abcd" for number in range(4)]
    asks = [Ask(GIB), Ask(GIB, 3), Ask(2 * GIB, 2, one_host=False), Ask(GIB, policy="spread")]
    found = set()
    for seed in range(6):
        order = names[:]
        random.Random(seed).shuffle(order)
        cards = fleet(**dict.fromkeys(order, 9))
        for name in order[:5]:
            cards.remove(name)
        for name in order[:5]:
            cards.put(Card(name, name[0], int(name[1:])))
            cards.put(cards.cards[name])
            cards.change(name, 9 * GIB, usable=True)
        assert len(cards) == 16
        found.add(tuple(cards.choose(ask) for ask in asks))
    assert len(found) == 1


ROWS = st.lists(
    st.tuples(
        *(st.integers(-GIB, 90 * GIB), st.booleans(), st.sampled_from(Heat), st.sampled_from(Load)),
        *(st.sampled_from(["any", "primary", "secondary"]), st.integers(-1, 1), st.integers(-1, 1), st.integers(0, 3)),
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS, st.integers(1, 60 * GIB), st.integers(1, 3), st.booleans(), st.sampled_from(["any", "same"]))
@pytest.mark.property
def test_a_choice_is_always_possible_and_none_is_missed(
    rows: list[tuple[int, bool, Heat, Load, Role, int, int, int]], memory: int, count: int, one: bool, numa: str
) -> None:
    """Different cards with room, usable, not hot, as near as asked; None only when there is no such set."""
    cards = Fleet()
    for number, (room, usable, heat, load, role, node, link, host) in enumerate(rows):
        cards.put(Card(f"c{number}", f"h{host}", number, role, node, link))
        cards.change(f"c{number}", room, usable, heat, load)
    ask = Ask(memory, count, one, numa="same" if numa == "same" else "any")
    found = cards.choose(ask)
    good = [
        (f"h{at}", node, f"c{number}")
        for number, (room, usable, heat, _, _, node, _, at) in enumerate(rows)
        if usable and room >= memory and heat is not Heat.HOT
    ]
    near = ask.numa == "same" and count > 1 and one
    groups: dict[tuple[str, int], int] = {}
    for at, node, _ in good:
        place = (at if one and count > 1 else "", node if near else 0)
        if not (near and node < 0):
            groups[place] = groups.get(place, 0) + 1
    assert (found is not None) == any(size >= count for size in groups.values())
    if found is not None:
        chosen = [row for row in good if row[2] in found]
        assert len(set(found)) == len(chosen) == count
        assert not one or len({at for at, _, _ in chosen}) == 1
        assert not near or len({node for _, node, _ in chosen}) == 1
