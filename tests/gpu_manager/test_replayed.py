"""Recorded cards: time in a trace, cards that go, lines that cannot be read."""

from __future__ import annotations

import json

import pytest

from bursar.errors import CallerError
from bursar_gpu_manager.port import DeviceLost
from bursar_gpu_manager.replayed import Replayed, header, read_trace, sample_of
from bursar_gpu_manager.simulated import GIB, simulated_host


def a_trace() -> list[str]:
    """Three samples, a second apart: 1, 2 and 3 GiB in use."""
    host = simulated_host("h", "2x16GiB")
    pid, _ = host.start()
    lines = [header(host="h")]
    for number in range(3):
        host.allocate(pid, "SIM-h-0", GIB)
        lines.append(sample_of(host, 1_000 * number))
        host.advance(1_000)
    return lines


def test_a_trace_moves_on_in_its_own_time_and_stays_at_its_end() -> None:
    """However long a look takes."""
    port = Replayed(read_trace(a_trace()))
    seen = []
    for ms in (0, 999, 1, 2_500, 9_000):
        port.advance(ms)
        seen.append((port.memory("SIM-h-0").used or 0) // GIB)
    assert seen == [1, 1, 2, 3, 3]
    assert port.is_over


def test_a_trace_may_begin_again() -> None:
    """After its last sample was due."""
    port = Replayed(read_trace(a_trace()), again=True)
    seen = []
    for _ in range(5):
        seen.append((port.memory("SIM-h-0").used or 0) // GIB)
        port.advance(1_000)
    assert seen == [1, 2, 3, 1, 2]


def test_a_card_that_is_missing_from_a_sample_has_been_lost() -> None:
    """It is still named."""
    lines = a_trace()
    later = json.loads(lines[2])
    later["cards"] = later["cards"][:1]
    port = Replayed(read_trace([*lines[:2], json.dumps(later)]))
    port.advance(1_000)
    assert len(port.cards()) == 2
    with pytest.raises(DeviceLost):
        port.sensors("SIM-h-1")


@pytest.mark.parametrize(
    ("line", "text"),
    [(0, "{}"), (0, "[]"), (0, ""), (2, "{"), (2, "7"), (2, '{"at_ms": 1}'), (2, '{"at_ms": -5, "cards": []}'),
     (2, '{"at_ms": 2000, "cards": [{"card": ["u", 0, "m", ""], "memory": [1], "processes": [], "sensors": {}}]}'),
     (2, '{"at_ms": 2000, "cards": [{"card": ["u"]}]}')],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_named(line: int, text: str) -> None:
    """With its number."""
    lines = a_trace()
    lines[line] = text
    with pytest.raises(CallerError) as error:
        read_trace(lines)
    assert (error.value.code, error.value.facts["line"]) == ("bad_trace", line + 1)


def test_a_trace_without_samples_is_none() -> None:
    """There is nothing to play."""
    for lines in ([], [header()]):
        with pytest.raises(CallerError):
            read_trace(lines)
