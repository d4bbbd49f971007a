"""Samples of a host as its probe sends them: several at a time, as differences, compressed.

A publish may be lost, and nobody acknowledges it. So each message carries, besides the newest sample, the `KEPT` before
it: as differences, which compress to little. Who has heard them all counts them once by (source, boot, seq); who has
missed some has them now.

``packed`` is zlib (with the dictionary `WORDS`, which both sides have) over msgpack: a list with the newest sample as a
map without what is None, then for each older one the difference to the one after it. A difference is

- of two numbers: a number, older minus newer;
- of two maps: a map of differences, without the keys that are equal; None for a key that the older one lacks;
- of two lists of one length: a list of differences, None where equal;
- of anything else: ``{"=": older}``.
"""

from __future__ import annotations

import base64
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, Final, Self

import msgpack  # type: ignore[import-untyped]
from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from bursar.contracts.base import MAX_INT, Message
from bursar.contracts.monitor import Boot, HostSample

BATCH_KIND = "batch"
"""Last token of the subject of a host's batches."""
KEPT: Final = 4
"""Samples that are sent once more with the next ones."""
MAX_PACKED: Final = 32_768
MAX_OPEN: Final = 262_144
"""Bytes of a batch that is unpacked; a bomb is bigger."""
MAX_DEPTH: Final = 6

WORDS: Final = b"".join(
    name.encode()
    for name in (
        *(
            "held_by",
            "nothing",
            "rlimit",
            "cgroup",
            "lease",
            "disk_bytes",
            "memory_bytes",
            "used_permille",
            "rss_bytes",
        ),
        *("age_ms", "pid", "leak_permille", "crashes", "starts", "processes", "group", "groups", "agent.", "cpu_milli"),
        *("node", "free_bytes", "numa", "gpus", "temperature_c", "busy_permille", "memory_used_bytes", "power_mw"),
        *("memory_total_bytes", "uuid", "GPU-", "name", "index", "lost", "io_full_permille", "memory_full_permille"),
        *("io_permille", "memory_permille", "cpu_permille", "pressure", "dropped", "errors", "sent_bytes", "network"),
        *("received_bytes", "written_bytes", "read_bytes", "used_bytes", "disk", "swap_used_bytes", "swap_total_bytes"),
        *("available_bytes", "total_bytes", "memory", "each", "load1_milli", "cores", "steal_permille", "cpu_ms"),
        *("iowait_permille", "used_permille", "cpu", "probe", "looks", "uptime_ms", "seq", "boot", "v"),
    )
)
"""What compression begins with: the names of the fields. It is part of the format."""


def _bytes(value: Any) -> Any:
    """In JSON they are text, by base64."""
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


class HostBatch(Message):
    """The newest samples of a host. ``boot`` and ``seq``: the key of the newest; ``samples``: how many there are. A
    batch whose newest sample cannot be read is none."""

    boot: Boot
    seq: Annotated[int, Field(ge=1, le=MAX_INT)]
    samples: Annotated[int, Field(ge=1, le=64)]
    packed: Annotated[bytes, Field(min_length=8, max_length=MAX_PACKED), BeforeValidator(_bytes)]
    _newest: HostSample = PrivateAttr()
    _parts: list[Any] = PrivateAttr()

    @model_validator(mode="after")
    def _read(self) -> Self:
        self._parts = _opened(self.packed)
        if len(self._parts) != self.samples:
            raise ValueError("a batch of another length")
        self._newest = HostSample.model_validate(_tuples(self._parts[0]))
        if (self._newest.boot, self._newest.seq) != (self.boot, self.seq):
            raise ValueError("a batch with another key")
        return self

    @property
    def newest(self) -> HostSample:
        return self._newest

    def older(self) -> Iterator[HostSample]:
        """The samples before it, the newest first; each is only read when it is asked for. Ends with the first that
        cannot be read."""
        row, seq = self._parts[0], self.seq
        for part in self._parts[1:]:
            try:
                row = restored(row, part)
                sample = HostSample.model_validate(_tuples(row))
            except ValueError:
                return
            if sample.boot != self.boot or sample.seq >= seq:
                return
            seq = sample.seq
            yield sample


class Packer:
    """Makes batches, one for each sample, with the ``kept`` samples before it."""

    def __init__(self, kept: int = KEPT) -> None:
        self._row: dict[str, Any] | None = None
        self._parts: deque[Any] = deque(maxlen=kept)

    def pack(self, sample: HostSample) -> bytes:
        """The message for this sample."""
        row = _plain(sample.model_dump(mode="python", exclude_none=True))
        if self._row is not None and self._row["boot"] == row["boot"]:
            self._parts.appendleft(difference(self._row, row))
        self._row = row
        squeeze = zlib.compressobj(level=6, wbits=12, memLevel=5, zdict=WORDS)
        packed = squeeze.compress(msgpack.packb([row, *self._parts])) + squeeze.flush()
        body = {"v": 1, "boot": sample.boot, "seq": sample.seq, "samples": 1 + len(self._parts), "packed": packed}
        return msgpack.packb(body)  # type: ignore[no-any-return]


def _opened(packed: bytes) -> list[Any]:
    try:
        opener = zlib.decompressobj(zdict=WORDS)
        plain = opener.decompress(packed, MAX_OPEN)
        if not opener.eof:
            raise ValueError("a batch that is too large")
        parts = msgpack.unpackb(plain, strict_map_key=True)
    except zlib.error:
        raise ValueError("a batch that is not compressed") from None
    except (msgpack.exceptions.UnpackException, TypeError, RecursionError) as error:
        raise ValueError("a batch that is no msgpack") from error
    if not isinstance(parts, list) or not parts:
        raise ValueError("a batch that is no list")
    return parts


def difference(older: Any, newer: Any) -> Any:
    """What makes the older value of the newer one."""
    if _is_number(older) and _is_number(newer):
        return older - newer
    if isinstance(older, dict) and isinstance(newer, dict):
        changed = {
            key: difference(older[key], newer[key]) for key in older if key in newer and older[key] != newer[key]
        }
        return {
            **changed,
            **{key: {"=": value} for key, value in older.items() if key not in newer},
            **{key: None for key in newer if key not in older},
        }
    if isinstance(older, list) and isinstance(newer, list) and len(older) == len(newer):
        return [None if a == b else difference(a, b) for a, b in zip(older, newer, strict=True)]
    return {"=": older}


def restored(newer: Any, part: Any, depth: int = 0) -> Any:
    """The older value, of the newer one and the difference. Raises `ValueError` for what is none."""
    if depth > MAX_DEPTH:
        raise ValueError("a difference that is too deep")
    if isinstance(part, dict) and "=" in part:
        return part["="]
    if _is_number(part) and _is_number(newer):
        return newer + part
    if isinstance(part, dict) and isinstance(newer, dict):
        found = {key: value for key, value in newer.items() if key not in part}
        for key, change in part.items():
            if change is not None:
                found[key] = restored(newer.get(key), change, depth + 1)
        return found
    if isinstance(part, list) and isinstance(newer, list) and len(part) == len(newer):
        return [
            value if change is None else restored(value, change, depth + 1)
            for value, change in zip(newer, part, strict=True)
        ]
    raise ValueError("a difference that does not fit")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """With lists for tuples, as msgpack reads them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _tuples(value: Any) -> Any:
    """With tuples for lists, as the models want them."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(inner) for inner in value)
    return value
