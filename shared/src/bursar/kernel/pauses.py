"""How long the process stood still: garbage collections and turns of the event loop that took long."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from time import perf_counter, process_time


class PauseMeter:
    """Longest pauses (ms) since the start: of the collector, and of the loop beyond the time that its ticks (`late`)
    were asked to sleep."""

    def __init__(self) -> None:
        self.gc_max_ms = 0.0
        self.loop_max_ms = 0.0
        self._began = 0.0

    def start(self) -> None:
        gc.callbacks.append(self._on_gc)

    def stop(self) -> None:
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)

    def late(self, seconds: float) -> None:
        """A tick of the loop came so much later than it was due."""
        self.loop_max_ms = max(self.loop_max_ms, seconds * 1000)

    def facts(self) -> dict[str, int | None]:
        """What the process costs, for its statistics: CPU since the start, memory (None where it is not known)."""
        return {
            "pid": os.getpid(),
            "cpu_ms": round(process_time() * 1000),
            "rss_bytes": _resident(),
            "gc_max_us": round(self.gc_max_ms * 1000),
            "loop_max_us": round(self.loop_max_ms * 1000),
        }

    def _on_gc(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = perf_counter()
        else:
            self.gc_max_ms = max(self.gc_max_ms, (perf_counter() - self._began) * 1000)


def _resident() -> int | None:
    """Resident memory of this process in bytes, from Linux's /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
