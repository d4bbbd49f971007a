"""The judge's own time."""

from __future__ import annotations

import time


class Clock:
    """Milliseconds since the epoch that never jump: the wall clock at the start plus monotonic time since."""

    def __init__(self) -> None:
        self._base_ns = time.time_ns() - time.monotonic_ns()

    def ms(self) -> int:
        return (self._base_ns + time.monotonic_ns()) // 1_000_000
