"""Journal entries: their form on disk and the hash chain through them.

An entry is a msgpack array ``[version, kind, incarnation, epoch, number, id, time, prev, base, decisions]``. ``number``
counts decisions: an entry's decisions are number, number + 1, ... and an entry without decisions names the next one.
``prev`` is the chain hash of the entry before, so that the hash of an entry's bytes stands for the whole history up to
it. ``id`` is unique to one append, so that a writer that never got its acknowledgement can recognise its own entry.

Kinds: ``batch`` (decisions), ``epoch`` (a new owner), ``beat`` (nothing happened, the owner lives), ``recovery`` (the
journal had lost acknowledged entries; ``base`` names the snapshot that replaces everything before it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bursar.kernel.decider import Event, Fence
from bursar.kernel.errors import CorruptEntry

VERSION: Final = 1
GENESIS: Final = bytes(16)
"""The chain hash before the first entry."""

BATCH: Final = "batch"
EPOCH: Final = "epoch"
BEAT: Final = "beat"
RECOVERY: Final = "recovery"
KINDS: Final = frozenset({BATCH, EPOCH, BEAT, RECOVERY})

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


class Decision(NamedTuple):
    """One accepted command. ``reply`` is the packed answer (empty for commands nobody waits for); ``after``: how many
    milliseconds after the entry's time it was decided."""

    principal: str
    request_id: str
    acked: int
    digest: bytes
    reply: bytes
    events: Sequence[Event]
    after: int = 0


class Entry(NamedTuple):
    kind: str
    incarnation: int
    epoch: int
    number: int
    id: bytes
    time: int
    prev: bytes
    base: Any
    decisions: Sequence[Decision]

    @property
    def next_number(self) -> int:
        return self.number + len(self.decisions)

    @property
    def ended(self) -> int:
        """Time of the last decision (decider ms)."""
        return self.time + (self.decisions[-1][-1] if self.decisions else 0)

    @property
    def fence(self) -> Fence:
        """The fence of the last decision up to and including this entry."""
        return (self.incarnation, self.epoch, self.next_number - 1)


def chain_hash(payload: bytes) -> bytes:
    """Hash of an entry's bytes, and through ``prev`` of all before it (BLAKE2b-128, RFC 7693)."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def pack_decision(decision: Decision | tuple[str, str, int, bytes, bytes, Sequence[Event], int]) -> bytes:
    """A decision's bytes; the fields of `Decision`, in order."""
    packed: bytes = _packer.pack(decision)
    return packed


def encode(
    kind: str,
    fence: Fence,
    entry_id: bytes,
    time: int,
    prev: bytes,
    packed_decisions: Sequence[bytes] = (),
    base: Any = None,
) -> bytes:
    """An entry's bytes; ``fence`` is (incarnation, epoch, number of the first or next decision)."""
    head = _packer.pack([VERSION, kind, *fence, entry_id, time, prev, base])
    # the head is an array of nine; make it ten and let the decisions follow, packed already
    return b"".join((b"\x9a", head[1:], _array_header(len(packed_decisions)), *packed_decisions))


def _array_header(length: int) -> bytes:
    if length < 16:
        return bytes((0x90 | length,))
    return b"\xdd" + length.to_bytes(4, "big")


_RECOVERY_MARK: Final = msgpack.packb(RECOVERY)


def is_recovery(payload: bytes) -> bool:
    """Whether the bytes begin as a recovery entry does; nothing else is read of them."""
    return payload.startswith(_RECOVERY_MARK, 2)


def decode(payload: bytes) -> Entry:
    """Read an entry; `CorruptEntry` when the bytes are not one of this version."""
    entry = decode_plain(payload)
    return entry._replace(decisions=[Decision._make(row) for row in entry.decisions])


def decode_plain(payload: bytes) -> Entry:
    """As `decode`, with the decisions as plain tuples: a third less work for who only replays them."""
    try:
        values = msgpack.unpackb(payload, use_list=False, strict_map_key=False)
        version, kind, incarnation, epoch, number, entry_id, time, prev, base, decisions = values
        if any(len(row) != len(Decision._fields) for row in decisions):
            raise CorruptEntry("a decision has the wrong form", size=len(payload))
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise CorruptEntry("not a journal entry", size=len(payload)) from error
    if version != VERSION or kind not in KINDS:
        raise CorruptEntry("unknown version or kind of journal entry", version=version, kind=str(kind)[:16])
    return Entry(kind, incarnation, epoch, number, entry_id, time, prev, base, decisions)
