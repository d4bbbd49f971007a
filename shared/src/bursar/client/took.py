"""How long things took that only who did them knows, told to the monitor (`bursar.contracts.monitor.Took`): its
objectives ``spawn`` and ``completion`` are about that.

Nobody waits for it: what has gathered goes in one plain message, two seconds after the first of it, or when there are
64. While there is no connection it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Literal

from bursar.bus.base import Bus, BusError
from bursar.bus.codec import encode
from bursar.contracts.base import observation_subject

SERVICE: Final = "monitor"
MOST: Final = 64
PAUSE: Final = 2.0
"""Seconds."""
LONGEST_MS: Final = 86_400_000
SPAWN_TOLD: Final = "BURSAR_SPAWN_TOLD"
"""The variable by which a process learns that who started it tells how long that took."""

What = Literal["spawn", "completion"]


class TookLog:
    """What one principal has to tell."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[What, list[int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, what: What, ms: float) -> None:
        """One of these took so long."""
        told = self._waiting.setdefault(what, [])
        told.append(max(0, min(LONGEST_MS, round(ms))))
        if len(told) >= MOST:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self.flush)

    def flush(self) -> None:
        """Tell it now."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        waiting, self._waiting = self._waiting, {}
        for what, told in waiting.items():
            with contextlib.suppress(BusError):
                body = {"v": 1, "what": what, "ms": told}
                self._bus.publish(observation_subject(SERVICE, "took", self._bus.principal), encode(body))
