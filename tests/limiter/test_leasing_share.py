"""Shares of a rate between leases: max-min fair by weight, down the tree, at linked objects, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar_limiter.leasing_share import fill
from tests.limiter.fleet import Desk
from tests.limiter.lease_holder import Holder, hand

WANTS = st.lists(st.tuples(st.integers(1, 1_000), st.integers(0, 10_000)), min_size=1, max_size=12)


@pytest.mark.property
@given(st.integers(0, 50_000), WANTS)
def test_shares_are_max_min_fair(capacity: int, wants: list[tuple[int, int]]) -> None:
    """Nobody has more than it wants, nothing is left over while somebody wants more, and whoever has less per weight
    than another has all it wants (but for rounding)."""
    shares = fill(capacity, wants)
    assert sum(shares) <= capacity
    assert all(share <= want for share, (_, want) in zip(shares, wants, strict=True))
    assert sum(shares) >= min(capacity, sum(want for _, want in wants)) - len(wants)
    for share, (weight, want) in zip(shares, wants, strict=True):
        if share < want:
            others = zip(shares, wants, strict=True)
            slack = len(wants) + 1
            assert all((other - slack) * weight <= (share + slack) * their for other, (their, _) in others)


def paced(name: str, limit: int, parent: str | None = None, **more: Any) -> BudgetSpec:
    limits: Any = {"input_tokens": LimitSpec(limit=limit, window_ms=60_000)}
    return BudgetSpec(name=name, limits=limits, parent=parent, **more)


def saturate(desk: Desk, holders: list[Holder], seconds: int = 4) -> list[int]:
    """Everybody wants everything; the rates at the end."""
    for holder in holders:
        holder.ask(hand(input_tokens=900), hand(input_tokens=5_000))
    for at in range(desk.now + 500, desk.now + seconds * 1000, 500):
        desk.advance(at)
        for holder in holders:
            while holder.take(input_tokens=25) is not None:
                pass
            holder.renew(hand(input_tokens=900), hand(input_tokens=5_000))
            desk.check()
    return [holder.told["rates"][1] for holder in holders]


def test_children_share_by_weight() -> None:
    """Of what their parent has; and the leases of one child share that."""
    desk = Desk(paced("org", 60_000), paced("b", 60_000, "org", weight=300), paced("c", 60_000, "org", weight=100))
    rates = saturate(desk, [Holder(desk, "one"), Holder(desk, "two"), Holder(desk, "three", "c")])
    assert rates[0] == pytest.approx(345, abs=10)
    assert rates[1] == pytest.approx(345, abs=10)
    assert rates[2] == pytest.approx(230, abs=10)


def test_a_child_is_bound_by_its_own_limit_and_leaves_the_rest() -> None:
    """What it cannot use the others have."""
    desk = Desk(paced("org", 60_000), paced("b", 12_000, "org"), paced("c", 60_000, "org"))
    rates = saturate(desk, [Holder(desk, "one"), Holder(desk, "two", "c")])
    assert rates[0] == pytest.approx(184, abs=5)
    assert rates[1] == pytest.approx(736, abs=10)


def test_leases_of_different_trees_share_a_linked_object() -> None:
    """A host, a destination, a provider's key: beside the tree, and a limit all the same."""
    desk = Desk(paced("host", 60_000), paced("b", 60_000, also=("host",)), paced("c", 60_000, also=("host",)))
    rates = saturate(desk, [Holder(desk, "one"), Holder(desk, "two", "c")])
    assert sum(rates) <= 920
    assert min(rates) >= 400


def test_a_purse_is_lent_and_refunded() -> None:
    """Money has no window: what a call did not use comes back whenever it ends."""
    purse = BudgetSpec(name="purse", kind="purse", limits={"usd_micros": LimitSpec(limit=1_000, window_ms=0)})
    desk = Desk(purse, paced("b", 60_000, also=("purse",)))
    holder = Holder(desk)
    holder.ask(hand(input_tokens=500, usd_micros=700))
    assert holder.lease.hand[4] == 700
    desk.refused("purse", usd_micros=301)
    permit = holder.take(usd_micros=400)
    assert permit is not None
    desk.advance(500)
    holder.renew(unused=hand(usd_micros=300))
    permit.end(usd_micros=150)
    desk.advance(900)
    holder.renew()
    desk.granted("purse", usd_micros=850)
    desk.refused("purse", usd_micros=1)
    desk.check()
    desk.state = desk.decider.load(desk.dump())
    desk.check()


def test_a_lowered_pace_leaves_leases_their_rates_until_they_are_renewed() -> None:
    """The limits hold anyway; the next advance is smaller."""
    desk = Desk(paced("b", 60_000))
    holder = Holder(desk)
    holder.ask(hand(input_tokens=500), hand(input_tokens=900))
    desk.state.budgets["b"].meters[0].tune(desk.now, 300)
    desk.advance(desk.now + 500)
    holder.renew(hand(input_tokens=500), hand(input_tokens=900))
    assert holder.told["rates"][1] <= 280


def test_a_frozen_object_lends_nothing() -> None:
    """Whatever the demand; and what there is may be given back."""
    desk = Desk(paced("b", 60_000))
    holder = Holder(desk)
    desk.state.budgets["b"].meters[0].freeze(desk.now + 5_000)
    holder.ask(hand(input_tokens=500), hand(input_tokens=900))
    assert holder.lease.hand[1] == 0


def test_every_event_can_be_told_in_words() -> None:
    """For an operator who reads the journal."""
    desk = Desk(paced("b", 60_000))
    holder = Holder(desk)
    holder.ask(hand(input_tokens=500), hand(input_tokens=900))
    holder.renew(hand(input_tokens=100))
    desk.advance(60_000)
    told = [desk.decider.describe(event) for event in desk.journal]
    for words in ("lent 1.1.", "report 1: spent", "counts as spent", "open calls count as over"):
        assert any(words in line for line in told), words
