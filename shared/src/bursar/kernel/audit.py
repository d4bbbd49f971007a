"""Checking a journal from outside: nothing here trusts what wrote it.

`ChainCheck` walks the entries in order and objects to whatever breaks the journal's promises: a hash that does not
follow, decisions that are missing or doubled, an epoch with two authors, a fence or a time that goes back. A recovery
entry may start over, in a higher incarnation; what it displaced is reported, not objected to.
"""

from __future__ import annotations

from typing import NamedTuple

from bursar.kernel.entry import EPOCH, RECOVERY, Entry, chain_hash, decode
from bursar.kernel.errors import CorruptEntry

_AUTHOR_BYTES = 8


class Finding(NamedTuple):
    """Something to know about an entry; ``bad`` when it breaks a promise."""

    sequence: int
    text: str
    bad: bool


class ChainCheck:
    """Feed it every entry of a shard, in order; ``findings`` grows. The first entry may be any: the journal is purged
    below the oldest snapshot."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.entries = 0
        self.decisions = 0
        self.events = 0
        self._last: Entry | None = None
        self._hash = b""
        self._authors: dict[tuple[int, int], bytes] = {}

    @property
    def is_sound(self) -> bool:
        return not any(finding.bad for finding in self.findings)

    def feed(self, sequence: int, payload: bytes) -> Entry | None:
        """Check one entry and return it; None when the bytes are none."""
        try:
            entry = decode(payload)
        except CorruptEntry as error:
            self._object(sequence, str(error))
            return None
        self.entries += 1
        self.decisions += len(entry.decisions)
        self.events += sum(len(row.events) for row in entry.decisions)
        self._check_author(sequence, entry)
        if self._last is not None:
            self._check_follows(sequence, entry, self._last)
        self._last, self._hash = entry, chain_hash(payload)
        return entry

    def _check_author(self, sequence: int, entry: Entry) -> None:
        author = entry.id[:_AUTHOR_BYTES]
        known = self._authors.setdefault((entry.incarnation, entry.epoch), author)
        if known != author:
            self._object(sequence, f"epoch {entry.incarnation}.{entry.epoch} has two authors")

    def _check_follows(self, sequence: int, entry: Entry, last: Entry) -> None:
        if entry.prev != self._hash:
            self._object(sequence, "the hash does not follow: something before was lost or changed")
        if entry.kind == RECOVERY:
            text = f"recovery: incarnation {last.incarnation} ended at decision {last.next_number - 1}"
            self.findings.append(Finding(sequence, text, bad=entry.incarnation <= last.incarnation))
        elif entry.incarnation != last.incarnation:
            self._object(sequence, f"incarnation {entry.incarnation} begins without a recovery entry")
        elif entry.number != last.next_number:
            self._object(sequence, f"decision {last.next_number} was expected, {entry.number} is there")
        if entry.kind == EPOCH and entry.epoch != last.epoch + 1:
            self._object(sequence, f"epoch {entry.epoch} was claimed after epoch {last.epoch}")
        if entry.kind not in (EPOCH, RECOVERY) and entry.epoch != last.epoch:
            self._object(sequence, f"epoch {entry.epoch} begins without an epoch entry")
        if entry.time < last.ended:
            self._object(sequence, f"the decider's time goes back by {last.ended - entry.time} ms")

    def _object(self, sequence: int, text: str) -> None:
        self.findings.append(Finding(sequence, text, bad=True))
