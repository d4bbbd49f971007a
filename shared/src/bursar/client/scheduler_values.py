"""Payloads and results: whatever msgpack can hold, packed into bytes by the client.

So no limit of the wire's shape (depth, lengths, number of keys) applies to what is inside; the only limit is the size.
(`bursar.client.scheduler_blobs` has those that are too large for a message.)
"""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.contracts.scheduler import MAX_VALUE_BYTES
from bursar.errors import CallerError


def pack_value(value: Any, most: int = MAX_VALUE_BYTES) -> bytes:
    """Raises `CallerError`: ``bad_request`` for what cannot be packed, ``too_large`` beyond so many bytes."""
    try:
        packed: bytes = msgpack.packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise CallerError("bad_request", f"this value cannot be packed: {type(error).__name__}") from None
    if len(packed) > most:
        raise CallerError("too_large", f"a value has at most {most} bytes", size=len(packed))
    return packed


def unpack_value(value: Any) -> Any:
    """What `pack_value` was given; what is not bytes (sent by another kind of client), or not msgpack, as it is."""
    if not isinstance(value, bytes):
        return value
    try:
        return msgpack.unpackb(value, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException):
        return value
