"""`bursar logs`: which lines are shown and how; from a real installation they are read in the tests of the monitor."""

from __future__ import annotations

import pytest
import typer

from bursar.bus.permissions import LINES
from bursar.cli.logs import SUBJECT, TOKEN, Filter, key_of, plain, span_ms, written
from bursar.cli.up import PAGE_TOKEN
from bursar_monitor.logbook import IDS, LEVELS
from bursar_monitor.page_door import TOKEN_FILE

LINE = {
    "ts": 1_763_769_600.5,
    "level": "WARNING",
    "service": "limiter",
    "instance": "l-1",
    "event": "slow",
    "id": "s-1",
}


@pytest.mark.parametrize(
    ("level", "service", "about", "is_shown"),
    [("info", "", "", True), ("warning", "limiter", "s-1", True), ("error", "", "", False),
     ("info", "breaker", "", False), ("info", "", "s-2", False)],
)  # fmt: skip
def test_lines_are_filtered(level: str, service: str, about: str, is_shown: bool) -> None:
    """By level, service and what they are about."""
    assert Filter(level, service, about).lets_through(LINE) is is_shown


def test_a_line_is_written_for_people() -> None:
    """Who said what, with its fields; what would control the terminal is not let through."""
    text = written({**LINE, "count": 3})
    assert "warning  l-1" in text
    assert text.endswith("slow id=s-1 count=3")
    assert "\x1b[33m" in written(LINE, colour=True)
    assert plain("\x1b[2Jx\n") == "�[2Jx�"


def test_a_line_of_before_is_not_shown_again() -> None:
    """What the monitor adds does not make another line of it."""
    assert key_of({**LINE, "number": 7, "age_ms": 10, "level": "warning"}) == key_of(LINE)


def test_command_and_monitor_agree() -> None:
    """They meet in the contract of files and subjects, and do not import each other."""
    from bursar.cli import logs

    assert (SUBJECT, logs.IDS, logs.LEVELS) == (LINES, IDS, LEVELS)
    assert TOKEN.endswith(TOKEN_FILE)
    assert PAGE_TOKEN == TOKEN_FILE


@pytest.mark.parametrize(("text", "ms"), [("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("3d", 259_200_000)])
def test_a_time_is_written_with_its_unit(text: str, ms: int) -> None:
    """As people say it."""
    assert span_ms(text) == ms


@pytest.mark.parametrize("text", ["", "h", "2", "-1h", "0s", "1.5h", "2 h", "1w", "²h", "9999999d"])
def test_what_is_no_time_is_said_in_a_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked of anybody."""
    with pytest.raises(typer.Exit):
        span_ms(text)
    assert "90s, 15m, 2h or 3d" in capsys.readouterr().err
