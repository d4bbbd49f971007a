"""Storing large values through the desk, as clients do."""

from __future__ import annotations

import hashlib
from typing import Any

from bursar.contracts.scheduler_blobs import PART_BYTES, Put, reference
from tests.scheduler.desk import Desk


def put_all(desk: Desk, data: bytes, who: str = "ann") -> dict[str, Any]:
    """Store it in parts, the last one first; the reference to it."""
    name = hashlib.sha256(data).hexdigest()
    starts = range(0, len(data), PART_BYTES)
    for part in reversed(range(len(starts))):
        piece = data[part * PART_BYTES : (part + 1) * PART_BYTES]
        told = desk.must(Put(id=desk.new_id(), blob=name, size=len(data), part=part, data=piece), who)
        assert told["whole"] is (part == 0)
    return reference(who, name, 3 * len(data), len(data), "zlib")
