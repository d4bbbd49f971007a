"""What open pages wait for: the newest picture, made into bytes once however many look at it.

The event loop hands pictures over and never waits; each page has a thread that sleeps until there is a newer one.
Whatever is asked of the same picture again is answered from what was made before.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from bursar.kernel.clock import Clock
from bursar_monitor.page_views import POINT, overview, point, table
from bursar_monitor.state import Drawn

KEPT: Final = 300
"""Points of the small curves: five minutes at one picture a second."""


class Shown:
    """One picture and what was made of it. ``version`` grows with each; ``drawn`` None: there is none to show."""

    def __init__(self, version: int, drawn: Drawn | None, at: int) -> None:
        self.version = version
        self.drawn = drawn
        self.view = None if drawn is None else overview(drawn)
        self.at = at
        self._made: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def table(self, section: str) -> bytes | None:
        """A section as JSON; None when there is no such section now."""
        if self.drawn is None or section not in self.drawn.rows:
            return None
        with self._lock:
            return self._made.get(section) or self._made.setdefault(section, pack(table(self.drawn, section)))

    def overview(self) -> bytes:
        """The whole fleet as JSON; ``null`` when there is no picture."""
        with self._lock:
            return self._made.get("") or self._made.setdefault("", pack(self.view))


class Feed:
    """`show` is called by the event loop, everything else by threads. ``changed`` is told of every new picture."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._news = threading.Condition()
        self._shown = Shown(0, None, clock.monotonic_ms())
        self._points: deque[list[int | None]] = deque(maxlen=KEPT)
        self._is_over = False

    @property
    def shown(self) -> Shown:
        return self._shown

    def show(self, drawn: Drawn | None) -> None:
        """The newest picture; None when this instance has none. Nothing happens when it is the same as before."""
        if drawn is self._shown.drawn:
            return
        shown = Shown(self._shown.version + 1, drawn, self._clock.monotonic_ms())
        if shown.view is not None:
            self._points.append(point(shown.view))
        with self._news:
            self._shown = shown
            self._news.notify_all()

    def newer(self, version: int, seconds: float) -> Shown | None:
        """A picture with another version, as soon as there is one; None when there is none in time, or no more."""
        with self._news:
            self._news.wait_for(lambda: self._shown.version != version or self._is_over, seconds)
            return None if self._is_over or self._shown.version == version else self._shown

    @property
    def is_over(self) -> bool:
        """Whether the process ends."""
        return self._is_over

    def close(self) -> None:
        """Let go of all that wait."""
        with self._news:
            self._is_over = True
            self._news.notify_all()

    def later(self, shown: Shown) -> int:
        """How long ago a picture was drawn, ms."""
        return max(0, self._clock.monotonic_ms() - shown.at)

    def history(self) -> dict[str, Any]:
        """The small curves so far."""
        return {"names": POINT, "points": list(self._points)}


def pack(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def event(name: str, number: int, parts: Iterable[bytes]) -> bytes:
    """One server-sent event. JSON as it is packed here has no line breaks."""
    return b"event: %s\nid: %d\ndata: %s\n\n" % (name.encode(), number, b"".join(parts))
