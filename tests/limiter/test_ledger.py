"""The hard guard's ledger against sums over a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_limiter.ledger import GRAINS, Ledger, span_of

pytestmark = pytest.mark.property

steps = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 50)), min_size=1, max_size=60)
holds = st.sampled_from([1, 7, 100, 511, 512, 513, 1000, 5000])


def new(hold: int) -> Ledger:
    """A ledger of no limit to speak of."""
    ledger = Ledger(span_of(hold, hold), 1 << 53)
    ledger.unpaced()
    return ledger


def test_an_amount_counts_for_its_whole_hold() -> None:
    """A grant at t counts until t + hold has passed, and no longer than one grain more."""
    ledger = new(1000)
    ledger.add(100, 5)
    for now in (100, 600, 1099, 1100):
        ledger.age(now)
        assert ledger.used == 5
    ledger.age(1101 + ledger.span.grain)
    assert ledger.used == 0


@given(holds, steps)
def test_used_is_never_less_than_the_sum_and_at_most_a_grain_late(hold: int, history: list[tuple[int, int]]) -> None:
    """Conservative: what is younger than the hold counts; what is a grain older does not."""
    ledger, grants, now = new(hold), [], 0
    for wait, amount in history:
        now += wait
        ledger.add(now, amount)
        grants.append((now, amount))
        ledger.age(now)
        assert ledger.used >= sum(n for at, n in grants if at >= now - hold)
        assert ledger.used <= sum(n for at, n in grants if at > now - hold - ledger.span.grain)


@given(holds, steps, st.integers(1, 200))
def test_free_at_is_the_first_moment(hold: int, history: list[tuple[int, int]], need: int) -> None:
    """Before `free_at` less than the need has left; at that time at least as much, or all."""
    ledger, now = new(hold), 0
    for wait, amount in history:
        now += wait
        ledger.add(now, amount)
    before = ledger.used
    at = ledger.free_at(now, need)
    wanted = min(need, before)
    if at > now:
        ledger.age(at - 1)
        assert before - ledger.used < wanted
    ledger.age(at)
    assert before - ledger.used >= wanted


@given(holds, steps, st.integers(0, 20_000))
def test_entries_restore_the_same_ledger(hold: int, history: list[tuple[int, int]], later: int) -> None:
    """A ledger made from `entries` tells the same at any later time."""
    ledger, now = new(hold), 0
    for wait, amount in history:
        now += wait
        ledger.add(now, amount)
    other = new(hold)
    other.restore(ledger.entries(now))
    assert other.entries(now) == ledger.entries(now)
    for at in (now, now + later):
        ledger.age(at)
        other.age(at)
        assert other.used == ledger.used


@given(holds, holds, steps)
def test_a_ledger_with_another_hold_keeps_what_it_may_not_forget(
    old: int, fresh: int, history: list[tuple[int, int]]
) -> None:
    """Restored into another hold, an amount still counts as long as that hold says."""
    ledger, grants, now = new(old), [], 0
    for wait, amount in history:
        now += wait
        ledger.add(now, amount)
        grants.append((now, amount))
    other = new(fresh)
    other.restore(ledger.entries(now))
    other.age(now)
    assert other.used >= sum(n for at, n in grants if at >= now - min(old, fresh))
    other.add(now, 3)
    other.age(now + fresh + other.span.grain + ledger.span.grain + 1)
    assert other.used == 0


def test_a_refund_leaves_the_grain_of_its_grant() -> None:
    """While the grant counts, a refund makes room at once."""
    ledger = new(1000)
    ledger.add(100, 40)
    ledger.add(500, 2)
    assert ledger.take_back(100, 600, 30) == 30
    assert ledger.used == 12
    assert ledger.entries(600)[0][1] == 10


def test_a_refund_of_an_old_grant_does_not_enter_another_window() -> None:
    """When the grant has left, nothing is taken from a newer one."""
    ledger = new(1000)
    ledger.add(100, 40)
    later = 100 + 2 * ledger.span.hold
    ledger.add(later, 7)
    assert ledger.take_back(100, later, 30) == 0
    assert ledger.used == 7


def test_looking_does_not_change_what_is_told() -> None:
    """`age` moves a view: `entries` of a moment stay the same however far one has looked ahead."""
    ledger = new(1000)
    ledger.add(100, 4)
    before = ledger.entries(100)
    ledger.age(5000)
    assert ledger.used == 0
    assert ledger.entries(100) == before


def test_memory_does_not_grow_with_the_window_or_the_number_of_grants() -> None:
    """A month has as few grains as a second, and those that have left are dropped."""
    ledger = new(30 * 86_400_000)
    for day in range(200):
        for hour in range(24):
            ledger.add(day * 86_400_000 + hour * 3_600_000, 1)
    assert len(ledger.past.grains) <= 2 * GRAINS + 16
    assert len(ledger.past.grains) == len(ledger.past.amounts)
