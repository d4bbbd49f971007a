"""How the capacity of a host is shared: never too much, by weight, and what is lent comes back in bounded time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_monitor.sharing import DEAD_PERMILLE, Held, Want, desired, fair, step, wanted

GIVE_BACK = 2_000


def test_nobody_gets_more_than_he_wants_and_weights_count() -> None:
    """Weighted max-min: who wants little has it, the others share the rest by their weights."""
    assert fair(100, [(1, 10), (1, 100), (2, 100)]) == [10, 30, 60]
    assert fair(100, [(1, 20), (1, 30)]) == [20, 30]
    assert fair(0, [(1, 20)]) == [0]
    assert fair(-5, []) == []


def test_what_is_not_used_is_lent_and_what_nobody_borrows_stays() -> None:
    """An idle lease keeps its guarantee until somebody wants it."""
    idle, greedy = Want(500, 500, 100, 50), Want(300, 900, 100, 900)
    assert desired(800, [idle, greedy]) == [50, 750]
    assert desired(800, [idle, greedy._replace(want=400)]) == [400, 400]
    assert desired(800, [idle, greedy._replace(want=100)]) == [500, 300]


def test_what_is_wanted_follows_from_what_is_used() -> None:
    """Near the limit more, far from it less; unknown is the guarantee."""
    assert wanted(400, 1_000, 400, None) == 400
    assert wanted(400, 1_000, 400, 320) == 800
    assert wanted(400, 1_000, 700, 690) == 1_000
    assert wanted(400, 1_000, 50, 45) == 400
    assert wanted(400, 1_000, 400, 100) == 125
    assert wanted(400, 1_000, 400, 0) == 40


def test_a_lender_has_back_what_is_his_after_the_time_to_give_back() -> None:
    """The borrower's limit falls at once; it counts as before until he has had the time to give back."""
    lender, borrower = Want(500, 500, 100, 500), Want(300, 900, 100, 900)
    held = [Held(50, 0, 0), Held(750, 0, 0)]
    held = step(800, [lender, borrower], held, 10_000, GIVE_BACK)
    assert held == [Held(50, 0, 0), Held(300, 750, 12_000, 10_000)]
    assert step(800, [lender, borrower], held, 11_999, GIVE_BACK) == held
    assert [one.limit for one in step(800, [lender, borrower], held, 12_000, GIVE_BACK)] == [500, 300]


WANTS = st.builds(
    lambda guarantee, more, weight, want: Want(guarantee, guarantee + more, weight, want),
    st.integers(0, 1_000), st.integers(0, 2_000), st.integers(1, 1_000), st.integers(0, 4_000),
)  # fmt: skip


@pytest.mark.property
@given(st.lists(WANTS, max_size=8), st.integers(0, 6_000))
def test_shares_are_never_more_than_there_is(wants: list[Want], capacity: int) -> None:
    """Nor more than anybody may have; a guarantee that is wanted is met where the guarantees fit."""
    found = desired(capacity, wants)
    assert sum(found) <= capacity
    assert all(0 <= got <= one.most for got, one in zip(found, wants, strict=True))
    if sum(one.guarantee for one in wants) <= capacity:
        assert all(got >= min(one.want, one.guarantee) for got, one in zip(found, wants, strict=True))


@pytest.mark.property
@given(st.data())
def test_limits_that_move_never_add_up_to_too_much(data: st.DataObject) -> None:
    """Over any history of wants; and when wants stand still, everybody has his guarantee as far as he wants it after
    the time to give back and two looks."""
    wants = data.draw(st.lists(WANTS, min_size=1, max_size=6))
    capacity = sum(one.guarantee for one in wants) + data.draw(st.integers(0, 2_000))
    held = [Held(one.guarantee, 0, 0) for one in wants]
    now = 0
    for _ in range(data.draw(st.integers(1, 8))):
        wants = [one._replace(want=data.draw(st.integers(0, 4_000))) for one in wants]
        now += data.draw(st.integers(1, 3_000))
        held = step(capacity, wants, held, now, GIVE_BACK)
        assert sum(one.at(now) for one in held) <= capacity
        assert all(0 <= one.limit <= one.at(now) for one in held)
    for _ in range(2 + GIVE_BACK // 1_000):
        now += 1_000
        held = step(capacity, wants, held, now, GIVE_BACK)
        assert sum(one.at(now) for one in held) <= capacity
    for one, want in zip(held, wants, strict=True):
        due = min(want.want, want.guarantee)
        assert one.limit >= due - max(1, want.guarantee) * DEAD_PERMILLE // 1_000, (held, wants)
