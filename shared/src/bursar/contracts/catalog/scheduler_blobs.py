"""Payloads and results by reference: a part of the scheduler's catalogue."""

from __future__ import annotations

import hashlib
from typing import Final

from bursar.contracts import scheduler_blobs as wire
from bursar.contracts.catalog.base import Operation, Word
from bursar.contracts.scheduler import Refused

_HELLO: Final = hashlib.sha256(b"hello").hexdigest()

OPERATIONS: Final = (
    Operation(
        "req",
        "put",
        wire.Put,
        "Store one part of a value that is too large for a message; a task or a result then refers to it.",
        replies=(wire.Stored, Refused),
        errors=("bad_blob",),
        example={"blob": _HELLO, "size": 5, "part": 0, "data": "aGVsbG8="},
    ),
    Operation(
        "req",
        "get",
        wire.Get,
        "One part of a stored value, for who submitted the task or runs it.",
        replies=(wire.BlobPart,),
        errors=("unknown_blob", "not_yours"),
        example={"task": "writer.report-2026", "owner": "writer", "blob": _HELLO, "part": 0},
    ),
)

WORDS: Final = {
    "blob": Word("Names a stored value: SHA-256 of what is stored, in hex."),
    "Put.size": Word("Length of the whole.", "bytes"),
    "part": Word("Number of the part, from 0; each but the last has 49152 bytes.", "number"),
    "data": Word("What is in the part."),
    "whole": Word("Whether all parts are there, so that a task may refer to it."),
    "Get.task": Word("The task that refers to it, or that comes after the one which does."),
    "owner": Word("Who has stored it."),
    "BlobPart.size": Word("Length of the whole.", "bytes"),
}
