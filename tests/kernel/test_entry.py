"""Journal entries on disk."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel.entry import BATCH, BEAT, GENESIS, KINDS, Decision, Entry, chain_hash, decode, encode, pack_decision
from bursar.kernel.errors import CorruptEntry

EVENTS = st.lists(st.tuples(st.text(max_size=3), st.integers(-(2**63), 2**64 - 1), st.binary(max_size=8)), max_size=3)
DECISIONS = st.builds(
    Decision, st.text(max_size=8), st.text(max_size=8), st.integers(0, 2**53), st.binary(max_size=8),
    st.binary(max_size=16), EVENTS.map(tuple), st.integers(0, 60_000),
)  # fmt: skip


@pytest.mark.property
@given(
    st.sampled_from(sorted(KINDS)),
    st.tuples(st.integers(1, 2**40), st.integers(0, 2**40), st.integers(1, 2**53)),
    st.integers(0, 2**53),
    st.lists(DECISIONS, max_size=40),
    st.none() | st.tuples(st.integers(0, 9), st.binary(max_size=4)),
)
def test_entry_comes_back_as_it_was_written(
    kind: str, fence: tuple[int, int, int], time: int, decisions: list[Decision], base: object
) -> None:
    """Whatever the number of decisions, and with or without a base."""
    payload = encode(kind, fence, b"id", time, GENESIS, [pack_decision(row) for row in decisions], base)
    entry = decode(payload)
    assert entry == Entry(kind, *fence, b"id", time, GENESIS, base, decisions)
    assert entry.next_number == fence[2] + len(decisions)
    assert entry.fence == (fence[0], fence[1], fence[2] + len(decisions) - 1)


def test_entry_ends_at_the_time_of_its_last_decision() -> None:
    """Decisions of one entry are made one after the other; without any the entry's own time counts."""
    rows = [pack_decision(Decision("", "", 0, b"", b"", (), after)) for after in (0, 3, 8)]
    assert decode(encode(BATCH, (1, 1, 1), b"", 100, GENESIS, rows)).ended == 108
    assert decode(encode(BEAT, (1, 1, 1), b"", 100, GENESIS)).ended == 100


@pytest.mark.property
@given(st.binary(max_size=60))
def test_other_bytes_are_no_entry(payload: bytes) -> None:
    """Bytes that are not an entry are told as such, and nothing else is raised."""
    with pytest.raises(CorruptEntry):
        decode(payload)


@pytest.mark.parametrize(
    "values",
    [
        [2, "batch", 1, 1, 1, b"", 0, b"", None, []],
        [1, "bitch", 1, 1, 1, b"", 0, b"", None, []],
        [1, "batch", 1, 1, 1, b"", 0, b"", None],
        [1, "batch", 1, 1, 1, b"", 0, b"", None, [[1, 2]]],
        [1, "batch", 1, 1, 1, b"", 0, b"", None, 7],
    ],
)
def test_entry_of_another_form_is_refused(values: list[object]) -> None:
    """An unknown version or kind, a missing field, decisions that are none."""
    with pytest.raises(CorruptEntry):
        decode(msgpack.packb(values))


def test_flipped_bit_shows_in_the_chain() -> None:
    """The hash of an entry's bytes stands for all of them."""
    payload = bytearray(encode(BEAT, (1, 1, 1), b"id", 5, GENESIS))
    before = chain_hash(bytes(payload))
    payload[-3] ^= 1
    assert chain_hash(bytes(payload)) != before
    assert len(before) == len(GENESIS)
