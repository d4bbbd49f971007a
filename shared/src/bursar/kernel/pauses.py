"""How long the process stood still: garbage collections and turns of the event loop that took long."""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter

EVERY_SECONDS = 0.05


class PauseMeter:
    """Longest pauses (ms) since the start: of the collector, and of the loop beyond the time it was asked to sleep."""

    def __init__(self) -> None:
        self.gc_max_ms = 0.0
        self.loop_max_ms = 0.0
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        gc.callbacks.append(self._on_gc)
        self._due = perf_counter() + EVERY_SECONDS
        self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._on_time)

    def stop(self) -> None:
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)
        if self._timer is not None:
            self._timer.cancel()

    def _on_gc(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        else:
            self.gc_max_ms = max(self.gc_max_ms, (perf_counter() - self._began) * 1000)

    def _on_time(self) -> None:
        now = perf_counter()
        self.loop_max_ms = max(self.loop_max_ms, (now - self._due) * 1000)
        self._due = now + EVERY_SECONDS
        self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._on_time)
