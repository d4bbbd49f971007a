"""Payloads and results that are too large for a message: blobs, in parts, named by what is in them.

A *reference* stands in the place of the value, as a map: ``{"$blob": <SHA-256 of the bytes that are stored, in hex>,
"owner": <who stored it>, "size": <bytes of the value>, "packed": <bytes that are stored>, "encoding": "zlib" |
"none"}``. The stored bytes are the value as it would have been sent (one msgpack value by convention), compressed if
that makes it smaller. Whoever stores a blob does that first, part by part, and sends the reference afterwards; whoever
reads one holds it against its name.

A blob may be read by who submitted the task that it belongs to, and by the worker that runs it. It is there for as long
as the task or its result is, and for five minutes without one.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from bursar.contracts.base import Message, Query, Request
from bursar.contracts.scheduler_words import BLOB, MAX_BLOB_BYTES, BlobName, Principal, TaskId

PART_BYTES: Final = 49_152
"""Every part of a blob but the last has this length."""

MAX_PARTS: Final = -(-MAX_BLOB_BYTES // PART_BYTES)

PartNumber = Annotated[int, Field(ge=0, lt=MAX_PARTS)]


class Put(Request):
    """Store one part of an own blob durably; in any order, and again. Answered by `Stored`, or by `Refused` when there
    is no room. ``size``: bytes of the whole. Wrong is a part of the wrong length (``bad_request``), and one that
    completes a blob whose name is not the hash of its content (``bad_blob``)."""

    blob: BlobName
    size: Annotated[int, Field(ge=1, le=MAX_BLOB_BYTES)]
    part: PartNumber
    data: Annotated[bytes, Field(min_length=1, max_length=PART_BYTES)]


class Stored(Message):
    """``whole``: all parts are there, and may be referred to."""

    ok: Literal[True] = True
    blob: BlobName
    whole: bool
    fence: str


class Get(Query):
    """One part of a blob: the payload of this task, its result, or the result of one that it comes after. For who
    submitted the task, and for the worker that runs it now."""

    task: TaskId
    owner: Principal
    blob: BlobName
    part: PartNumber = 0


class BlobPart(Message):
    """``size``: bytes of the whole blob."""

    ok: Literal[True] = True
    data: bytes
    size: int
    fence: str


def reference(owner: str, blob: str, size: int, packed: int, encoding: str) -> dict[str, Any]:
    """What stands in the place of a value that was stored."""
    return {BLOB: blob, "owner": owner, "size": size, "packed": packed, "encoding": encoding}


def is_reference(value: object) -> bool:
    """Whether a value stands for a blob. (What came over the wire was checked there.)"""
    return type(value) is dict and BLOB in value


def length_of(size: int, part: int) -> int:
    """Bytes of one part of a blob of this size; 0 or less: there is no such part."""
    return min(PART_BYTES, size - part * PART_BYTES)
