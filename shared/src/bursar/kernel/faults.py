"""What a decider has raised, in the log: a line a second at most, however many decisions fail.

A decider that fails on every observation would fill the disk otherwise. Every line says how many decisions have failed
since the one before it, and shows the first of these errors, with whose request it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from bursar.kernel.effects import Fault

log = logging.getLogger("bursar.kernel")

QUIET_MS: Final = 1_000
"""Between two lines."""


class FaultLog:
    """Times are readings of the monotonic clock (ms)."""

    def __init__(self) -> None:
        self._count = 0
        self._first: Fault | None = None
        self._quiet_until: int | None = None

    def add(self, faults: Sequence[Fault], mono: int) -> None:
        """These decisions have failed."""
        self._count += len(faults)
        self._first = self._first or faults[0]
        self.look(mono)

    def look(self, mono: int) -> None:
        """To be called now and then, for what has not been told yet."""
        if self._first is None or (self._quiet_until is not None and mono < self._quiet_until):
            return
        error, principal, request_id = self._first
        told = {"count": self._count, "principal": principal, **({"id": request_id} if request_id else {})}
        log.error("decisions_failed", extra=told, exc_info=error)
        self._quiet_until = mono + QUIET_MS
        self._count, self._first = 0, None
