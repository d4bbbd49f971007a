"""When the journal has lost acknowledged entries: how that is seen, and the entry that starts over."""

from __future__ import annotations

from typing import Any

from bursar.kernel.decider import Fence
from bursar.kernel.effects import Inspection
from bursar.kernel.entry import GENESIS, RECOVERY, Decision, Entry, chain_hash, decode, encode, pack_decision
from bursar.kernel.errors import CorruptEntry
from bursar.kernel.fold import Folded, Head


def damage_in(head: Head, seen: Inspection) -> str:
    """In words, why the journal does not hold the entry that is known to be its last; empty when it does.

    Never decided by the sequence number in an error: what counts is the stream's creation, the entry, and its hash.
    """
    if head.created and seen.created != head.created:
        return "the stream was created anew"
    if head.sequence and seen.at is None and not was_passed(head, seen):
        return "the last known entry is gone"
    if head.sequence and seen.at is not None and chain_hash(seen.at) != head.hash:
        return "the last known entry is another one"
    return ""


def was_passed(head: Head, seen: Inspection) -> bool:
    """Whether the head is gone while the journal goes on above it. So it is for an instance that slept while others
    stored snapshots and purged; only loading tells whether what it knew is still part of the history."""
    return bool(head.sequence) and seen.at is None and seen.last is not None and seen.last[0] > head.sequence


def read_entry(payload: bytes) -> Entry | None:
    """An entry, or None when the bytes are none."""
    try:
        return decode(payload)
    except CorruptEntry:
        return None


def id_of(payload: bytes) -> bytes:
    """The id of an entry, empty when the bytes are none."""
    entry = read_entry(payload)
    return entry.id if entry is not None else b""


def starts_over(payload: bytes) -> bool:
    """Whether an entry is a recovery."""
    entry = read_entry(payload)
    return entry is not None and entry.kind == RECOVERY


def last_of(seen: Inspection) -> Entry | None:
    """The journal's last entry; None when there is none, or none that can be read."""
    return read_entry(seen.last[1]) if seen.last is not None else None


def recovery_entry(
    folded: Folded, left: Inspection, suspect: Fence | None, entry_id: bytes, base: Any
) -> tuple[bytes, Head]:
    """The entry that starts a new incarnation, and the head that it follows.

    Its incarnation and number lie above everything known: the state's, what is left in the journal, and the highest
    fence that a caller has shown.
    """
    sequence, payload = left.last if left.last is not None else (0, b"")
    incarnation, number, time = folded.incarnation, folded.number, folded.time
    last = last_of(left)
    if last is not None:
        incarnation, number, time = (
            max(incarnation, last.incarnation),
            max(number, last.next_number),
            max(time, last.ended),
        )
    if suspect is not None:
        incarnation, number = max(incarnation, suspect[0]), max(number, suspect[2] + 1)
    head = Head(sequence, chain_hash(payload) if payload else GENESIS, left.created)
    events = list(folded.decider.recover(folded.state, time))
    row = pack_decision(Decision("", "", 0, b"", b"", events))
    fence = (incarnation + 1, folded.epoch + 1, number)
    return encode(RECOVERY, fence, entry_id, time, head.hash, [row], base), head
