"""Time on the agent's side: milliseconds that never go back. The only module of the client that reads a clock.

A permit must turn void even while the machine sleeps or the process is stopped, so the clock has to go on then. The
ordinary monotonic clock of Linux stands still while the machine is suspended; ``CLOCK_BOOTTIME`` does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol

clock_ns: Final[Callable[[], int]] = (
    partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic_ns
)
"""Nanoseconds of the clock that `SystemClock` reads, for what is decided in a microsecond."""

_STARTED: Final = 19
"""Where the start stands in ``/proc/self/stat`` after the name: in ticks since the machine was started."""


class Clock(Protocol):
    def now(self) -> float:
        """Milliseconds since some fixed moment; never goes back."""
        ...


class SystemClock:
    """The host's clock that also counts suspended time, where there is one."""

    __slots__ = ("_id",)

    def __init__(self) -> None:
        self._id: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

    def now(self) -> float:
        if self._id is None:
            return time.monotonic() * 1000.0
        return time.clock_gettime(self._id) * 1000.0


def process_age_ms() -> float | None:
    """How long ago this process was started; None where that cannot be known (it can on Linux)."""
    try:
        began = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[_STARTED])
        return clock_ns() / 1e6 - began * 1000.0 / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


class ManualClock:
    """A clock that moves when told to; for tests."""

    __slots__ = ("_now",)

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, ms: float) -> None:
        if ms < 0:
            raise ValueError("a monotonic clock does not go back")
        self._now += ms
