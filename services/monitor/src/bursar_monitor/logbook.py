"""The newest log lines of all services: bounded by number, bytes and age, and found by level, service, id and text.

Each level has room of its own, so that a service that says much at ``info`` does not push out the one error that was
said before. A line that is none (not a JSON object, too long) is counted and not kept. Written by the event loop, read
by the threads of pages: whoever calls holds a lock.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Any, Final, NamedTuple

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LINES: Final = 2_000
"""Lines of each level."""
BYTES: Final = 2_000_000
"""Of each level."""
KEPT_MS: Final = 3_600_000
LONGEST: Final = 16_384
IDS: Final = (
    "id", "trace", "request", "task", "lease", "correlation_id", "request_id", "trace_id", "span_id", "principal",
)  # fmt: skip
"""Fields by which the lines of several services are about the same thing."""


class Line(NamedTuple):
    """``number`` counts all lines that were ever kept; ``at``: when it came, ms."""

    number: int
    at: int
    size: int
    level: str
    fields: Mapping[str, Any]

    def is_about(self, name: str) -> bool:
        return any(str(self.fields.get(field, "")) == name for field in IDS)

    def says(self, text: str) -> bool:
        return text in json.dumps(self.fields, ensure_ascii=False).lower()


class Wanted(NamedTuple):
    """Which lines: of at least this ``level``, of one ``service``, about one ``id``, with a ``text`` in it; those
    ``after`` a number, the newest ``most``."""

    level: str = "info"
    service: str = ""
    id: str = ""
    text: str = ""
    after: int = 0
    most: int = 200


class Logbook:
    """See above. ``refused``: what was no line; ``dropped``: lines that had to make room before their time."""

    def __init__(self) -> None:
        self._by_level: dict[str, deque[Line]] = {level: deque() for level in LEVELS}
        self._bytes = dict.fromkeys(LEVELS, 0)
        self.last = 0
        self.refused = 0
        self.dropped = 0

    def take(self, data: bytes, now: int) -> bool:
        """Keep one line as it arrived; False when it is none."""
        line = line_of(self.last + 1, now, data)
        if line is None:
            self.refused += 1
            return False
        self.last += 1
        self.put(line)
        self.forget(now)
        return True

    def put(self, line: Line) -> None:
        """Keep a line that has its number, newer than all that are there."""
        level = line.level
        kept = self._by_level[level]
        kept.append(line)
        self._bytes[level] += line.size
        while len(kept) > LINES or self._bytes[level] > BYTES:
            self._let_go(level)
            self.dropped += 1

    def forget(self, now: int) -> None:
        """Let go of what is older than `KEPT_MS`."""
        for level, kept in self._by_level.items():
            while kept and now - kept[0].at > KEPT_MS:
                self._let_go(level)

    def _let_go(self, level: str) -> None:
        self._bytes[level] -= self._by_level[level].popleft().size

    def find(self, wanted: Wanted) -> list[Line]:
        """The newest lines that are wanted, the oldest of them first."""
        return list(islice(self._matching(wanted), max(0, wanted.most)))[::-1]

    def _matching(self, wanted: Wanted) -> Iterator[Line]:
        levels = (reversed(self._by_level[level]) for level in LEVELS[_least(wanted) :])
        for line in merge(*levels, key=lambda line: -line.number):
            if line.number <= wanted.after:
                return
            if is_wanted(line, wanted):
                yield line


def line_of(number: int, at: int, data: bytes) -> Line | None:
    """A line as it arrived; None when it is none."""
    fields = _read(data)
    if fields is None:
        return None
    level = str(fields.get("level", "")).lower()
    return Line(number, at, len(data), level if level in LEVELS else "info", fields)


def is_wanted(line: Line, wanted: Wanted) -> bool:
    """By level, service, id and text."""
    text = wanted.text.lower()
    return (
        LEVELS.index(line.level) >= _least(wanted)
        and (not wanted.service or line.fields.get("service") == wanted.service)
        and (not wanted.id or line.is_about(wanted.id))
        and (not text or line.says(text))
    )


def _least(wanted: Wanted) -> int:
    return LEVELS.index(wanted.level) if wanted.level in LEVELS else 0


def _read(data: bytes) -> Mapping[str, Any] | None:
    if len(data) > LONGEST:
        return None
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
