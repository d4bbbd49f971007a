"""The highest fence that this instance has committed, in a small file outside of NATS.

A server whose store was replaced by an older copy looks perfectly healthy; only what somebody remembers tells that
something is missing. Agents remember the fences that they were given, and each instance remembers here.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Final

from bursar.contracts.base import FENCE
from bursar.kernel.decider import Fence
from bursar.kernel.fencing import EVERYBODY, Fencer, parse_fence

_FENCE: Final = re.compile(FENCE)


class FloorFile:
    """One shard's file; written whole, fsynced and renamed, so that it is old or new but never half."""

    def __init__(self, directory: Path, service: str, shard: int, fencer: Fencer) -> None:
        self._path = directory / f"{service}-{shard}.fence"
        self._fencer = fencer
        self._written: Fence | None = None
        self._writing = threading.Lock()

    def read(self) -> Fence | None:
        """The fence in the file; None when there is none, when it is damaged, or when it is none of ours (another
        key: another installation)."""
        try:
            sealed = self._path.read_bytes().decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        if not _FENCE.fullmatch(sealed) or not self._fencer.is_genuine(sealed, EVERYBODY):
            return None
        return parse_fence(sealed)

    def write(self, fence: Fence) -> None:
        """Remember a fence if it is higher than the one in the file. Blocks for an fsync: call it in a thread; one
        that goes on after its caller has ended does no harm to the next. Raises `OSError`."""
        with self._writing:
            self._write(fence)

    def _write(self, fence: Fence) -> None:
        if self._written is None:
            self._written = self.read()
        if self._written is not None and fence <= self._written:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(self._fencer.seal(fence, EVERYBODY) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._written = fence
