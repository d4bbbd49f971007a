"""Time for deciders: integer milliseconds that never go back and do not know the wall clock.

This is the only module of the kernel that reads a clock. A decider's time advances by deltas of the monotonic clock;
every journal entry states it, and a cold start or a take-over continues at the last journaled value. So a jump of the
wall clock neither expires a lease nor refills a budget, and time that nobody saw passing is time that has not passed:
leases end later, never earlier.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never goes back, goes on while the process is stopped or the
        host suspended."""
        ...


class SystemClock:
    """The monotonic clock of this host, where there is one the one that goes on while the host is suspended: an owner
    that wakes up must not believe that it still has its lease."""

    def __init__(self) -> None:
        self._id: int | None = getattr(time, "CLOCK_BOOTTIME", None)

    def monotonic_ms(self) -> int:
        ns = time.monotonic_ns() if self._id is None else time.clock_gettime_ns(self._id)
        return ns // 1_000_000


class ManualClock:
    """A clock that moves when told to; for tests and the simulator."""

    def __init__(self, start_ms: int = 0) -> None:
        self._now = start_ms

    def monotonic_ms(self) -> int:
        return self._now

    def advance(self, ms: int) -> None:
        if ms < 0:
            raise ValueError("a monotonic clock does not go back")
        self._now += ms


class DeciderTime:
    """A decider's time: ``base`` (last journaled) plus what the monotonic clock has moved since ``anchor``."""

    __slots__ = ("_anchor", "_base")

    def __init__(self, base: int, anchor: int) -> None:
        self._base = base
        self._anchor = anchor

    def at(self, monotonic_ms: int) -> int:
        """The decider's time (ms) at a reading of the monotonic clock; an earlier reading counts as the anchor."""
        return self._base + max(0, monotonic_ms - self._anchor)
