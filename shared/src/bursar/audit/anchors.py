"""Signed heads of the audit log in a file outside of NATS, one JSON object a line, to which lines are only added.

::

    {"n": 3, "prev": "<digest of line 2>", "at": "...", "created": "...", "heads": {"limiter": [9, 4, "<digest>"]},
     "signature": "<base64>"}

``created``: when the stream was made. A head is the writer's last record: sequence in the stream, number, digest. Lines
are chained and signed with the home's anchor key. Keep the file where whoever runs NATS cannot write, or have its lines
shipped there as they come: a line that is held elsewhere cannot be taken back.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from nacl.signing import VerifyKey

from bursar.audit.checking import Head
from bursar.audit.record import Sign, is_signed
from bursar.errors import ServiceError


class AnchorCorrupt(ServiceError):
    """The file of anchors is not what was written to it: a line was changed, taken out or put in."""

    def __init__(self, text: str) -> None:
        super().__init__("audit_corrupt", text)


class Anchor(NamedTuple):
    """One line: its number from 1, when it was made (ISO 8601), the stream's creation time, the heads by writer."""

    number: int
    at: str
    created: str
    heads: dict[str, Head]


def add_anchor(file: Path, created: str, heads: Mapping[str, Head], sign: Sign) -> int:
    """Append a line, fsynced; returns its number. Raises `OSError`, and `AnchorCorrupt` when the last line is not
    whole."""
    lines = _lines(file)
    body = {
        "n": len(lines) + 1,
        "prev": _digest(lines[-1]) if lines else "",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "created": created,
        "heads": {writer: [head.sequence, head.number, head.digest.hex()] for writer, head in sorted(heads.items())},
    }
    signature = base64.b64encode(sign(_signed(body))).decode()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "ab") as out:
        out.write(json.dumps(body | {"signature": signature}).encode() + b"\n")
        out.flush()
        os.fsync(out.fileno())
    return len(lines) + 1


def read_anchors(file: Path, key: VerifyKey) -> list[Anchor]:
    """All lines, each checked; none when there is no file. Raises `AnchorCorrupt`."""
    found: list[Anchor] = []
    before = ""
    for number, line in enumerate(_lines(file), 1):
        anchor, prev = _read(number, line, key)
        if anchor.number != number or prev != before:
            raise AnchorCorrupt(f"line {number} does not follow the one before")
        found.append(anchor)
        before = _digest(line)
    return found


def _read(number: int, line: bytes, key: VerifyKey) -> tuple[Anchor, str]:
    try:
        body: dict[str, Any] = json.loads(line)
        signature = base64.b64decode(body.pop("signature"), validate=True)
        heads = {
            writer: Head(at, count, bytes.fromhex(digest)) for writer, (at, count, digest) in body["heads"].items()
        }
        anchor = Anchor(int(body["n"]), str(body["at"]), str(body["created"]), heads)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise AnchorCorrupt(f"line {number} is no anchor") from None
    if not is_signed(key, _signed(body), signature):
        raise AnchorCorrupt(f"line {number} was not signed by this home")
    return anchor, str(body["prev"])


def _lines(file: Path) -> list[bytes]:
    if not file.exists():
        return []
    content = file.read_bytes()
    if content and not content.endswith(b"\n"):
        raise AnchorCorrupt("the last line is not whole")
    return content.splitlines()


def _signed(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _digest(line: bytes) -> str:
    return hashlib.blake2b(line, digest_size=32).hexdigest()
