"""The log lines of a process on the network, for the monitor and for `bursar logs`.

A line is never waited for: it is put into a bounded queue by whatever thread wrote it, and published by the event loop
when that has time. Without a connection lines wait in the queue; when it is full the oldest go, and the next line that
is sent says how many were lost. A process that logs without end sends at most `BURST` lines each `PAUSE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from bursar.contracts.base import line_subject
from bursar.errors import BursarError
from bursar.telemetry.logs import JsonFormatter

KEPT: Final = 1_000
"""Lines that wait to be sent."""
BURST: Final = 50
PAUSE_SECONDS: Final = 0.25
LONGEST: Final = 16_384
"""Bytes of one line; a longer one counts as lost."""

Publish = Callable[[str, bytes], None]


def publish_lines(service: str, instance: str, publish: Publish, loop: asyncio.AbstractEventLoop) -> LineStream:
    """Send all of this process's log lines there, too, until the handler is removed from the root logger."""
    stream = LineStream(service, instance, publish, loop)
    logging.getLogger().addHandler(stream)
    return stream


class LineStream(logging.Handler):
    """A log handler that publishes; ``publish`` raises BursarError when it cannot now."""

    def __init__(self, service: str, instance: str, publish: Publish, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._service = service
        self._publish = publish
        self._loop = loop
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._lost = 0
        self._is_set = False
        self.setFormatter(JsonFormatter(service, instance))

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock, by any thread."""
        try:
            line = self.format(record).encode()
        except Exception:  # noqa: BLE001 - a line that cannot be written must not fail who writes it
            self._lost += 1
            return
        if len(line) > LONGEST:
            self._lost += 1
            return
        if len(self._waiting) >= KEPT:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append((line_subject(self._service, record.levelname.lower()), line))
        if not self._is_set:
            self._is_set = True
            self._soon()

    def _soon(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._send)
        except RuntimeError:  # the loop has ended, and with it the process
            self._is_set = False

    def _send(self) -> None:
        """As much as may go now; the rest a little later."""
        assert self.lock is not None
        with self.lock:
            for _ in range(BURST):
                if not self._waiting or not self._sent(*self._waiting[0]):
                    break
                self._waiting.popleft()
            self._is_set = bool(self._waiting)
            if self._waiting:
                self._loop.call_later(PAUSE_SECONDS, self._send)

    def _sent(self, subject: str, line: bytes) -> bool:
        if self._lost:
            line = line[:-1] + b',"lost":%d}' % self._lost
        try:
            self._publish(subject, line)
        except BursarError:
            return False
        self._lost = 0
        return True
