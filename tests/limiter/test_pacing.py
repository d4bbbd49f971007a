"""The pacing bucket and the guard of a small provider bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_limiter.pacing import Burst, Pace
from tests.oracle.history import Limit
from tests.oracle.providers import Row, bucket

pytestmark = pytest.mark.property


LIMIT = 1000


def pace(limit: int = LIMIT, window: int = 1000, u: int = 900, burst: int = 50) -> Pace:
    return Pace(limit, window, u, burst)


def test_a_full_bucket_lets_its_burst_go_at_once() -> None:
    """Capacity is the burst's share of the limit; then the rate is the pace's share."""
    bucket = pace()
    bucket.owe(0, 50, LIMIT)
    assert not bucket.ready(0, 1)
    assert not bucket.ready(1, 1)
    assert bucket.ready(2, 1)


def test_a_request_larger_than_the_bucket_goes_when_it_is_full_and_into_debt() -> None:
    """Never refused for ever: it takes all of its cost, and those after it wait."""
    bucket = pace()
    assert bucket.ready(0, 400)
    bucket.owe(0, 400, LIMIT)
    assert bucket.debt(0) == 350
    assert bucket.ready_at(0, 1) == 390
    assert bucket.ready_at(0, 400) == 445


def test_a_refund_comes_back_up_to_the_cap() -> None:
    """What was not used may be used by others at once, but no more than a burst."""
    bucket = pace()
    bucket.owe(0, 400, LIMIT)
    bucket.give_back(0, 390)
    assert bucket.ready(0, 40)
    bucket.give_back(0, 390)
    assert bucket.level_at(0) == bucket.cap


@given(
    st.integers(1, 10**7),
    st.integers(1, 10**8),
    st.integers(1, 1000),
    st.integers(1, 1000),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), max_size=8),
    st.integers(1, 10**6),
)
def test_ready_at_is_the_first_ms(
    limit: int, window: int, u: int, burst: int, takes: list[tuple[int, int]], amount: int
) -> None:
    """Not ready a millisecond earlier, ready then, in exact integers."""
    bucket, now = Pace(limit, window, u, burst), 0
    for wait, taken in takes:
        now += wait
        bucket.owe(now, taken, limit)
    at = bucket.ready_at(now, amount)
    assert bucket.ready(at, amount)
    assert at == now or not bucket.ready(at - 1, amount)


def test_a_burst_of_the_whole_capacity_passes_when_nothing_went_before() -> None:
    """Even with late charges the provider's full bucket holds one request of its capacity."""
    guard = Burst(limit=1000, window_ms=1000, capacity=100, jitter_ms=50)
    assert guard.fits(0, 100)
    guard.take(0, 100)
    assert not guard.fits(0, 1)
    assert guard.fits_at(0, 1) == 52


@given(
    st.integers(10, 500),
    st.integers(0, 300),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 500), st.integers(0, 1000)), max_size=60),
)
def test_a_small_provider_bucket_never_runs_dry(capacity: int, jitter: int, asks: list[tuple[int, int, int]]) -> None:
    """Whatever fits is charged anywhere within J of its grant: the provider's bucket has it."""
    guard, charges, now = Burst(1000, 1000, capacity, jitter), [], 0
    for wait, amount, late in asks:
        now += wait
        if amount <= capacity:
            now = max(now, guard.fits_at(now, amount)) if late % 2 else now
            if guard.fits(now, amount):
                guard.take(now, amount)
                charges.append((now * 1000 + jitter * late, amount))
    provider = Limit("b", "tokens", 1000, 1000 * 1000, capacity)
    assert not list(bucket(provider, [Row(at, amount) for at, amount in sorted(charges)]))


@given(st.integers(1, 300), st.integers(0, 100), st.lists(st.integers(1, 300), max_size=10), st.integers(1, 300))
def test_fits_at_is_the_first_ms(capacity: int, jitter: int, taken: list[int], amount: int) -> None:
    """Exact for every amount that the capacity can hold."""
    guard = Burst(777, 1009, capacity, jitter)
    for one in taken:
        guard.take(0, min(one, capacity))
    amount = min(amount, capacity)
    at = guard.fits_at(0, amount)
    assert guard.fits(at, amount)
    assert at == 0 or not guard.fits(at - 1, amount)
