"""Samples as differences, compressed: nothing is lost in them, nothing counts twice, and nothing harmful gets in."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.bus.codec import decode
from bursar.contracts.monitor import HostSample
from bursar.contracts.monitor_batch import MAX_OPEN, WORDS, HostBatch, Packer, difference, restored
from bursar.contracts.monitor_host import GroupSample, ProcessSample
from bursar.errors import CallerError
from tests.monitor.fleet import BOOT, Desk, full, sample

PLAIN = st.recursive(
    st.integers(-(2**40), 2**40) | st.booleans() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)


def batch_of(*samples: HostSample) -> HostBatch:
    """What comes out of the probe, read as the monitor reads it."""
    packer = Packer()
    packed = [packer.pack(one) for one in samples]
    return decode(HostBatch, packed[-1])[0]


def busy(seq: int) -> HostSample:
    """A sample with many processes, which move a little."""
    groups = tuple(
        GroupSample(group=f"agent.a{n}", processes=4, cpu_milli=100 * n + seq, rss_bytes=10**8) for n in range(8)
    )
    rows = tuple(
        ProcessSample(pid=n + 1, group=f"agent.a{n % 8}", cpu_milli=(seq * n) % 50, rss_bytes=10**7 * n, age_ms=seq)
        for n in range(40)
    )
    return full(seq, uptime_ms=seq * 1_000).model_copy(update={"groups": groups, "processes": rows})


@pytest.mark.property
@given(PLAIN, PLAIN)
def test_a_difference_gives_back_what_it_was_made_from(older: Any, newer: Any) -> None:
    """Whatever the two are, through msgpack."""
    part = msgpack.unpackb(msgpack.packb(difference(older, newer)))
    assert restored(newer, part) == older


def test_a_batch_gives_back_its_samples() -> None:
    """The newest at once, the others the newest first; keys that come and go, lists that grow."""
    samples = [sample(1), busy(2), busy(3), full(4)]
    batch = batch_of(*samples)
    assert (batch.boot, batch.seq, batch.samples) == (BOOT, 4, 4)
    assert [batch.newest, *batch.older()] == samples[::-1]


def test_a_batch_is_much_smaller_than_its_samples() -> None:
    """Four samples as differences take less than half of one as it is."""
    samples = [busy(seq) for seq in range(1, 5)]
    packed = batch_of(*samples).packed
    assert len(packed) < len(msgpack.packb(samples[-1].model_dump(exclude_none=True))) / 2


def test_only_samples_of_one_start_are_packed_together() -> None:
    """A probe that has started anew has another key."""
    other = sample(1, "00000000000000bb")
    assert [batch_of(sample(9), other).newest, *batch_of(sample(9), other).older()] == [other]


def packed(parts: Any, words: bytes = WORDS) -> bytes:
    squeeze = zlib.compressobj(zdict=words)
    return squeeze.compress(msgpack.packb(parts)) + squeeze.flush()


ROW = sample(2).model_dump(exclude_none=True)


@pytest.mark.parametrize(
    "harmful",
    [
        b"nothing of the kind",
        packed([ROW])[:-4],
        packed([ROW], b"other words"),
        packed(ROW),
        packed([]),
        packed([ROW, {}]),
        packed([{**ROW, "seq": 3}]),
        packed([{**ROW, "boot": "00000000000000cc"}]),
        packed([{**ROW, "more": 1}]),
        packed([b"x" * (MAX_OPEN + 1)]),
    ],
)
def test_what_is_no_batch_is_refused_at_the_border(harmful: bytes) -> None:
    """Cut off, of another format, of another key or length, or a bomb: the sender's error, and nothing is decided."""
    with pytest.raises(CallerError) as refused:
        decode(HostBatch, msgpack.packb({"boot": BOOT, "seq": 2, "samples": 1, "packed": harmful}))
    assert refused.value.code == "bad_request"


@pytest.mark.parametrize("part", [{"seq": {"=": 2}}, {"seq": [1]}, {"boot": {"=": "x"}}, [1], {"seq": -1, "cpu": 7}])
def test_an_older_sample_that_cannot_be_read_ends_the_batch(part: Any) -> None:
    """The newest counts all the same."""
    body = {"boot": BOOT, "seq": 2, "samples": 3, "packed": packed([ROW, part, {"seq": -1}])}
    batch = HostBatch.model_validate(body)
    assert (batch.newest.seq, list(batch.older())) == (2, [])


def test_a_difference_that_goes_too_deep_is_none() -> None:
    """However it is nested."""
    part: Any = {"a": 1}
    for _ in range(20):
        part = {"a": part}
    with pytest.raises(ValueError, match=r"deep|fit"):
        restored({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}, part)


def test_samples_that_were_lost_come_with_the_next() -> None:
    """Each counts once; those before the first that is heard of a probe may have been counted by another owner."""
    desk = Desk()
    packer = Packer()
    messages = {seq: packer.pack(sample(seq, uptime_ms=seq * 1_000)) for seq in range(1, 9)}
    for seq in (3, 4, 4, 7, 8):
        desk.observe(decode(HostBatch, messages[seq])[0], "alpha")
    (host,) = desk.status(only="hosts").hosts
    assert (host.samples, host.missed, host.late, host.repeated) == (6, 0, 0, 1)


@pytest.mark.property
@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(0, 3))
def test_no_sample_is_counted_twice(order: list[int], kept: int) -> None:
    """Through loss, repetition and disorder, whatever a batch carries: as many as different ones are known of."""
    desk = Desk()
    packer = Packer(kept)
    messages = {seq: packer.pack(sample(seq, uptime_ms=seq * 1_000)) for seq in range(1, 13)}
    known: set[int] = set()
    for seq in order:
        desk.observe(decode(HostBatch, messages[seq])[0], "alpha")
        known |= {seq} | ({n for n in range(seq - kept, seq) if n > max(known)} if known else set())
    (host,) = desk.status(only="hosts").hosts
    assert host.samples == len(known)


def test_a_batch_can_be_written_as_json() -> None:
    """Its bytes by base64, which has to be one."""
    batch = batch_of(sample(1), sample(2))
    body = {"boot": BOOT, "seq": 2, "samples": 2, "packed": base64.b64encode(batch.packed).decode()}
    assert decode(HostBatch, json.dumps(body).encode())[0].newest == batch.newest
    with pytest.raises(CallerError):
        decode(HostBatch, json.dumps({**body, "packed": "no base64!"}).encode())
