"""The words of the scheduler's messages: names, tokens, values, bounds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgpack  # type: ignore[import-untyped]
from pydantic import AfterValidator, Field

MAX_VALUE_BYTES: Final = 32_768
"""Largest payload or result in a message; of what is larger there is a reference (`scheduler_blobs`)."""

BLOB: Final = "$blob"
"""The key by which a reference is known."""

MAX_BLOB_BYTES: Final = 8_388_608
"""Bytes that are stored of one value, at most."""

MAX_UNPACKED_BYTES: Final = 67_108_864
"""And of the value itself."""

MAX_SLOTS: Final = 256

Band = Literal["reactive", "standard", "proactive"]
BANDS: Final[tuple[Band, ...]] = ("reactive", "standard", "proactive")
WorkerKind = Literal["gpu", "cpu", "remote"]
PolicyName = Literal[
    "score", "earliest_completion", "least_loaded", "power_of_two", "round_robin", "random", "hybrid", "token_budget",
    "locality",
]  # fmt: skip
TickName = Literal["earliest"]
BackgroundName = Literal["rebalance"]
SlotsName = Literal["demand"]
"""Policies that look at more than one task: per tick, in the background, for slots."""
TaskState = Literal[
    "submitted", "ready", "assigned", "running", "preempting", "dead", "done", "failed", "cancelled", "expired"
]
LIVE: Final = ("submitted", "ready", "assigned", "running", "preempting")
"""States of a task that somebody still works on; ``dead`` waits for an operator; the others are ends."""

_KEY = r"[A-Za-z0-9_][A-Za-z0-9_:/-]{0,79}"
TaskClass = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_/-]{0,63}$", max_length=64)]
TaskName = Annotated[str, Field(pattern=f"^{_KEY}$", max_length=80)]
TaskId = Annotated[str, Field(pattern=rf"^[a-z0-9][a-z0-9-]{{0,63}}\.{_KEY}$", max_length=145)]
TaskRef = Annotated[str, Field(pattern=rf"^([a-z0-9][a-z0-9-]{{0,63}}\.)?{_KEY}$", max_length=145)]
"""An own task, by its id or by its name alone."""
MAX_AFTER: Final = 256
"""Tasks that one may come after."""
AfterFailure = Literal["cancel", "run"]
Token = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]
Principal = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", max_length=64)]
SessionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$", max_length=40)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$", max_length=63)]
LabelValue = Annotated[str, Field(max_length=63)]
Labels = Annotated[dict[Label, LabelValue], Field(max_length=16)]


Host = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$", max_length=64)]
Region = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", max_length=64)]
Provider = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_/-]{0,63}$", max_length=64)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,119}$", max_length=120)]
Tokens = Annotated[dict[Provider, Annotated[int, Field(ge=1, le=1_000_000_000)]], Field(max_length=8)]
Mebibytes = Annotated[int, Field(ge=1, le=16_777_216)]
Millicores = Annotated[int, Field(ge=1, le=4_096_000)]
BatchTokens = Annotated[int, Field(ge=1, le=1_000_000_000)]
PrefixHash = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$", max_length=32)]
MAX_PREFIX: Final = 32
"""Blocks of a prompt that a task tells the hashes of."""
MAX_GANG: Final = 64
"""Workers that one task takes at once."""
Trace = Annotated[str, Field(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", max_length=55)]
"""The context of a trace, as in the W3C header ``traceparent``; no content of what it stands in."""
MicroUsd = Annotated[int, Field(ge=0, le=1_000_000_000)]


BlobName = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]


_IS_BLOB = re.compile(r"[0-9a-f]{64}").fullmatch
_IS_PRINCIPAL = re.compile(r"[a-z0-9][a-z0-9-]{0,63}").fullmatch


def size_of(value: bytes | str | dict[str, Any] | None) -> int:
    """How many bytes a value counts for."""
    if value is None:
        return 0
    if isinstance(value, dict):
        return len(msgpack.packb(value))
    return len(value.encode()) if isinstance(value, str) else len(value)


def _of_allowed_size(value: Any) -> Any:
    if size_of(value) > MAX_VALUE_BYTES:
        raise ValueError("too large")
    if type(value) is dict and BLOB in value:
        _check_reference(value)
    return value


def _check_reference(value: dict[str, Any]) -> None:
    """A map with the key of a reference is one, or nothing."""
    if value.keys() != {BLOB, "owner", "size", "packed", "encoding"} or value["encoding"] not in {"zlib", "none"}:
        raise ValueError("no reference")
    name, owner = value[BLOB], value["owner"]
    if not (isinstance(name, str) and _IS_BLOB(name) and isinstance(owner, str) and _IS_PRINCIPAL(owner)):
        raise ValueError("no reference")
    for number, most in ((value["size"], MAX_UNPACKED_BYTES), (value["packed"], MAX_BLOB_BYTES)):
        if type(number) is not int or not 1 <= number <= most:
            raise ValueError("no reference")


Value = Annotated[bytes | str | dict[str, Any] | None, AfterValidator(_of_allowed_size)]
