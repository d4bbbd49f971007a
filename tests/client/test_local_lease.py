"""A held lease: one decision over all dimensions, in integers; what comes back where; when it is over."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from bursar.client.errors import PermitEnded, PermitVoid
from bursar.client.local import FIELDS, NOTHING, UNLIMITED, Hand, HeldLease
from bursar.client.local_book import Book
from bursar.client.local_permit import LocalPermit
from bursar.client.local_rate import RateLease
from bursar.client.local_threads import LockedLease, LockedPermit, LockedRateLease
from bursar.errors import CallerError
from tests.client.threads import in_threads

MS = 1_000_000
SECOND = 1_000 * MS
LIMITED = 0b0011111
HELD = 0b0001000
ADVANCE: Hand = (100, 10_000, 5_000, 10, 1_000_000, 0, 0)


class Time:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


def held(
    make: Callable[..., HeldLease] = HeldLease, *, limited: int = LIMITED, kept: int = HELD, add: Hand = ADVANCE
) -> tuple[Any, Book, Time]:
    """A lease of five dimensions with an advance for one second."""
    time, book = Time(), Book("acme/large")
    lease = make(book, time)
    book.rules(limited, kept)
    book.grant(lease, add, time.now + SECOND, 300 * MS)
    return lease, book, time


def taken(lease: HeldLease, **amounts: int) -> LocalPermit:
    permit = lease.take(**amounts)
    assert permit is not None
    return permit


def test_all_dimensions_are_debited_at_once() -> None:
    """One take takes from every dimension."""
    lease, _, _ = held()
    taken(lease, input_tokens=900, output_tokens=400, usd_micros=70)
    assert lease.hand[:5] == (99, 9_100, 4_600, 9, 999_930)


@pytest.mark.parametrize("name", ["requests", "input_tokens", "output_tokens", "concurrent", "usd_micros"])
def test_one_dimension_that_is_short_takes_nothing_of_any(name: str) -> None:
    """All dimensions or none."""
    lease, _, _ = held()
    before = lease.hand
    assert lease.take(**{name: ADVANCE[FIELDS.index(name)] + 1}) is None
    assert lease.hand == before


def test_what_is_left_can_be_taken_to_the_last_unit() -> None:
    """The bound is exact."""
    lease, _, _ = held()
    taken(lease, input_tokens=10_000)
    assert lease.take(input_tokens=1) is None
    assert lease.take(input_tokens=0) is not None


def test_total_tokens_are_the_sum() -> None:
    """A limit on total tokens counts input and output."""
    lease, _, _ = held(limited=0b0101001, add=(100, 0, 0, 10, 0, 1_000, 0))
    taken(lease, input_tokens=600, output_tokens=300)
    assert lease.take(input_tokens=60, output_tokens=60) is None
    taken(lease, input_tokens=60, output_tokens=40)


def test_an_unlimited_dimension_is_never_in_the_way() -> None:
    """What no object limits may be taken in any amount, again and again."""
    lease, _, _ = held(limited=0b0001001)
    for _ in range(5):
        taken(lease, input_tokens=2**53 - 1)
    assert lease.hand[1] > UNLIMITED // 2


@pytest.mark.parametrize("name", ["requests", "input_tokens", "output_tokens", "concurrent", "usd_micros"])
def test_a_negative_amount_is_refused_and_changes_nothing(name: str) -> None:
    """Nobody gets credit by asking for less than nothing."""
    lease, _, _ = held()
    before = lease.hand
    with pytest.raises(CallerError) as raised:
        lease.take(**{name: -1})
    assert raised.value.code == "bad_amount"
    assert lease.hand == before


def test_an_amount_that_is_no_integer_is_refused() -> None:
    """Ledgers hold integers only."""
    lease, _, _ = held()
    before = lease.hand
    for bad in (1.5, "3", None):
        with pytest.raises(TypeError):
            lease.take(input_tokens=bad)
    permit = taken(lease, input_tokens=5)
    with pytest.raises(TypeError):
        permit.end(input_tokens=0.5)  # type: ignore[arg-type]
    permit.cancel_now()
    assert lease.hand == before


@pytest.mark.parametrize("amount", [-1, 2**53, 2**70])
def test_usage_that_cannot_be_is_refused_and_changes_nothing(amount: int) -> None:
    """A report of less than nothing would be credit, and one of too much could not be told."""
    lease, _, _ = held()
    permit = taken(lease, input_tokens=5)
    before = lease.hand
    with pytest.raises(CallerError, match="bad_amount"):
        permit.end(output_tokens=amount)
    with pytest.raises(CallerError, match="bad_amount"):
        permit.used(network_bytes=amount)
    assert lease.hand == before
    assert (permit.state, permit.usage) == ("held", None)


def test_nothing_is_taken_from_the_end_on() -> None:
    """The holder stops at the end of its lease, to the nanosecond."""
    lease, _, time = held()
    time.now += SECOND - 1
    taken(lease)
    time.now += 1
    assert lease.take() is None


def test_a_pause_longer_than_the_lease_takes_nothing_after_it() -> None:
    """A process that was stopped finds its lease over."""
    lease, _, time = held()
    time.now += 3_600 * SECOND
    assert lease.take() is None


def test_a_permit_is_void_after_its_send_deadline() -> None:
    """A pause between the permit and the call must not end with the call."""
    lease, _, time = held()
    permit = taken(lease)
    time.now += 300 * MS
    assert permit.expired
    with pytest.raises(PermitVoid):
        permit.sent()
    permit.cancel_now()
    with pytest.raises(PermitEnded):
        permit.sent()


def test_unused_comes_back_in_the_same_period() -> None:
    """The limiter still holds it for this lease."""
    lease, _, _ = held()
    with taken(lease, input_tokens=900, output_tokens=400) as permit:
        permit.used(input_tokens=870, output_tokens=312)
    assert lease.hand[:4] == (99, 9_130, 4_688, 10)


def test_usage_beyond_the_reservation_is_taken_from_the_hand_and_may_owe() -> None:
    """Overage is charged at once, and nothing is taken until it is covered."""
    lease, book, _ = held()
    taken(lease, output_tokens=5_000).end(output_tokens=5_600)
    assert lease.hand[2] == -600
    assert lease.take() is None
    book.grant(lease, (0, 0, 700, 0, 0, 0, 0), lease.until, lease.good_for)
    taken(lease, output_tokens=100)


def test_a_permit_ends_once() -> None:
    """The second end changes nothing."""
    lease, _, _ = held()
    permit = taken(lease, input_tokens=10)
    permit.end(input_tokens=5)
    before = lease.hand
    for again in (permit.end, permit.cancel_now):
        with pytest.raises(PermitEnded):
            again()
    assert lease.hand == before


def test_a_block_that_raises_before_sending_gives_all_back() -> None:
    """What was never sent was never charged."""
    lease, _, _ = held()
    before = lease.hand
    with pytest.raises(RuntimeError), taken(lease, input_tokens=10):
        raise RuntimeError
    assert lease.hand == before


def test_a_block_that_raises_after_sending_counts_in_full() -> None:
    """The outcome of a call that was sent is unknown."""
    lease, _, _ = held()
    permit = taken(lease, input_tokens=10)
    permit.sent()
    with pytest.raises(RuntimeError), permit:
        raise RuntimeError
    assert lease.hand[:4] == (99, 9_990, 5_000, 10)


async def test_a_permit_can_be_awaited_like_any_other() -> None:
    """Code need not know where its permit comes from."""
    lease, _, _ = held()
    async with taken(lease, input_tokens=900) as permit:
        permit.sent()
        settled = await permit.settle(input_tokens=100)
    assert settled.outcome == "used"
    assert (await taken(lease).cancel_soon()).outcome == "cancelled"
    assert lease.hand[:2] == (99, 9_900)


def test_a_refund_of_an_earlier_period_goes_to_the_limiter_only() -> None:
    """It must leave the window in which it was charged, and not be spent in another."""
    lease, book, time = held()
    permit = taken(lease, input_tokens=900)
    first = book.report(lease, time.now)
    assert first.hand[:2] == (99, 9_100)
    permit.end(input_tokens=100)
    assert lease.hand[1] == 9_100
    second = book.report(lease, time.now)
    assert second.back == {first.period: (0, 800, 0, 0, 0, 0, 0)}
    assert book.report(lease, time.now).back == {}


def test_a_refund_after_the_lease_has_lapsed_goes_to_the_limiter_only() -> None:
    """What a lapsed lease had in hand has been charged."""
    lease, book, time = held()
    permit = taken(lease, input_tokens=900)
    book.lapse(lease, time.now)
    permit.end(input_tokens=100)
    assert lease.hand[:5] == (0, 0, 0, 1, 0)
    assert book.report(lease, time.now).back == {0: (0, 800, 0, 0, 0, 0, 0)}


def test_calls_in_flight_are_told_and_come_back_in_any_period() -> None:
    """A level has no window: a slot is free as soon as the call has ended."""
    lease, book, time = held()
    permit = taken(lease)
    assert book.report(lease, time.now).open[3] == 1
    assert book.report(lease, time.now).open[3] == 1
    permit.end()
    assert lease.hand[3] == 10
    assert book.report(lease, time.now).open[3] == 0


def test_a_place_that_comes_back_after_a_lapse_is_not_in_the_next_hand() -> None:
    """For the limiter it is free as soon as it hears that the call has ended: another holder may have it."""
    lease, book, time = held()
    permit = taken(lease)
    time.now += SECOND
    book.lapse(lease, time.now)
    permit.end()
    assert book.report(lease, time.now).open[3] == 0
    book.grant(lease, (1, 0, 0, 2, 0, 0, 0), time.now + SECOND, 300 * MS)
    assert (lease.hand[3], book.lent[3]) == (2, 2)


def test_produced_output_counts_until_the_call_ends() -> None:
    """Where output is charged as it is produced, the report tells what was produced, and the rest comes back."""
    lease, book, time = held(kept=0b0001100)
    permit = taken(lease, output_tokens=400)
    assert book.report(lease, time.now).open[2] == 400
    permit.end(output_tokens=300)
    assert lease.hand[2] == 4_700
    told = book.report(lease, time.now)
    assert (told.done[2], told.open[2], told.back) == (300, 0, {})
    assert book.lent[2] == 4_700


def test_a_call_that_never_ends_times_out() -> None:
    """It counts as used in full, and no longer as in flight; what is told later can only add."""
    lease, book, time = held(kept=0b0001100)
    permit = taken(lease, output_tokens=400)
    book.report(lease, time.now)
    time.now += book.ttl
    told = book.report(lease, time.now)
    assert (told.open, told.done[2], book.timed_out) == (NOTHING, 400, 1)
    permit.end(output_tokens=450)
    assert lease.hand[2:4] == (4_550, 9)
    assert book.report(lease, time.now).done[2] == 50


def test_what_is_given_up_is_told_apart_from_what_was_taken() -> None:
    """Only what is not needed comes back to the limiter."""
    lease, book, time = held()
    taken(lease, input_tokens=900)
    told = book.report(lease, time.now, (50, 20_000, 0, 4, 0, 7, 0))
    assert told.unused == (50, 9_100, 0, 4, 0, 0, 0)
    assert told.hand == (49, 0, 5_000, 5, 1_000_000, 0, 0)
    assert told.taken[:5] == (1, 900, 0, 1, 0)
    assert lease.hand[:2] == (49, 0)


def sizeof(value: Any, seen: set[int]) -> int:
    """Bytes of a lease and all that is its own: not its class, its clock, its book, or what the interpreter shares."""
    if id(value) in seen or (type(value) is int and -5 <= value <= 256):
        return 0
    seen.add(id(value))
    own = (getattr(value, name) for name in HeldLease.__slots__ if name not in ("book", "clock"))
    return sys.getsizeof(value) + (sum(sizeof(part, seen) for part in own) if isinstance(value, HeldLease) else 0)


def test_an_idle_lease_is_small() -> None:
    """At most 400 bytes for a lease over five dimensions that waits to be used; and with its account, before it is."""
    lease, _, _ = held()
    assert sizeof(lease, {id(UNLIMITED)}) <= 400


def test_threads_take_no_more_than_there_is() -> None:
    """Under its lock a lease keeps its bound, whatever the threads do at the same time."""
    lease, book, time = held(LockedLease, add=(50_000, 10_000, 0, 8, 0, 0, 0))
    got: list[int] = []

    def work() -> None:
        mine = 0
        for turn in range(4_000):
            permit = lease.take(input_tokens=3)
            if permit is not None:
                mine += 2 + turn % 2
                permit.end(input_tokens=2 + turn % 2)
        got.append(mine)

    in_threads(work)
    assert lease.hand[1] == 10_000 - sum(got) >= 0
    assert lease.hand[3] == 8
    assert book.report(lease, time.now).open == NOTHING


def test_a_rate_lease_never_passes_more_than_its_burst_and_rate() -> None:
    """b + r·dt, to the unit."""
    lease, _, time = held(RateLease, limited=0b0000011, add=(10_000, 10**9, 0, 0, 0, 0, 0))
    lease.pace((0, 1_000, 0, 0, 0, 0, 0), (0, 50, 0, 0, 0, 0, 0))
    lease.until = 1 << 62
    assert lease.take(input_tokens=51) is None
    taken(lease, input_tokens=50)
    time.now += MS - 1
    assert lease.take(input_tokens=1) is None
    time.now += 1
    taken(lease, input_tokens=1)
    time.now += 10 * SECOND
    assert lease.take(input_tokens=51) is None
    taken(lease, input_tokens=50)
    assert lease.take(input_tokens=1) is None


def test_threads_keep_the_pace_together() -> None:
    """Of a lease with a lock and a pace they take b + r·dt, to the unit; what calls did not use paces nothing."""
    lease, book, time = held(LockedRateLease, limited=0b0001011, add=(10**6, 10**6, 0, 500, 0, 0, 0))
    lease.pace((0, 1_000, 0, 0, 0, 0, 0), (0, 400, 0, 0, 0, 0, 0))
    lease.until = 1 << 62
    got: list[LocalPermit] = []

    def work() -> None:
        for _ in range(300):
            permit = lease.take(input_tokens=1)
            if permit is not None:
                got.append(permit)
                permit.end(input_tokens=0)

    for more in (400, 10):
        before = len(got)
        in_threads(work)
        assert len(got) == before + more
        time.now += 10 * MS
    assert (lease.hand[1], lease.hand[3]) == (10**6, 500)
    assert {type(permit) for permit in got} == {LockedPermit}
    assert book.report(lease, time.now).open == NOTHING


def test_a_lease_that_has_nothing_is_small_with_its_account() -> None:
    """A process that knows many budgets and uses few pays for the few."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    made = [HeldLease(Book("acme/large")) for _ in range(500)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / len(made) <= 400
