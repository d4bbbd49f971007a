"""Proof that the audit log is whole, from outside: nothing here trusts the server that stores it.

A record that was edited has a wrong signature; one that was deleted, moved or put in leaves a hole in its writer's
numbers, chain or the stream's sequences. Who cuts the newest records off, or makes the stream anew (even with the same
records, even with a writer's key), contradicts a head that was anchored outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from nacl.signing import VerifyKey

from bursar.audit.record import GAP, GENESIS, AuditCorrupt, Record, decode, digest_of, is_signed
from bursar.contracts.base import audit_subject

DIGEST: Final = len(GENESIS)


class Finding(NamedTuple):
    """``sequence``: of the stream. ``bad``: whether it breaks what the log promises; else it is to be known."""

    sequence: int
    text: str
    bad: bool


class Head(NamedTuple):
    """The last record of a writer: its sequence in the stream, its number, its digest."""

    sequence: int
    number: int
    digest: bytes


class Check:
    """Feed it every message of the stream in order, then every anchored head. ``keys``: those of the writers."""

    def __init__(self, keys: Mapping[str, VerifyKey]) -> None:
        self._keys = keys
        self.heads: dict[str, Head] = {}
        self.findings: list[Finding] = []
        self.last = 0
        self._digests = bytearray()

    @property
    def is_sound(self) -> bool:
        return not any(finding.bad for finding in self.findings)

    def feed(self, sequence: int, subject: str, payload: bytes) -> Record | None:
        """Check one message; its record, or None when it is none."""
        if sequence != self.last + 1:
            self.object(sequence, f"records {self.last + 1} to {sequence - 1} of the stream are missing")
        self._digests += bytes(DIGEST * (sequence - 1) - len(self._digests)) + digest_of(payload)
        self.last = sequence
        try:
            record, content, signature = decode(payload)
        except AuditCorrupt as error:
            self.object(sequence, error.text)
            return None
        if subject != audit_subject(record.writer):
            self.object(sequence, f"a record of {record.writer} stands under {subject}")
        key = self._keys.get(record.writer)
        if key is None or not is_signed(key, content, signature):
            self.object(sequence, f"{record.writer} has not signed this: it was edited, or feigned")
        self._follow(sequence, record)
        if record.kind == GAP:
            self.findings.append(Finding(sequence, f"not taken over from the journal: {dict(record.what)}", bad=False))
        return record

    def _follow(self, sequence: int, record: Record) -> None:
        before = self.heads.get(record.writer, Head(0, 0, GENESIS))
        if record.number != before.number + 1:
            self.object(sequence, f"number {record.number} of {record.writer} follows number {before.number}")
        if record.prev != before.digest:
            self.object(sequence, f"this is not what {record.writer} wrote after its number {before.number}")
        self.heads[record.writer] = Head(sequence, record.number, self._digest(sequence))

    def compare(self, name: str, created: str, anchored_created: str, heads: Mapping[str, Head]) -> None:
        """Hold the log against heads that were anchored; ``name``: what to call them in words."""
        if created != anchored_created:
            self.object(0, f"the stream was made anew at {created}; {name} is of the one made at {anchored_created}")
        for writer, head in heads.items():
            found = self._digest(head.sequence)
            if not found:
                self.object(head.sequence, f"cut off: {name} names record {head.number} of {writer}, which is gone")
            elif found != head.digest:
                self.object(head.sequence, f"{name} names another record {head.number} of {writer}")

    def _digest(self, sequence: int) -> bytes:
        """That of the record at a sequence; empty beyond the last one."""
        return bytes(self._digests[DIGEST * (sequence - 1) : DIGEST * sequence])

    def object(self, sequence: int, text: str) -> None:
        self.findings.append(Finding(sequence, text, bad=True))
