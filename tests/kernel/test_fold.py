"""The folded state and the follower."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel.entry import BATCH, BEAT, EPOCH, GENESIS, RECOVERY, Decision, encode, pack_decision
from bursar.kernel.errors import BrokenChain, CorruptEntry, CorruptSnapshot, VersionMismatch
from bursar.kernel.fold import Folded, Follower
from tests.simulation.toy import BankDecider


class NextVersion(BankDecider):
    version = 2


def paid(amount: int, request_id: str = "s-1", after: int = 0) -> bytes:
    row = Decision("agent", request_id, 0, b"d", b"r", [("paid", "ada", amount)], after)
    return pack_decision(row)


def test_live_and_replayed_decisions_end_in_the_same_state() -> None:
    """The same `record` applies both."""
    live, replayed = Folded(BankDecider()), Folded(BankDecider())
    live.record("agent", "s-1", 0, b"d", b"r", [("paid", "ada", 5)], 103)
    entry = encode(BATCH, (1, 0, 1), b"id", 100, GENESIS, [paid(5, after=3)])
    Follower(replayed).follow(1, entry)
    assert replayed.dump() == live.dump()
    assert replayed.time == 103
    assert replayed.fence == (1, 0, 1)


@pytest.mark.property
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), max_size=20), st.integers(0, 20))
def test_load_of_a_dump_goes_on_like_the_original(payments: list[tuple[int, int]], cut: int) -> None:
    """Wherever the dump was made, the rest of the journal leads to the same state."""
    whole, part = Folded(BankDecider()), Folded(BankDecider())
    time = 0
    for number, (amount, later) in enumerate(payments):
        if number == cut:
            part = Folded.load(BankDecider(), part.dump())
        time += later
        for folded in (whole, part):
            folded.record("agent", f"s-{number}", number // 2, b"d", b"r", [("paid", "ada", amount)], time)
    assert part.dump() == whole.dump()


def test_foreign_snapshots_are_refused() -> None:
    """Bytes that are none, another form, another service or version."""
    folded = Folded(BankDecider())
    for data in (b"", b"\xc1", msgpack.packb([1, 2]), msgpack.packb(7)):
        with pytest.raises(CorruptSnapshot):
            Folded.load(BankDecider(), data)
    with pytest.raises(VersionMismatch):
        Folded.load(NextVersion(), folded.dump())


def follower_at(*entries: bytes) -> Follower:
    follower = Follower(Folded(BankDecider()))
    for sequence, payload in enumerate(entries, 1):
        follower.follow(sequence, payload)
    return follower


def next_of(follower: Follower, kind: str, fence: tuple[int, int, int], time: int = 0, *rows: bytes) -> bytes:
    return encode(kind, fence, b"id", time, follower.head.hash, rows)


def test_entries_that_do_not_follow_are_refused_and_change_nothing() -> None:
    """Another history, missing decisions, another incarnation, time that goes back, no entry at all."""
    follower = follower_at(encode(EPOCH, (1, 1, 1), b"id", 50, GENESIS))
    before = follower.folded.dump()
    for payload in (
        encode(BEAT, (1, 1, 1), b"id", 60, GENESIS),
        next_of(follower, BEAT, (1, 1, 2), 60),
        next_of(follower, BEAT, (2, 1, 1), 60),
        next_of(follower, BEAT, (1, 1, 1), 49),
    ):
        with pytest.raises(BrokenChain):
            follower.follow(2, payload)
    with pytest.raises(CorruptEntry):
        follower.follow(2, b"no entry")
    assert follower.folded.dump() == before
    assert follower.head.sequence == 1


def test_recovery_replaces_what_was_below_it() -> None:
    """With its base if it names one; its number and time may lie anywhere above."""
    follower = follower_at(encode(EPOCH, (1, 1, 1), b"id", 50, GENESIS))
    base = Folded(BankDecider())
    base.record("agent", "s-9", 0, b"d", b"r", [("paid", "ada", 70)], 10)
    follower.follow(2, next_of(follower, RECOVERY, (2, 5, 40), 10), base)
    assert follower.folded.state.accounts == {"ada": 70}
    assert (follower.folded.fence, follower.folded.time) == ((2, 5, 39), 10)
    follower.follow(3, next_of(follower, RECOVERY, (3, 6, 90), 10))
    assert follower.folded.state.accounts == {"ada": 70}
