"""Large payloads and results: compressed, stored with the scheduler in parts, fetched and checked by who reads them.

What is packed to 32 KB or less goes in the message itself. Of what is larger a reference goes, and the rest beside it
(`bursar.contracts.scheduler_blobs`): up to 8 MB after compression and 64 MB before. Callers notice nothing of it:
`Scheduler.submit` stores, a worker fetches before it calls the function, stores what that returns, and `Handle.result`
fetches. What was read is what was stored: its hash is its name, and its length is as told before anything is unpacked.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from bursar.client.errors import BadReply
from bursar.client.scheduler_values import pack_value
from bursar.contracts.scheduler_blobs import PART_BYTES, is_reference, reference
from bursar.contracts.scheduler_words import BLOB, MAX_BLOB_BYTES, MAX_UNPACKED_BYTES, MAX_VALUE_BYTES
from bursar.errors import CallerError

AT_ONCE: Final = 4
"""Parts of one blob that are on their way at the same time."""

LEVEL: Final = 1
"""Of compression: what comes out of agents is text, and a faster level is nearly as small."""

AT_HAND: Final = 524_288
"""Bytes up to which a value is pressed at once, which takes a few milliseconds; larger ones in a thread."""

T = TypeVar("T")

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Asks the scheduler until it answers; fails as `Scheduler.submit` does."""


class Blobs:
    """``owner``: in whose name values are stored. ``put`` and ``get`` ask the scheduler."""

    def __init__(self, owner: str, put: Ask, get: Ask) -> None:
        self._owner = owner
        self._put = put
        self._get = get

    async def send(self, value: Any) -> Any:
        """What goes into a message: the packed value, or a reference to it, which is stored by then; None stays.

        Raises `CallerError`: ``bad_request`` for what cannot be packed, ``too_large``; and what ``put`` raises."""
        if value is None:
            return None
        packed = pack_value(value, MAX_UNPACKED_BYTES)
        return packed if len(packed) <= MAX_VALUE_BYTES else await self._store(packed)

    async def _store(self, packed: bytes) -> dict[str, Any]:
        name, data, encoding = await _apart(len(packed), _pressed, packed)
        if len(data) > MAX_BLOB_BYTES:
            raise CallerError("too_large", f"a value has at most {MAX_BLOB_BYTES} bytes compressed", size=len(data))
        places = range(0, len(data), PART_BYTES)

        async def store(part: int) -> bool:
            piece = data[places[part] : places[part] + PART_BYTES]
            told = await self._put("put", {"blob": name, "size": len(data), "part": part, "data": piece})
            return bool(told["whole"])

        if not await store(0):  # which tells whether all of it is there from before
            await _some_at_once(store, range(1, len(places)))
        return reference(self._owner, name, len(packed), len(data), encoding)

    async def receive(self, value: Any, task: str) -> Any:
        """A value as it would have stood in the message: of a reference what it stands for, the rest as it is.

        ``task``: on whose behalf. Raises `CallerError` (``unknown_blob``, ``not_yours``), or `BadReply` for what is
        not what was stored."""
        if not is_reference(value):
            return value
        parts: dict[int, bytes] = {}

        async def fetch(part: int) -> None:
            ask = {"task": task, "owner": value["owner"], "blob": value[BLOB], "part": part}
            parts[part] = (await self._get("get", ask))["data"]

        count = -(-value["packed"] // PART_BYTES)
        await _some_at_once(fetch, range(count))
        return await _apart(value["size"], _unpressed, b"".join(parts[part] for part in range(count)), value)


async def _apart(size: int, work: Callable[..., T], *args: Any) -> T:
    return work(*args) if size <= AT_HAND else await asyncio.to_thread(work, *args)


async def _some_at_once(one: Callable[[int], Awaitable[Any]], parts: range) -> None:
    """Each part, a few at a time; the first error ends it, when nothing is on its way any more."""
    left = iter(parts)

    async def some() -> None:
        for part in left:
            await one(part)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(parts))):
                group.create_task(some())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _pressed(packed: bytes) -> tuple[str, bytes, str]:
    """Name, bytes and encoding of what is stored."""
    small = zlib.compress(packed, LEVEL)
    data, encoding = (small, "zlib") if len(small) < len(packed) else (packed, "none")
    return hashlib.sha256(data).hexdigest(), data, encoding


def _unpressed(data: bytes, told: dict[str, Any]) -> bytes:
    if hashlib.sha256(data).hexdigest() != told[BLOB]:
        raise BadReply("what was read is not what was stored", blob=told[BLOB])
    if told["encoding"] == "zlib":
        unpack = zlib.decompressobj()
        try:
            data = unpack.decompress(data, told["size"] + 1)
        except zlib.error:
            data = b""
    if len(data) != told["size"]:
        raise BadReply("what was stored is not as long as was told", blob=told[BLOB])
    return data
