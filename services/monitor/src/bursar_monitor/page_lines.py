"""The log lines of all services, as the page and `bursar logs` ask for them.

Every instance of the monitor hears them, not only its owner: what was said before a take-over is there after it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bursar.bus.base import Msg
from bursar.kernel.clock import Clock
from bursar_monitor.logbook import Line, Logbook, Wanted

SUBJECT: Final = "bursar.line.>"
MOST: Final = 500
"""Lines of one answer."""


class Lines:
    """`hear` is called by the event loop, `find` by the threads of pages."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._book = Logbook()

    def hear(self, msg: Msg) -> None:
        with self._lock:
            self._book.take(msg.data, self._clock.monotonic_ms())

    def find(self, asked: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The lines that a query string asks for: see `Wanted`."""
        wanted = Wanted(
            level=_one(asked, "level", "info"),
            service=_one(asked, "service"),
            id=_one(asked, "id"),
            text=_one(asked, "text"),
            after=_number(asked, "after", 0),
            most=min(MOST, _number(asked, "most", 200)),
        )
        with self._lock:
            now = self._clock.monotonic_ms()
            self._book.forget(now)
            return {
                "last": self._book.last,
                "dropped": self._book.dropped,
                "refused": self._book.refused,
                "lines": [_told(line, now) for line in self._book.find(wanted)],
            }


def _told(line: Line, now: int) -> dict[str, Any]:
    return {"number": line.number, "age_ms": now - line.at, **line.fields, "level": line.level}


def _one(asked: Mapping[str, Sequence[str]], name: str, otherwise: str = "") -> str:
    return (asked.get(name) or [otherwise])[0][:256]


def _number(asked: Mapping[str, Sequence[str]], name: str, otherwise: int) -> int:
    text = _one(asked, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else otherwise
