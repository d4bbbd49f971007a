"""Where the audit log is read from: the stream, as the auditor, or a file that `bursar audit export` has made."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bursar.audit.record import AuditCorrupt
from bursar.audit.writing import AuditUnavailable
from bursar.bus.base import Bus, BusError
from bursar.bus.connection import NatsBus, connect
from bursar.bus.permissions import AUDIT_STREAM, AUDITOR_NAME
from bursar.kernel.journal.jetstream import PULL_MESSAGES, Reader


class Stored(NamedTuple):
    """One message of the stream."""

    sequence: int
    subject: str
    payload: bytes


@asynccontextmanager
async def auditor(urls: list[str], creds: Path) -> AsyncIterator[NatsBus]:
    bus = await connect(urls, creds, principal=AUDITOR_NAME)
    try:
        yield bus
    finally:
        await bus.close()


async def created(bus: Bus) -> str:
    """When the stream was made. Raises `AuditUnavailable`."""
    try:
        told: dict[str, Any] = json.loads((await bus.request(f"$JS.API.STREAM.INFO.{AUDIT_STREAM}", b"", 5.0)).data)
    except BusError as error:
        raise AuditUnavailable(error.text) from None
    if "error" in told:
        raise AuditUnavailable(str(told["error"].get("description", "")))
    return str(told["created"])


async def read(bus: Bus, after: int = 0) -> AsyncIterator[Stored]:
    """All messages after a sequence that are there now."""
    reader = Reader(bus, AUDIT_STREAM, f"a{secrets.token_hex(8)}", 5.0)
    await reader.open("", after)
    try:
        left = reader.pending
        while left > 0:
            async for sequence, message in reader.messages({"batch": min(left, PULL_MESSAGES), "no_wait": True}):
                left -= 1
                yield Stored(sequence, message.subject, message.data)
    finally:
        await reader.close()


def exported(at: str, rows: list[Stored]) -> Iterator[str]:
    """The lines of a file: the stream's creation time, then each message as it is."""
    yield json.dumps({"created": at})
    for row in rows:
        yield json.dumps(row._replace(payload=b"")._asdict() | {"payload": base64.b64encode(row.payload).decode()})


def imported(file: Path) -> tuple[str, list[Stored]]:
    """What `exported` wrote. Raises `AuditCorrupt`."""
    try:
        head, *lines = file.read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        stored = [
            Stored(row["sequence"], row["subject"], base64.b64decode(row["payload"], validate=True)) for row in rows
        ]
        return str(json.loads(head)["created"]), stored
    except (ValueError, KeyError, TypeError):
        raise AuditCorrupt(f"{file} is no export of the audit log") from None
