"""The log lines of all services, as the page and `bursar logs` ask for them.

Every instance of the monitor hears them, not only its owner: what was said before a take-over is there after it. The
newest are in memory; with a directory of its own an instance has those of days on disk (`line_store`), and begins with
the newest of them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bursar.bus.base import Msg
from bursar.kernel.clock import Clock
from bursar.telemetry.traces import now as now_ns
from bursar_monitor.line_store import LineStore, Stored
from bursar_monitor.logbook import KEPT_MS, LINES, Line, Logbook, Wanted
from bursar_monitor.settings import MonitorSettings

SUBJECT: Final = "bursar.line.>"
MOST: Final = 500
"""Lines of one answer."""
WRITE_SECONDS: Final = 1.0
MS: Final = 1_000_000


class Lines:
    """`hear` is called by the event loop, `find` by the threads of pages. ``wall_ms``: ms since 1970."""

    def __init__(
        self, clock: Clock, store: LineStore | None = None, wall_ms: Callable[[], int] = lambda: now_ns() // MS
    ) -> None:
        self._clock = clock
        self._wall_ms = wall_ms
        self._lock = threading.Lock()
        self._book = Logbook()
        self._store = store
        if store is not None:
            self._remember(store)

    def _remember(self, store: LineStore) -> None:
        """What was said before this process began."""
        now, wall = self._clock.monotonic_ms(), self._wall_ms()
        for line in store.search(Wanted(level="debug", most=LINES), wall - KEPT_MS):
            self._book.put(line._replace(at=now - max(0, wall - line.at)))
        self._book.last = store.last

    def hear(self, msg: Msg) -> None:
        with self._lock:
            is_one = self._book.take(msg.data, self._clock.monotonic_ms())
            if is_one and self._store is not None:
                data = msg.data if b"\n" not in msg.data else json.dumps(json.loads(msg.data)).encode()
                self._store.add(Stored(self._book.last, self._wall_ms(), data))

    async def write_for_ever(self) -> None:
        """Until cancelled; what is left then is written, too."""
        if self._store is None:
            return
        try:
            while True:
                await asyncio.sleep(WRITE_SECONDS)
                await asyncio.to_thread(self._store.write, self._wall_ms())
        finally:
            self._store.write(self._wall_ms())

    def find(self, asked: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The lines that a query string asks for: see `Wanted`; ``since_ms``: of the last so many ms."""
        wanted = Wanted(
            level=_one(asked, "level", "info"),
            service=_one(asked, "service"),
            id=_one(asked, "id"),
            text=_one(asked, "text"),
            after=_number(asked, "after", 0),
            most=min(MOST, _number(asked, "most", 200)),
        )
        since = _number(asked, "since_ms", 0)
        with self._lock:
            now = self._clock.monotonic_ms()
            self._book.forget(now)
            told = {"last": self._book.last, "dropped": self._book.dropped, "refused": self._book.refused}
            lines = [_told(line, now) for line in self._book.find(wanted) if not since or now - line.at <= since]
        if self._store is not None and (since or (not wanted.after and len(lines) < wanted.most)):
            wall = self._wall_ms()
            found = self._store.search(wanted, wall - since if since else 0)
            lines = [_told(line, wall) for line in found]
        return {**told, "lost": 0 if self._store is None else self._store.lost, "lines": lines}


def store_of(settings: MonitorSettings) -> LineStore | None:
    """On this instance's disk, if it has a place there."""
    if settings.data_dir is None or not settings.lines_mib:
        return None
    return LineStore(settings.data_dir / "lines", settings.lines_mib, settings.lines_days)


def _told(line: Line, now: int) -> dict[str, Any]:
    return {"number": line.number, "age_ms": now - line.at, **line.fields, "level": line.level}


def _one(asked: Mapping[str, Sequence[str]], name: str, otherwise: str = "") -> str:
    return (asked.get(name) or [otherwise])[0][:256]


def _number(asked: Mapping[str, Sequence[str]], name: str, otherwise: int) -> int:
    text = _one(asked, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else otherwise
