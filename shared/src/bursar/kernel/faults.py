"""What a decider has raised, in the log: a line a second at most, however many decisions fail.

A decider that fails on every observation would fill the disk otherwise. Every line says how many decisions have failed
since the one before it, and shows the first of these errors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

log = logging.getLogger("bursar.kernel")

QUIET_MS: Final = 1_000
"""Between two lines."""


class FaultLog:
    """Times are readings of the monotonic clock (ms)."""

    def __init__(self) -> None:
        self._count = 0
        self._first: Exception | None = None
        self._quiet_until: int | None = None

    def add(self, errors: Sequence[Exception], mono: int) -> None:
        """These decisions have failed."""
        self._count += len(errors)
        self._first = self._first or errors[0]
        self.look(mono)

    def look(self, mono: int) -> None:
        """To be called now and then, for what has not been told yet."""
        if self._first is None or (self._quiet_until is not None and mono < self._quiet_until):
            return
        log.error("decisions_failed", extra={"count": self._count}, exc_info=self._first)
        self._quiet_until = mono + QUIET_MS
        self._count, self._first = 0, None
