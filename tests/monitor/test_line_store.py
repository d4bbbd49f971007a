"""Log lines on disk: there after a restart, bounded by size and age, found as those in memory are."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.base import Message
from bursar.kernel.clock import ManualClock
from bursar_monitor.line_store import DAY_MS, FILES, MIB, LineStore, Stored
from bursar_monitor.logbook import Wanted
from bursar_monitor.page_lines import Lines

WALL = time.time_ns() // 1_000_000
"""Now: a file's age is that of its last writing."""


def line(event: str, level: str = "INFO", **more: Any) -> bytes:
    return json.dumps({"ts": 1.5, "level": level, "service": "limiter", "event": event, **more}).encode()


def stored(path: Path, mib: int = 1, days: int = 7) -> LineStore:
    return LineStore(path / "lines", mib, days)


def events(found: list[Any]) -> list[str]:
    return [str(each.fields["event"]) for each in found]


def test_lines_are_found_after_a_restart(tmp_path: Path) -> None:
    """By another process, with their numbers; the oldest first, the newest of them when there are too many."""
    first = stored(tmp_path)
    for number, event in enumerate("abc", 1):
        first.add(Stored(number, WALL + number, line(event, id=f"s-{number}")))
    assert events(first.search(Wanted())) == ["a", "b", "c"], "also before they are written"
    first.write(WALL)
    again = stored(tmp_path)
    assert again.last == 3
    assert events(again.search(Wanted())) == ["a", "b", "c"]
    assert events(again.search(Wanted(most=2))) == ["b", "c"]
    assert events(again.search(Wanted(id="s-2"))) == ["b"]
    assert events(again.search(Wanted(after=2))) == ["c"]
    assert events(again.search(Wanted(), WALL + 2)) == ["b", "c"]
    assert (tmp_path / "lines").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o177 == 0 for path in (tmp_path / "lines").iterdir())


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(level="debug"), ["d", "i", "w", "e", "c"]),
        (Wanted(level="info"), ["i", "w", "e", "c"]),
        (Wanted(level="warning"), ["w", "e", "c"]),
        (Wanted(level="error", service="limiter"), ["e", "c"]),
        (Wanted(level="critical"), ["c"]),
        (Wanted(service="breaker"), []),
        (Wanted(id='odd "id"'), ["w"]),
        (Wanted(text="INFO"), ["i"]),
    ],
)
def test_filters_are_those_of_the_memory(tmp_path: Path, wanted: Wanted, found: list[str]) -> None:
    """Level, service, id and text."""
    store = stored(tmp_path)
    said = (("d", "DEBUG"), ("i", "INFO"), ("w", "WARNING"), ("e", "ERROR"), ("c", "CRITICAL"))
    for number, (event, level) in enumerate(said, 1):
        store.add(Stored(number, WALL, line(event, level, **({"id": 'odd "id"'} if event == "w" else {}))))
    store.write(WALL)
    assert events(store.search(wanted)) == found


def test_the_oldest_go_when_there_is_no_more_room(tmp_path: Path) -> None:
    """Never more than the room and one file beside, and the newest stay."""
    store = stored(tmp_path)
    for number in range(1, 4_001):
        store.add(Stored(number, WALL, line("x" * 1_000)))
        if number % 100 == 0:
            store.write(WALL)
    files = list((tmp_path / "lines").iterdir())
    assert sum(path.stat().st_size for path in files) <= MIB + 100 * 1_200
    assert len(files) <= FILES + 2
    kept = store.search(Wanted(most=9_999))
    assert kept[-1].number == 4_000
    assert 700 < len(kept) < 1_200


def test_what_is_older_than_it_may_be_goes(tmp_path: Path) -> None:
    """By the time of a file's last line; the newest file stays."""
    store = stored(tmp_path, days=1)
    for number in (1, 2, 3):
        store.add(Stored(number, WALL, line("x" * 70_000)))
        store.write(WALL)
    old, newer, newest = sorted((tmp_path / "lines").iterdir())
    os.utime(old, (1.0, 1.0))
    at = newer.stat().st_mtime_ns // 1_000_000
    store.write(at + DAY_MS)
    assert sorted((tmp_path / "lines").iterdir()) == [newer, newest]


def test_what_a_kill_has_cut_short_is_passed_over(tmp_path: Path) -> None:
    """Half a line costs itself, and not the next one."""
    store = stored(tmp_path)
    store.add(Stored(1, WALL, line("whole")))
    store.write(WALL)
    [path] = (tmp_path / "lines").iterdir()
    with path.open("ab") as file:
        file.write(b'2 1800000000000 {"level":"INFO","eve')
    again = stored(tmp_path)
    again.add(Stored(3, WALL, line("next")))
    again.write(WALL)
    assert events(again.search(Wanted())) == ["whole", "next"]


def test_a_disk_that_takes_nothing_costs_lines_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are counted, and it is said once a minute: that is a line, too."""
    (tmp_path / "lines").write_text("a file where the directory should be")
    store = stored(tmp_path)
    caplog.clear()
    for number in range(1, 61):
        store.add(Stored(number, WALL, line("x")))
        store.write(WALL + number * 1_000)
    assert store.lost == 60
    assert store.search(Wanted()) == []
    assert [record.getMessage() for record in caplog.records] == ["lines_not_stored"]


def hear(lines: Lines, *said: bytes) -> None:
    for data in said:
        lines.hear(Message("bursar.line.limiter.info", "", data))


def found(lines: Lines, **asked: str) -> list[tuple[int, str]]:
    told = lines.find({name: [value] for name, value in asked.items()})
    return [(each["number"], each["event"]) for each in told["lines"]]


async def test_an_instance_begins_with_what_was_said_before_it(tmp_path: Path) -> None:
    """Numbers go on; what is older than the memory's hour comes from the disk, as far back as it is asked for."""
    wall = [WALL]
    clock = ManualClock(1_000_000)
    first = Lines(clock, stored(tmp_path), lambda: wall[0])
    hear(first, line("old"))
    wall[0] += 2 * 3_600_000
    hear(first, line("new"), b"{\n" + line("odd")[1:])
    assert first._store is not None
    first._store.write(wall[0])
    wall[0] += 5_000
    again = Lines(ManualClock(50), stored(tmp_path), lambda: wall[0])
    hear(again, line("newest"))
    assert found(again) == [(1, "old"), (2, "new"), (3, "odd"), (4, "newest")]
    assert found(again, most="2") == [(3, "odd"), (4, "newest")], "from memory"
    assert found(again, after="3") == [(4, "newest")]
    assert found(again, since_ms="60000") == [(2, "new"), (3, "odd"), (4, "newest")]
    assert found(again, since_ms=str(3 * 3_600_000), id="", text="old") == [(1, "old")]
    ages = {each["event"]: each["age_ms"] for each in again.find({})["lines"]}
    assert (ages["new"], ages["newest"]) == (5_000, 0)


def test_without_a_place_on_disk_it_is_the_memory_alone(tmp_path: Path) -> None:
    """As before a directory was given."""
    clock = ManualClock(0)
    lines = Lines(clock)
    hear(lines, line("a"))
    clock.advance(5_000)
    hear(lines, line("b"))
    assert found(lines) == [(1, "a"), (2, "b")]
    assert found(lines, since_ms="1000") == [(2, "b")]
