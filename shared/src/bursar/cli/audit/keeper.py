"""What keeps the audit log: takes grants over from the journals, ships what was done to the home, anchors the heads.

Every service's journal holds each of its decisions already, hash-chained and fsynced before anybody was answered; so
grants cost the services nothing here. Every few seconds this process reads what is new, says it in words, and appends
it in batches with the journal's own hash, in the registrar's name. Where it stands is in the registrar's last record:
it goes on there after a crash, and of two at once one is refused. What a journal has purged before it was taken over is
recorded as a gap.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bursar.audit import registrar
from bursar.audit.anchors import add_anchor
from bursar.audit.checking import Check, Finding
from bursar.audit.record import CREDENTIAL, GAP, GRANTS, pack
from bursar.audit.writing import AuditWriter
from bursar.bus.connection import connect
from bursar.bus.identity import Home
from bursar.bus.identity.visit import visit
from bursar.bus.permissions import AUDIT_STREAM, REGISTRAR, journal_account
from bursar.cli.audit.reading import auditor, created, read
from bursar.contracts.base import audit_subject, log_stream
from bursar.kernel.decider import Decider
from bursar.kernel.entry import chain_hash, decode
from bursar.kernel.journal.jetstream import JetStreamJournal

BATCH_DECISIONS: Final = 1_000
BATCH_CHARACTERS: Final = 200_000
ANCHOR_SECONDS: Final = 60.0
ANCHOR_RECORDS: Final = 1_000
VISITOR: Final = "audit-keeper"
Row = tuple[int, str, str, list[str]]
DeciderOf = Callable[[str], Decider[Any]]


class Changed(Exception):
    """The audit log is not what was written to it: nothing more is anchored. ``findings`` say where."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(f"{finding.sequence}: {finding.text}" for finding in findings))
        self.findings = findings


class Keeper:
    """One round at a time. ``decider_of``: the rules of a service, for saying its events in words."""

    def __init__(self, home: Home, urls: list[str], anchors: Path, decider_of: DeciderOf) -> None:
        self._home = home
        self._urls = urls
        self._anchors = anchors
        self._decider_of = decider_of
        self._check = Check(registrar.keys(home))
        self._anchored = 0
        self._anchored_at = 0.0

    async def round(self, *, last: bool = False) -> None:
        """Take over, ship, anchor when it is time (or for the last time). Raises `Changed`, and `BursarError` when the
        servers do not answer."""
        bus = await connect(self._urls, self._home.creds(REGISTRAR), principal=REGISTRAR)
        try:
            question = f"$JS.API.DIRECT.GET.{AUDIT_STREAM}.{audit_subject(REGISTRAR)}"
            writer = AuditWriter(bus, REGISTRAR, question, registrar.signer(self._home, REGISTRAR).seal, tries=1)
            _, record = await writer.last()
            stand = dict(record.what.get("stand", {})) if record else {}
            await self._ship(writer, stand)
            for service in self._home.services:
                await self._take_over(writer, stand, service)
        finally:
            await bus.close()
        await self._anchor(last=last)

    async def _ship(self, writer: AuditWriter, stand: dict[str, int]) -> None:
        for line in registrar.acts(self._home)[stand.get(REGISTRAR, 0) :]:
            act = json.loads(line)
            stand[REGISTRAR] = act["n"]
            told = {key: value for key, value in act.items() if key not in {"prev", "signature"}}
            await writer.append(CREDENTIAL, act["by"], {"act": told, "stand": stand})

    async def _take_over(self, writer: AuditWriter, stand: dict[str, int], service: str) -> None:
        decider, size, last = self._decider_of(service), 0, b""
        rows: list[Row] = []
        start = at = stand.get(service, 0)

        async def flush() -> None:
            nonlocal rows, size, start
            stand[service] = at
            if rows:
                span = {"service": service, "from": start + 1, "to": at, "hash": chain_hash(last).hex()}
                await writer.append(GRANTS, "", {**span, "decisions": pack(rows), "stand": stand})
            rows, size, start = [], 0, at

        async with _journal(self._home, self._urls, service) as journal:
            async for sequence, payload in journal.read(start):
                if at == start and sequence != start + 1:
                    await self._gap(writer, stand, service, start + 1, sequence - 1)
                    start = sequence - 1
                at, last = sequence, payload
                new = _decisions(payload, decider)
                rows += new
                size += sum(len(str(row)) for row in new)
                if len(rows) >= BATCH_DECISIONS or size >= BATCH_CHARACTERS:
                    await flush()
        await flush()

    async def _gap(self, writer: AuditWriter, stand: dict[str, int], service: str, start: int, end: int) -> None:
        stand[service] = end
        await writer.append(GAP, "", {"service": service, "from": start, "to": end, "stand": stand})

    async def _anchor(self, *, last: bool) -> None:
        check = self._check
        async with auditor(self._urls, self._home.creds("auditor")) as bus:
            at = await created(bus)
            async for row in read(bus, check.last):
                check.feed(*row)
        if not check.is_sound:
            raise Changed([finding for finding in check.findings if finding.bad])
        new = check.last - self._anchored
        is_time = time.monotonic() - self._anchored_at >= ANCHOR_SECONDS or new >= ANCHOR_RECORDS or last
        if new and is_time:
            add_anchor(self._anchors, at, check.heads, registrar.signer(self._home, registrar.ANCHOR).seal)
            self._anchored, self._anchored_at = check.last, time.monotonic()


def _decisions(payload: bytes, decider: Decider[Any]) -> list[Row]:
    """Number, principal, request id and words of each decision that somebody has asked for."""
    entry = decode(payload)
    return [
        (entry.number + offset, row.principal, row.request_id, [decider.describe(event) for event in row.events])
        for offset, row in enumerate(entry.decisions)
        if row.principal
    ]


@asynccontextmanager
async def _journal(home: Home, urls: list[str], service: str) -> AsyncIterator[JetStreamJournal]:
    """The journal of a service, to be read."""
    stream = log_stream(service)
    verbs = (
        "STREAM.INFO.{}",
        "STREAM.MSG.GET.{}",
        "CONSUMER.CREATE.{}.>",
        "CONSUMER.MSG.NEXT.{}.>",
        "CONSUMER.DELETE.{}.>",
    )
    subjects = [f"$JS.API.{verb.format(stream)}" for verb in verbs]
    with visit(home, journal_account(service), VISITOR, subjects) as creds:
        bus = await connect(urls, creds, principal=VISITOR)
        try:
            yield JetStreamJournal(bus, service)
        finally:
            await bus.close()
