"""A durable inbox as the owner of the service sees it: on JetStream, and a twin in memory.

Messages have sequences that only grow. What has been decided is purged by the reader; a full inbox drops the newest
messages of whoever filled it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple, Protocol

from bursar.bus.base import Bus, BusError
from bursar.contracts.base import inbox_stream, inbox_subject
from bursar.kernel.errors import OutcomeUnknown
from bursar.kernel.journal.jetstream import Reader

PREFETCH: Final = 256
"""Messages that are asked for at a time."""
_SECOND_NS: Final = 1_000_000_000


class Mail(NamedTuple):
    """One message of an inbox, as its principal has sent it."""

    sequence: int
    principal: str
    payload: bytes


class Extent(NamedTuple):
    """The oldest sequence that is still there (or the next one, when the inbox is empty), and the newest ever used."""

    first: int
    last: int


class Inbox(Protocol):
    async def extent(self) -> Extent:
        """Raises `OutcomeUnknown` when it cannot be read now."""
        ...

    def read(self, after: int) -> AsyncGenerator[Mail, None]:
        """All messages after a sequence in order, and then the new ones as they come; never ends. Raises
        `OutcomeUnknown` when it breaks: start again after the last one seen."""
        ...

    async def purge(self, up_to: int) -> None:
        """Forget the messages up to and including a sequence; with one beyond the newest, the next message gets the
        sequence after it. Raises `OutcomeUnknown`."""
        ...


class JetStreamInbox:
    """The inbox of a service on JetStream, as its log principal. ``timeout`` (s) bounds every request."""

    def __init__(self, bus: Bus, service: str, timeout: float = 2.0) -> None:
        self._bus = bus
        self._timeout = timeout
        self._stream = inbox_stream(service)
        self._subject = inbox_subject(service, "*")

    async def extent(self) -> Extent:
        state = (await self._api(f"STREAM.INFO.{self._stream}", {}))["state"]
        first, last = int(state["first_seq"]), int(state["last_seq"])
        return Extent(max(first, 1) if state["messages"] else last + 1, last)

    async def read(self, after: int) -> AsyncGenerator[Mail, None]:
        reader = Reader(self._bus, self._stream, f"i{secrets.token_hex(8)}", self._timeout)
        await reader.open(self._subject, after)
        pull = {"batch": PREFETCH, "expires": 5 * _SECOND_NS, "idle_heartbeat": _SECOND_NS}
        try:
            while True:
                async for sequence, message in reader.messages(pull):
                    yield Mail(sequence, message.subject.rpartition(".")[2], message.data)
        finally:
            await reader.close()

    async def purge(self, up_to: int) -> None:
        await self._api(f"STREAM.PURGE.{self._stream}", {"seq": up_to + 1})

    async def _api(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            message = await self._bus.request(f"$JS.API.{verb}", json.dumps(body).encode(), self._timeout)
            answer: dict[str, Any] = json.loads(message.data)
        except (BusError, ValueError) as error:
            raise OutcomeUnknown("no answer") from error
        if "error" in answer:
            raise OutcomeUnknown(str(answer["error"].get("description", "")), code=answer["error"].get("err_code"))
        return answer


class MemoryInbox:
    """The same in memory. ``broken`` makes every call fail as a lost server does."""

    def __init__(self, per_principal: int = 1_000) -> None:
        self.per_principal = per_principal
        self.mail: dict[int, Mail] = {}
        self.last = 0
        self.broken = False
        self._news = asyncio.Event()

    def publish(self, principal: str, payload: bytes) -> bool:
        """What an agent does; False when its part of the inbox is full."""
        if sum(mail.principal == principal for mail in self.mail.values()) >= self.per_principal:
            return False
        self.last += 1
        self.mail[self.last] = Mail(self.last, principal, payload)
        self._wake()
        return True

    def fail(self, broken: bool = True) -> None:
        """Break, or mend."""
        self.broken = broken
        self._wake()

    async def extent(self) -> Extent:
        self._check()
        return Extent(min(self.mail, default=self.last + 1), self.last)

    async def read(self, after: int) -> AsyncGenerator[Mail, None]:
        while True:
            self._check()
            news = self._news
            for mail in [mail for sequence, mail in self.mail.items() if sequence > after]:
                yield mail
                after = mail.sequence
                self._check()
            if after >= self.last:
                await news.wait()

    async def purge(self, up_to: int) -> None:
        self._check()
        self.mail = {sequence: mail for sequence, mail in self.mail.items() if sequence > up_to}
        self.last = max(self.last, up_to)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _check(self) -> None:
        if self.broken:
            raise OutcomeUnknown("the inbox is out of reach")
