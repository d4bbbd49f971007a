"""The journal on JetStream: one stream for the entries of a service, one for its snapshots.

Everything is a plain request over the `Bus`, as the log's own principal. No consumer keeps state: readers are ephemeral
pull consumers without acknowledgements, made at a sequence and thrown away. Leader reads use ``STREAM.MSG.GET`` (a
direct get may be answered by a replica that lags).

Codes: ADR-7 (errors), ADR-13 (pull), `Nats-Expected-Last-Subject-Sequence` in the JetStream API reference.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

from bursar.bus.base import Bus, BusError, HotBus, Msg
from bursar.contracts.base import checkpoint_stream, checkpoint_subject, log_stream, log_subject
from bursar.kernel.attempt import CONFLICT_CODES
from bursar.kernel.bugs import seeded
from bursar.kernel.effects import Inspection
from bursar.kernel.errors import Conflict, CorruptSnapshot, JournalError, JournalFull, KernelError, OutcomeUnknown
from bursar.kernel.journal.base import Appended
from bursar.kernel.snapshot import Manifest, decode_manifest

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
NOT_FOUND: Final = frozenset({10037, 10059})
FULL_CODES: Final = frozenset({10002, 10023, 10047, 10077})
"""No room: of the account, of the server's memory, of its disk; 10077 is that the stream did not take the message, as
when it has reached its limit (the store's own words stand in the description)."""
PULL_MESSAGES: Final = 2000
TAIL_PAUSE: Final = 0.25
"""Seconds that a tail lets entries pile up after the first: a standby that woke up for each would take the processor
from the owner that it follows."""
NO_LEADER_PAUSE: Final = 0.05
"""Seconds until a reader that nobody answered yet asks again."""
LAG_NANOSECONDS: Final = 1_000_000_000
"""How long a reader waits for each entry that the leader has and the reader's replica has not."""
PULL_BYTES: Final = 8 * 1024 * 1024
BYTES_IN_A_ROW: Final = 64 * 1024
"""Bytes of entries that a reader hands out in one turn of the loop: a few milliseconds of whoever folds them."""
_UNREADABLE: Final = "?"


class JetStreamJournal:
    """One shard's journal. ``timeout`` (s) bounds every request: after it the outcome is unknown."""

    def __init__(self, bus: HotBus, service: str, shard: int = 0, timeout: float = 2.0) -> None:
        self._bus = bus
        self._timeout = timeout
        self._stream = log_stream(service)
        self._subject = log_subject(service, shard)
        self._snapshots = checkpoint_stream(service)
        self._snapshot_subject = checkpoint_subject(service, shard)

    # ---- entries

    async def append(self, expected: int, payload: bytes) -> int:
        answer: Msg | BusError
        try:
            answer = await self._bus.request(self._subject, payload, self._timeout, _expecting(expected))
        except BusError as error:
            answer = error
        result = _appended(answer)
        if isinstance(result, KernelError):
            raise result
        return result

    def start_append(self, expected: int, payload: bytes, then: Appended) -> None:
        def answered(answer: Msg | BusError) -> None:
            then(_appended(answer))

        try:
            self._bus.ask(self._subject, payload, self._timeout, answered, _expecting(expected))
        except BusError as error:
            asyncio.get_running_loop().call_soon(answered, error)

    async def inspect(self, sequence: int) -> Inspection:
        info = await self._api(f"STREAM.INFO.{self._stream}", {})
        at = await self._get(self._stream, {"seq": sequence}) if sequence else None
        if at is not None and at[2] != self._subject:
            at = None
        following = await self._get(self._stream, {"seq": sequence + 1, "next_by_subj": self._subject})
        last = await self._get(self._stream, {"last_by_subj": self._subject})
        return Inspection(
            str(info["created"]),
            at[1] if at else None,
            following[:2] if following else None,
            last[:2] if last else None,
        )

    async def read(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """The last entry is asked of the stream's leader: a reader may live with a replica that lags behind."""
        last = await self._get(self._stream, {"last_by_subj": self._subject})
        reader = await self._reader(after)
        try:
            at, goal, left = after, last[0] if last else 0, reader.pending
            while left > 0 or at < goal:
                before = at
                rest = {"batch": min(left, PULL_MESSAGES), "no_wait": True}
                async for row in reader.pull(rest if left > 0 else {"batch": 1, "expires": LAG_NANOSECONDS}):
                    yield row
                    at = row[0]
                    left -= 1
                if at == before:
                    raise OutcomeUnknown("entries went while they were read", after=at, wanted=goal)
        finally:
            await reader.close()

    async def tail(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        reader = await self._reader(after)
        try:
            beat = 1_000_000_000
            while True:
                async for row in reader.pull({"batch": 1, "expires": 5 * beat, "idle_heartbeat": beat}):
                    yield row
                    await asyncio.sleep(TAIL_PAUSE)
                    async for later in reader.pull({"batch": PULL_MESSAGES, "no_wait": True}):
                        yield later
        finally:
            await reader.close()

    async def purge_below(self, sequence: int) -> None:
        await self._api(f"STREAM.PURGE.{self._stream}", {"filter": self._subject, "seq": sequence})

    # ---- snapshots

    async def put_chunk(self, snapshot_id: str, index: int, data: bytes) -> None:
        await self._store(f"{self._snapshot_subject}.{snapshot_id}.{index}", data)

    async def chunk(self, snapshot_id: str, index: int) -> bytes | None:
        subject = f"{self._snapshot_subject}.{snapshot_id}.{index}"
        found = await self._get(self._snapshots, {"last_by_subj": subject})
        return found[1] if found else None

    async def put_manifest(self, manifest: Manifest, after: str) -> None:
        subject = f"{self._snapshot_subject}.manifest"
        newest = await self._get(self._snapshots, {"last_by_subj": subject})
        if after != (_id_in(newest[1]) if newest else ""):
            raise Conflict("another snapshot is newer", code=0)
        await self._store(subject, manifest.encode(), {EXPECTED: str(newest[0] if newest else 0)})

    async def manifests(self) -> list[Manifest]:
        found: list[Manifest] = []
        for _, payload in await self._manifest_rows():
            with contextlib.suppress(CorruptSnapshot):
                found.append(decode_manifest(payload))
        return found[::-1]

    async def _manifest_rows(self) -> list[tuple[int, bytes]]:
        """The manifests as they are stored, oldest first."""
        rows: list[tuple[int, bytes]] = []
        subject = f"{self._snapshot_subject}.manifest"
        while True:
            after = rows[-1][0] if rows else 0
            row = await self._get(self._snapshots, {"seq": after + 1, "next_by_subj": subject})
            if row is None:
                return rows
            rows.append(row[:2])

    async def leftovers(self) -> list[str]:
        """The order is that of the stream's sequences. Of more than 100,000 chunks the server names so many."""
        chunks = f"{self._snapshot_subject}.*.*"
        info = await self._api(f"STREAM.INFO.{self._snapshots}", {"subjects_filter": chunks})
        stored = {subject.split(".")[-2] for subject in info["state"].get("subjects") or {}}
        rows = await self._manifest_rows()
        kept = {_id_in(payload) for _, payload in rows}
        found = []
        for name in sorted(stored - kept) if _UNREADABLE not in kept else ():
            first = await self._get(self._snapshots, {"seq": 1, "next_by_subj": f"{self._snapshot_subject}.{name}.*"})
            if rows and first is not None and (first[0] < rows[-1][0] or seeded("sweep_takes_unfinished")):
                found.append(name)
        return found

    async def drop_snapshot(self, snapshot_id: str) -> None:
        subject = f"{self._snapshot_subject}.{snapshot_id}.*"
        await self._api(f"STREAM.PURGE.{self._snapshots}", {"filter": subject})

    async def _store(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        answer = await self._request(subject, data, headers)
        if "error" in answer:
            code = answer["error"].get("err_code")
            kind = Conflict if code in CONFLICT_CODES else JournalError
            raise kind(str(answer["error"].get("description", "")), code=code)

    # ---- plumbing

    async def _reader(self, after: int) -> Reader:
        reader = Reader(self._bus, self._stream, f"r{secrets.token_hex(8)}", self._timeout)
        await reader.open(self._subject, after)
        return reader

    async def _get(self, stream: str, query: dict[str, Any]) -> tuple[int, bytes, str] | None:
        answer = await self._request(f"$JS.API.STREAM.MSG.GET.{stream}", json.dumps(query).encode())
        problem = answer.get("error")
        if problem:
            if problem.get("err_code") in NOT_FOUND or problem.get("code") == 404:
                return None
            raise OutcomeUnknown(str(problem.get("description", "")), code=problem.get("err_code"))
        message = answer["message"]
        return int(message["seq"]), base64.b64decode(message.get("data", "")), str(message["subject"])

    async def _api(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._request(f"$JS.API.{verb}", json.dumps(body).encode())
        if "error" in answer:
            raise OutcomeUnknown(str(answer["error"].get("description", "")), code=answer["error"].get("err_code"))
        return answer

    async def _request(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            answer = await self._bus.request(subject, payload, self._timeout, headers)
            body: dict[str, Any] = json.loads(answer.data)
        except (BusError, ValueError) as error:
            raise OutcomeUnknown("no answer") from error
        return body


def _expecting(last: int) -> dict[str, str] | None:
    return {EXPECTED: str(last)} if last >= 0 else None


def _appended(answer: Msg | BusError) -> int | KernelError:
    """What the server's answer to an append says."""
    if isinstance(answer, BusError):
        return OutcomeUnknown("no acknowledgement")
    try:
        body = json.loads(answer.data)
        problem = body.get("error")
        if problem is None:
            return int(body["seq"])
        code = int(problem.get("err_code", 0))
        text = str(problem.get("description", ""))
    except (ValueError, KeyError, AttributeError, TypeError):
        return OutcomeUnknown("an acknowledgement that cannot be read")
    if code in CONFLICT_CODES:
        return Conflict("wrong last sequence", code=code)
    return JournalFull(text, code=code) if code in FULL_CODES else JournalError(text, code=code)


def _ends_pull(status: str, description: str) -> bool:
    """What a status message says; `OutcomeUnknown` when the reader is of no more use.

    "Batch Completed" comes after the last entry of a request that had a limit of bytes, so the next request hears it.
    """
    if status == "100" or (status == "409" and description.startswith("Batch Completed")):
        return False
    if status not in {"404", "408", "409"} or "Consumer" in description:
        raise OutcomeUnknown("the reader was refused or deleted", status=status)
    return True


def _id_in(payload: bytes) -> str:
    """The id of a manifest; something that no snapshot is called when it cannot be read."""
    try:
        return decode_manifest(payload).id
    except CorruptSnapshot:
        return _UNREADABLE


class Reader:
    """An ephemeral pull consumer that delivers a shard's entries in order, once."""

    def __init__(self, bus: Bus, stream: str, name: str, timeout: float) -> None:
        self._bus = bus
        self._stream = stream
        self._name = name
        self._timeout = timeout
        self._inbox = bus.new_inbox()
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._subscription: Any = None
        self._last = 0
        self._handed_out = 0
        self.pending = 0

    async def open(self, subject: str, after: int) -> None:
        """Everything on a subject (empty: of the stream) after a sequence."""
        self._last = after
        try:
            self._subscription = await self._bus.subscribe(self._inbox, self._arrived.put_nowait)
            config = {
                "name": self._name,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": after + 1,
                "ack_policy": "none",
                **({"filter_subject": subject} if subject else {}),
                "replay_policy": "instant",
                "inactive_threshold": 30_000_000_000,
                "mem_storage": True,
                "num_replicas": 1,
            }
            request = json.dumps({"stream_name": self._stream, "config": config}).encode()
            api = f"$JS.API.CONSUMER.CREATE.{self._stream}.{self._name}.{subject}".rstrip(".")
            answer = json.loads((await self._bus.request(api, request, self._timeout)).data)
        except (BusError, ValueError) as error:
            await self.close()
            raise OutcomeUnknown("no reader could be made") from error
        if "error" in answer:
            await self.close()
            raise OutcomeUnknown(str(answer["error"].get("description", "")), code=answer["error"].get("err_code"))
        self.pending = int(answer.get("num_pending", 0))

    async def pull(self, request: dict[str, Any]) -> AsyncIterator[tuple[int, bytes]]:
        """One pull request's entries. Silence for longer than a heartbeat allows means that the reader is broken."""
        async for sequence, message in self.messages(request):
            yield sequence, message.data

    async def messages(self, request: dict[str, Any]) -> AsyncIterator[tuple[int, Msg]]:
        """As `pull`, with all that a message has. What is a message and what the server says of the request is told
        by the reply subject, which nobody else can give: a header named Status may be in anybody's message."""
        left = request["batch"]
        body = json.dumps({**request, "max_bytes": PULL_BYTES}).encode()
        self._ask(body)
        tries = int(self._timeout / NO_LEADER_PAUSE)
        while left:
            message = await self._next()
            status = (message.headers or {}).get("Status", "")
            if message.reply.startswith("$JS.ACK."):
                left -= 1
                yield self._in_order(message), message
            elif status == "503" and tries > 0:  # a new reader's leader is not elected yet
                tries -= 1
                await asyncio.sleep(NO_LEADER_PAUSE)
                self._ask(body)
            elif _ends_pull(status, (message.headers or {}).get("Description", "")):
                return

    async def _next(self) -> Msg:
        """What has arrived is handed out at once, and the loop gets a turn now and then: one turn for each message
        costs a standby more than what it does with it."""
        if self._arrived.empty():
            self._handed_out = 0
            try:
                async with asyncio.timeout(self._timeout + 1.0):
                    return await self._arrived.get()
            except TimeoutError as error:
                raise OutcomeUnknown("the reader hears nothing") from error
        message = self._arrived.get_nowait()
        self._handed_out += len(message.data)
        if self._handed_out > BYTES_IN_A_ROW:
            self._handed_out = 0
            await asyncio.sleep(0)
        return message

    def _ask(self, body: bytes) -> None:
        try:
            self._bus.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}", body, self._inbox)
        except BusError as error:
            raise OutcomeUnknown("the reader lost its connection") from error

    def _in_order(self, message: Msg) -> int:
        tokens = message.reply.split(".")
        sequence = int(tokens[5] if len(tokens) == 9 else tokens[7])
        if sequence <= self._last:
            raise OutcomeUnknown("entries out of order", sequence=sequence, after=self._last)
        self._last = sequence
        return sequence

    async def close(self) -> None:
        try:
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            self._bus.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}", b"{}", self._bus.new_inbox())
        except BusError:
            return
