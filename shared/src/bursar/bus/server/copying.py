"""Whole streams to files and back, by JetStream's own snapshots: every message keeps its sequence.

A journal cannot be copied message by message: snapshots and fences name sequences, and what was purged must stay gaps.
A stream can be put back only where none of its name is; the server refuses anything else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from bursar.bus.base import Bus, BusError, Msg
from bursar.bus.server.provision import ProvisionError

CHUNK_BYTES: Final = 128 * 1024
CHUNK_SECONDS: Final = 20.0
"""The longest silence in a copy."""
_END: Final = b""
_YOUNG: Final = frozenset({10005, 10008, 10039})
"""Not enough servers yet; no answer from the cluster yet; JetStream not enabled for the account yet."""


class CopyFailed(ProvisionError):
    """A stream could not be copied or put back; the text says why."""


class Copied(NamedTuple):
    """A stream in a file: its configuration and state as the server told them, and the file's size and BLAKE2b-256."""

    stream: str
    config: dict[str, Any]
    state: dict[str, Any]
    size: int
    digest: str


def rights(streams: Iterable[str]) -> list[str]:
    """Subjects that one must be allowed to publish on to copy these streams and to put them back."""
    named = ("$JS.API.STREAM.INFO.{}", "$JS.API.STREAM.SNAPSHOT.{}", "$JS.API.STREAM.RESTORE.{}",
             "$JS.API.STREAM.MSG.GET.{}", "$JS.SNAPSHOT.ACK.{}.>", "$JS.SNAPSHOT.RESTORE.{}.>")  # fmt: skip
    return [subject.format(stream) for stream in streams for subject in named]


async def copy_stream(bus: Bus, stream: str, file: Path) -> Copied:
    """Copy a stream as it is now into a new file. Raises `CopyFailed` and `OSError`."""
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.new_inbox()
    subscription = await bus.subscribe(inbox, arrived.put_nowait)
    wanted = {"deliver_subject": inbox, "no_consumers": True, "jsck": True, "chunk_size": CHUNK_BYTES}
    try:
        told = await _ask(bus, f"$JS.API.STREAM.SNAPSHOT.{stream}", wanted, stream)
        digest, size = hashlib.blake2b(digest_size=32), 0
        with file.open("xb") as out:
            async for chunk in _chunks(bus, arrived, stream):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
    finally:
        await subscription.unsubscribe()
    return Copied(stream, told["config"], told["state"], size, digest.hexdigest())


async def _chunks(bus: Bus, arrived: asyncio.Queue[Msg], stream: str) -> AsyncIterator[bytes]:
    """What the server sends, each piece acknowledged, until it says that this was all."""
    while True:
        try:
            message = await asyncio.wait_for(arrived.get(), CHUNK_SECONDS)
        except TimeoutError:
            raise CopyFailed(f"stream {stream}: the server stopped sending") from None
        if message.data == _END:
            if status := (message.headers or {}).get("Status", "204").removeprefix("204"):
                raise CopyFailed(f"stream {stream}: the server gave up with status {status}")
            return
        yield message.data
        if message.reply:
            bus.publish(message.reply, _END)


def check_copy(copied: Copied, file: Path) -> None:
    """Raise `CopyFailed` unless the file is what was copied, byte for byte."""
    digest, size = hashlib.blake2b(digest_size=32), 0
    with file.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    if (size, digest.hexdigest()) != (copied.size, copied.digest):
        raise CopyFailed(f"{file.name} is damaged: it is not what was copied")


async def put_back(bus: Bus, copied: Copied, file: Path, replicas: int | None = None) -> None:
    """Make the stream again from its file. ``replicas``: copies in the cluster; None: as many as it had.

    Raises `CopyFailed`, also when there is a stream of that name already.
    """
    config = dict(copied.config) | ({} if replicas is None else {"num_replicas": replicas})
    question = {"config": config, "state": copied.state}
    subject = await _place(bus, copied.stream, question)
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            await _send(bus, subject, chunk, copied.stream)
    made = await _send(bus, subject, _END, copied.stream)
    found = made.get("state", {})
    told_of = ("messages", "first_seq", "last_seq") if copied.state.get("messages") else ("messages", "last_seq")
    for key in told_of:
        if found.get(key, 0) != copied.state.get(key, 0):
            raise CopyFailed(f"stream {copied.stream}: {key} is {found.get(key)}, it was {copied.state.get(key)}")


async def _place(bus: Bus, stream: str, question: Mapping[str, Any]) -> str:
    """Where to send the pieces; a young cluster refuses for a while, until its servers have met."""
    deadline = time.monotonic() + CHUNK_SECONDS
    while True:
        told = await _ask(bus, f"$JS.API.STREAM.RESTORE.{stream}", question, stream, _YOUNG)
        if "error" not in told:
            return str(told["deliver_subject"])
        if time.monotonic() > deadline:
            raise CopyFailed(f"stream {stream}: {told['error'].get('description')}")
        await asyncio.sleep(0.25)


async def _send(bus: Bus, subject: str, chunk: bytes, stream: str) -> dict[str, Any]:
    """One piece, which the server acknowledges with nothing, or with what was made of it all."""
    try:
        answer = await bus.request(subject, chunk, CHUNK_SECONDS)
    except BusError as error:
        raise CopyFailed(f"stream {stream}: {error.text}") from None
    return _told(answer.data, stream) if answer.data else {}


async def _ask(
    bus: Bus, subject: str, body: Mapping[str, Any], stream: str, bearable: frozenset[int] = frozenset()
) -> dict[str, Any]:
    """The answer; an error is raised unless its code is bearable."""
    try:
        answer = await bus.request(subject, json.dumps(body).encode(), CHUNK_SECONDS)
    except BusError as error:
        raise CopyFailed(f"stream {stream}: {error.text}") from None
    return _told(answer.data, stream, bearable)


def _told(data: bytes, stream: str, bearable: frozenset[int] = frozenset()) -> dict[str, Any]:
    told = dict(json.loads(data))
    error = told.get("error")
    if error and error.get("err_code") not in bearable:
        raise CopyFailed(f"stream {stream}: {error.get('description', error)}")
    return told
