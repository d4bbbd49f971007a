"""Snapshots: a folded state cut into chunks, and the manifest that makes them valid.

The manifest is written last and names the size and the hash of the whole, so that a snapshot either is complete or
does not exist. Chunks are compressed (zlib level 1: in the standard library, and fast enough for a child process).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bursar.kernel.errors import CorruptSnapshot

CHUNK_BYTES: Final = 256 * 1024
"""Uncompressed bytes in one chunk; far below the server's largest message (1 MB)."""

KEEP: Final = 3
"""Snapshots kept; the journal is purged below the oldest of them."""


_BASE: Final = re.compile(r"base-([0-9]+)-")


class Manifest(NamedTuple):
    """``sequence`` and ``hash``: the journal entry that the state includes last; ``digest``: BLAKE2b of the data."""

    version: int
    id: str
    sequence: int
    hash: bytes
    created: str
    chunks: int
    size: int
    digest: bytes

    def encode(self) -> bytes:
        packed: bytes = msgpack.packb(self)
        return packed


def decode_manifest(payload: bytes) -> Manifest:
    try:
        manifest = Manifest._make(msgpack.unpackb(payload, use_list=False))
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise CorruptSnapshot("not a manifest", size=len(payload)) from error
    if manifest.version != 1:
        raise CorruptSnapshot("unknown version of manifest", version=str(manifest.version)[:16])
    return manifest


def split(data: bytes) -> Iterator[bytes]:
    """Compressed chunks of the data; at least one."""
    view = memoryview(data)
    for start in range(0, max(1, len(data)), CHUNK_BYTES):
        yield zlib.compress(view[start : start + CHUNK_BYTES], 1)


def manifest_of(snapshot_id: str, sequence: int, head_hash: bytes, created: str, data: bytes, chunks: int) -> Manifest:
    return Manifest(1, snapshot_id, sequence, head_hash, created, chunks, len(data), digest_of(data))


def base_id(after: int, unique: str) -> str:
    """What the base of a recovery is called that will be the first entry after a sequence, or none at all."""
    return f"base-{after}-{unique}"


def base_after(snapshot_id: str) -> int | None:
    """The sequence in the name of a base; None for a snapshot that is no base."""
    found = _BASE.match(snapshot_id)
    return int(found[1]) if found is not None else None


def digest_of(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def join(manifest: Manifest, chunks: Sequence[bytes | None]) -> bytes:
    """The data again; `CorruptSnapshot` when a chunk is missing or the whole does not match the manifest."""
    parts: list[Any] = []
    for index, chunk in enumerate(chunks):
        if chunk is None:
            raise CorruptSnapshot("a chunk is missing", snapshot=manifest.id, chunk=index)
        try:
            parts.append(zlib.decompress(chunk, bufsize=CHUNK_BYTES))
        except zlib.error as error:
            raise CorruptSnapshot("a chunk is damaged", snapshot=manifest.id, chunk=index) from error
    data = b"".join(parts)
    if len(chunks) != manifest.chunks or len(data) != manifest.size or digest_of(data) != manifest.digest:
        raise CorruptSnapshot("the chunks do not make up the manifest's snapshot", snapshot=manifest.id)
    return data
