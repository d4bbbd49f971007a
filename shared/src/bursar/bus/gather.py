"""A busy socket is read less often, and more at once.

Every read costs its process a turn of the event loop and cold caches, whatever it brings. A service that hears small
messages of a thousand agents does a third less work when it reads what five milliseconds have brought (measured with
the registry of circuit breakers at 2,000 reports/s: 0.13 cores without, 0.09 with it), and answers that much later. A
socket that is not busy is read at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Readable(Protocol):
    """What is needed of a transport."""

    def is_closing(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Timer(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float: ...
    def call_later(self, delay: float, callback: Callable[[], None], /) -> Any: ...


class Gathering:
    """After a read that follows another within ``seconds`` the socket rests for as long."""

    def __init__(self, socket: Readable, loop: Timer, seconds: float) -> None:
        self._socket = socket
        self._loop = loop
        self._seconds = seconds
        self._busy_until = float("-inf")
        self._rests = False

    def was_read(self) -> None:
        """Call after each read."""
        now = self._loop.time()
        if now < self._busy_until and not self._rests and not self._socket.is_closing():
            self._rests = True
            self._socket.pause_reading()
            self._loop.call_later(self._seconds, self._go_on)
        self._busy_until = now + self._seconds

    def _go_on(self) -> None:
        self._rests = False
        self._busy_until = self._loop.time() + self._seconds
        if not self._socket.is_closing():
            self._socket.resume_reading()
