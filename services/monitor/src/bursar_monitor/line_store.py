"""The log lines of all services on this instance's disk: there after a restart, and for longer than memory would last.

Files of a sixteenth of all the room each, named by the number of their first line; the oldest file goes when there is
no more room, and when its last line is older than `days`. A line of a file is its number, when it came (ms since 1970),
and the line itself. What has come is written once a second, in one go and without waiting for the disk: a kill costs
the lines of the last second, and a line that a kill has cut short is passed over. Where nothing can be written, lines
are lost and counted, and it is said once a minute.

On the disk rather than in a stream of JetStream: there each line would be a write that the server flushes, beside those
of the journals that every decision waits for.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bursar_monitor.logbook import LEVELS, Line, Wanted, is_wanted, line_of

log = logging.getLogger("bursar.monitor")

FILES: Final = 16
MIB: Final = 1 << 20
DAY_MS: Final = 86_400_000
SAY_EVERY_MS: Final = 60_000
SEARCHED: Final = 64 * MIB
"""Bytes that one question looks through at most, the newest first."""


class Stored(NamedTuple):
    """A line as it stands in a file. ``at``: when it came, ms since 1970."""

    number: int
    at: int
    data: bytes


class LineStore:
    """`add` is called by the event loop, `write` and `search` by any thread. Nothing here raises for want of a disk."""

    def __init__(self, directory: Path, mib: int, days: int) -> None:
        self._directory = directory
        self._most = mib * MIB
        self._kept_ms = days * DAY_MS
        self._waiting: list[Stored] = []
        self._lock = threading.Lock()
        self._files_lock = threading.Lock()  # held while the disk is waited for, which the event loop must not be
        self._said_at = -SAY_EVERY_MS
        self.lost = 0
        self._make()

    def _make(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            log.warning("lines_not_stored", extra={"errno": error.errno})

    # ---- writing

    def add(self, line: Stored) -> None:
        """To be written soon."""
        with self._lock:
            self._waiting.append(line)

    def write(self, now: int) -> None:
        """Write what waits, and let go of what is too old or too much. ``now``: ms since 1970."""
        with self._files_lock:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            try:
                if waiting:
                    self._append(waiting)
                self._tidy(now)
            except OSError as error:
                self.lost += len(waiting)
                self._say(error, now)

    def _append(self, waiting: list[Stored]) -> None:
        files = self._files()
        is_full = not files or files[-1].stat().st_size >= self._most // FILES
        path = self._directory / f"{waiting[0].number:015d}.lines" if is_full else files[-1]
        data = b"".join(b"%d %d %s\n" % line for line in waiting)
        if not is_full and not _is_whole(path):
            data = b"\n" + data  # what a kill has cut short stays alone
        path.touch(mode=0o600)
        with path.open("ab") as file:
            file.write(data)

    def _tidy(self, now: int) -> None:
        files = self._files()
        sizes = [(path, path.stat()) for path in files]
        total = sum(stat.st_size for _, stat in sizes)
        for path, stat in sizes[:-1]:
            is_old = now - stat.st_mtime_ns // 1_000_000 > self._kept_ms
            if total <= self._most and not is_old:
                return
            path.unlink()
            total -= stat.st_size

    def _say(self, error: OSError, now: int) -> None:
        """Not for each: this line is one that would have to be written, too."""
        if now - self._said_at >= SAY_EVERY_MS:
            self._said_at = now
            log.warning("lines_not_stored", extra={"errno": error.errno, "lost": self.lost})

    # ---- reading

    @property
    def last(self) -> int:
        """The number of the newest line."""
        return max((line.number for line in self._newest_first(MIB)), default=0)

    def search(self, wanted: Wanted, since: int = 0) -> list[Line]:
        """The newest lines that are wanted and have come after ``since`` (ms since 1970), the oldest of them first."""
        found: list[Line] = []
        needles = _needles(wanted)
        for stored in self._newest_first(SEARCHED):
            if stored.number <= wanted.after or stored.at < since or len(found) >= wanted.most:
                break
            if all(any(one in stored.data for one in either) for either in needles):
                line = line_of(stored.number, stored.at, stored.data)
                if line is not None and is_wanted(line, wanted):
                    found.append(line)
        return found[::-1]

    def _newest_first(self, most: int) -> Iterator[Stored]:
        with self._files_lock:
            files = self._files()
            with self._lock:
                waiting = list(self._waiting)
        yield from reversed(waiting)
        for path in reversed(files):
            try:
                data = path.read_bytes()
            except OSError:  # it had to go meanwhile
                continue
            for row in reversed(data.split(b"\n")):
                stored = _stored(row)
                if stored is not None:
                    yield stored
            most -= len(data)
            if most <= 0:
                return

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.lines"))


def _is_whole(path: Path) -> bool:
    """Whether a file ends with the end of a line."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _stored(row: bytes) -> Stored | None:
    number, _, rest = row.partition(b" ")
    at, _, data = rest.partition(b" ")
    if not (number.isdigit() and at.isdigit() and data.endswith(b"}")):
        return None
    return Stored(int(number), int(at), data)


def _needles(wanted: Wanted) -> list[tuple[bytes, ...]]:
    """Of each of these one must stand in a line that is wanted, as it was written: to read JSON costs more."""
    needles: list[tuple[bytes, ...]] = []
    if wanted.level in LEVELS[2:]:
        needles.append(tuple(f'"{level.upper()}"'.encode() for level in LEVELS[LEVELS.index(wanted.level) :]))
    needles += [(json.dumps(text)[1:-1].encode(),) for text in (wanted.service, wanted.id) if text]
    return needles
