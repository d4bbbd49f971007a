"""The log lines that the monitor keeps: bounded, and found by level, service, id and text."""

from __future__ import annotations

import json
from typing import Any

from bursar_monitor.logbook import BYTES, KEPT_MS, LINES, LONGEST, Logbook, Wanted


def book(*lines: dict[str, Any]) -> Logbook:
    made = Logbook()
    for number, line in enumerate(lines):
        assert made.take(json.dumps(line).encode(), number)
    return made


def found(made: Logbook, **wanted: Any) -> list[Any]:
    return [line.fields["event"] for line in made.find(Wanted(**wanted))]


SAID = (
    {"level": "DEBUG", "service": "limiter", "event": "a"},
    {"level": "INFO", "service": "limiter", "event": "b", "id": "s-1"},
    {"level": "WARNING", "service": "breaker", "event": "c", "trace": "s-1"},
    {"level": "ERROR", "service": "limiter", "event": "d", "error": "TimeoutError"},
    {"level": "strange", "service": "limiter", "event": "e"},
)


def test_lines_are_found_by_level_service_id_and_text() -> None:
    """Each filter alone and together; the oldest first. What is of no known level counts as information."""
    made = book(*SAID)
    assert found(made, level="debug") == ["a", "b", "c", "d", "e"]
    assert found(made) == ["b", "c", "d", "e"]
    assert found(made, level="warning") == ["c", "d"]
    assert found(made, service="limiter") == ["b", "d", "e"]
    assert found(made, id="s-1") == ["b", "c"]
    assert found(made, text="timeout") == ["d"]
    assert found(made, service="limiter", text="breaker") == []
    assert found(made, after=made.find(Wanted(level="error"))[0].number) == ["e"]
    assert found(made, most=2) == ["d", "e"]


def test_much_of_one_level_does_not_push_out_another() -> None:
    """Each has room of its own; what had to go is counted."""
    made = book({"level": "ERROR", "event": "the error"})
    for number in range(LINES + 5):
        made.take(b'{"level":"INFO","event":"noise"}', number)
    assert made.dropped == 5
    assert found(made, level="error") == ["the error"]
    assert len(found(made, most=9_999)) == LINES + 1


def test_lines_are_bounded_in_bytes_and_age() -> None:
    """Long lines leave room for fewer, and after an hour a line is gone."""
    made = Logbook()
    long = json.dumps({"level": "INFO", "event": "x" * 15_000}).encode()
    for number in range(500):
        made.take(long, number)
    assert len(made.find(Wanted(most=9_999))) <= BYTES // len(long)
    made.forget(KEPT_MS + 1_000)
    assert made.find(Wanted()) == []


def test_what_is_no_line_is_counted_and_not_kept() -> None:
    """Whatever a service may be made to say."""
    made = Logbook()
    for data in (b"", b"nonsense", b"[1]", b"\xff", b'{"a":' * 5_000, b'"' + b"x" * (LONGEST + 1) + b'"'):
        assert not made.take(data, 1)
    assert (made.refused, made.last) == (6, 0)
