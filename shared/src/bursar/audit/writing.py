"""Appending to the audit log: a record is there, fsynced, before what it tells of goes on; or nothing goes on.

Appends are conditional on the writer's own last record, as those of a journal are: a second instance, or one that was
paused, cannot fork the chain. An append whose outcome is unknown is settled by a look at the last record.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from bursar.audit.checking import Head
from bursar.audit.record import GENESIS, AuditCorrupt, Record, Sign, decode, digest_of, encode
from bursar.bus.base import Bus, BusError
from bursar.contracts.base import audit_subject
from bursar.errors import ServiceError

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
ANSWER_SECONDS: Final = 2.0
TRIES: Final = 3
_CONFLICTS: Final = frozenset({10071, 10164})
_EMPTY: Final = Head(0, 0, GENESIS)


class AuditUnavailable(ServiceError):
    """The audit log does not take the record, so that nothing was done. Ask again."""

    def __init__(self, text: str) -> None:
        super().__init__("audit_unavailable", text)


class AuditWriter:
    """One writer's chain. ``question``: the subject on which its last record is asked for; ``sign``: with its key.
    ``tries``: how often to go on after what somebody else has appended in this name; 1: never."""

    def __init__(
        self,
        bus: Bus,
        writer: str,
        question: str,
        sign: Sign,
        *,
        tries: int = TRIES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._writer = writer
        self._question = question
        self._sign = sign
        self._clock = clock
        self._tries = tries
        self._head: Head | None = None
        self._one_at_a_time = asyncio.Lock()

    async def append(self, kind: str, who: str, what: Mapping[str, Any]) -> int:
        """Append a record; its sequence in the stream. Raises `AuditUnavailable`: then nothing may be done of it."""
        async with self._one_at_a_time:
            for _ in range(self._tries):
                head = self._head or (await self.last())[0]
                record = Record(
                    self._writer, head.number + 1, head.digest, round(self._clock() * 1000), kind, who, what
                )
                payload = encode(record, self._sign)
                self._head = await self._put(head, payload)
                if self._head is not None:
                    return self._head.sequence
            raise AuditUnavailable("somebody else appends to the audit log in this writer's name")

    async def last(self) -> tuple[Head, Record | None]:
        """The writer's last record, as it is stored. Raises `AuditUnavailable`."""
        try:
            answer = await self._bus.request(self._question, b"", ANSWER_SECONDS)
        except BusError as error:
            raise AuditUnavailable(f"the audit log does not answer ({error.code})") from None
        headers = answer.headers or {}
        if headers.get("Status", "").startswith("404"):
            return _EMPTY, None
        try:
            record, _, _ = decode(answer.data)
            return Head(int(headers["Nats-Sequence"]), record.number, digest_of(answer.data)), record
        except (AuditCorrupt, KeyError, ValueError):
            raise AuditUnavailable("the last record of the audit log cannot be read") from None

    async def _put(self, head: Head, payload: bytes) -> Head | None:
        """The new head; None when another record is the last one now."""
        expected = {EXPECTED: str(head.sequence)}
        try:
            answer = await self._bus.request(audit_subject(self._writer), payload, ANSWER_SECONDS, expected)
            told = json.loads(answer.data)
        except (BusError, ValueError):
            found, _ = await self.last()
            return found if found.digest == digest_of(payload) else None
        if error := told.get("error"):
            if error.get("err_code") in _CONFLICTS:
                return None
            raise AuditUnavailable(f"the audit log refuses: {error.get('description', '')}")
        return Head(int(told["seq"]), head.number + 1, digest_of(payload))
