"""Snapshots as chunks and a manifest."""

from __future__ import annotations

import zlib

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel.errors import CorruptSnapshot
from bursar.kernel.snapshot import CHUNK_BYTES, Manifest, decode_manifest, join, manifest_of, split


def manifest_for(data: bytes, chunks: int) -> Manifest:
    return manifest_of("one", 7, b"h" * 16, "created", data, chunks)


@pytest.mark.property
@given(st.integers(0, 3 * CHUNK_BYTES), st.binary(min_size=1, max_size=5))
def test_data_comes_back_whatever_its_size(size: int, pattern: bytes) -> None:
    """Empty, just a chunk, or several."""
    data = (pattern * (size // len(pattern) + 1))[:size]
    chunks = list(split(data))
    assert len(chunks) == max(1, -(-size // CHUNK_BYTES))
    assert join(manifest_for(data, len(chunks)), chunks) == data


def test_missing_damaged_or_foreign_chunks_are_noticed() -> None:
    """A snapshot is complete or does not count."""
    data = b"a" * CHUNK_BYTES + b"z"
    first, second = split(data)
    manifest = manifest_for(data, 2)
    flipped = bytearray(first)
    flipped[20] ^= 0xFF
    for chunks in ([first, None], [first, b"junk"], [bytes(flipped), second], [first], [second, first], [first] * 3):
        with pytest.raises(CorruptSnapshot):
            join(manifest, chunks)
    with pytest.raises(CorruptSnapshot):
        join(manifest_for(b"b" * len(data), 2), [first, second])
    with pytest.raises(CorruptSnapshot):
        join(manifest, [zlib.compress(b"a" * CHUNK_BYTES), zlib.compress(b"b")])


def test_manifest_comes_back_as_it_was_written() -> None:
    """And other bytes, or another version, are refused."""
    manifest = manifest_for(b"data", 1)
    assert decode_manifest(manifest.encode()) == manifest
    for payload in (b"", b"\xc1", msgpack.packb([1, 2]), manifest._replace(version=2).encode(), msgpack.packb(5)):
        with pytest.raises(CorruptSnapshot):
            decode_manifest(payload)
