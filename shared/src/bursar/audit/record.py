"""Records of the audit log: their form, and the chain and signature of each.

Each writer (a service, or the registrar of the home) has a subject and a chain of its own. A record is a msgpack array
of two: the packed content, and the writer's Ed25519 signature of it. The content is an array ``[version, writer,
number, prev, time, kind, who, what]``: ``number`` counts the writer's records from 1, ``prev`` is the digest of the
whole record before (zeros for the first), ``time`` the wall clock in Unix milliseconds, for people, and ``what`` a map
without secrets (`bursar.telemetry.redact`).

Kinds: ``act`` (an operator's request that changes something, written before it is decided), ``refused`` (requests that
policy forbids, in batches), ``grants`` (what a service's journal says was decided, in batches, with the journal's own
hash), ``gap`` (entries of a journal that were purged before they could be taken over), ``credential`` (what was done to
identities).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from bursar.errors import ServiceError
from bursar.telemetry import redact

VERSION: Final = 1
GENESIS: Final = bytes(32)
ACT: Final = "act"
REFUSED: Final = "refused"
GRANTS: Final = "grants"
GAP: Final = "gap"
CREDENTIAL: Final = "credential"
KINDS: Final = frozenset({ACT, REFUSED, GRANTS, GAP, CREDENTIAL})

Sign = Callable[[bytes], bytes]


class AuditCorrupt(ServiceError):
    """The bytes are no record of the audit log, or not of a version that is known."""

    def __init__(self, text: str) -> None:
        super().__init__("audit_corrupt", text)


class Record(NamedTuple):
    writer: str
    number: int
    prev: bytes
    time: int
    kind: str
    who: str
    what: Mapping[str, Any]


def encode(record: Record, sign: Sign) -> bytes:
    """A record's bytes, signed; what looks like a secret is taken out of ``what`` (of grants it was, see `pack`)."""
    clean = record if record.kind == GRANTS else record._replace(what=redact.deep(record.what))
    content: bytes = msgpack.packb([VERSION, *clean], use_bin_type=True)
    packed: bytes = msgpack.packb([content, sign(content)], use_bin_type=True)
    return packed


def decode(payload: bytes) -> tuple[Record, bytes, bytes]:
    """The record, and what its signature is of, and the signature. Raises `AuditCorrupt`."""
    try:
        content, signature = msgpack.unpackb(payload, use_list=False)
        version, *fields = msgpack.unpackb(content, use_list=False, strict_map_key=False)
        record = Record._make(fields)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise AuditCorrupt("not a record of the audit log") from error
    if version != VERSION or record.kind not in KINDS or not isinstance(record.what, dict):
        raise AuditCorrupt(f"version {str(version)[:8]} or kind {str(record.kind)[:16]} of a record is not known")
    return record, content, signature


def pack(rows: Sequence[tuple[int, str, str, Sequence[str]]]) -> bytes:
    """Decisions of a ``grants`` record: number, principal, request id, words; without secrets, and compressed."""
    clean = [(number, who, name, [redact.text(one) for one in words]) for number, who, name, words in rows]
    return zlib.compress(msgpack.packb(clean, use_bin_type=True))


def unpack(record: Record) -> list[tuple[int, str, str, list[str]]]:
    """The decisions of a ``grants`` record; none of another one. Raises `AuditCorrupt`."""
    try:
        packed = record.what.get("decisions")
        return [] if packed is None else [tuple(row) for row in msgpack.unpackb(zlib.decompress(packed))]
    except (ValueError, TypeError, zlib.error, msgpack.exceptions.UnpackException) as error:
        raise AuditCorrupt("the decisions of a record cannot be read") from error


def digest_of(payload: bytes) -> bytes:
    """The digest of a record's bytes (BLAKE2b-256), and through ``prev`` of all before it."""
    return hashlib.blake2b(payload, digest_size=32).digest()


def is_signed(key: VerifyKey, content: bytes, signature: bytes) -> bool:
    try:
        key.verify(content, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def key_of(public: str) -> VerifyKey:
    """The public key in a file of trust (base64)."""
    return VerifyKey(base64.b64decode(public, validate=True))
