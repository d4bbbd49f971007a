"""How `bursar top` looks: ages, unknown numbers, states in words, and that it fits."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from bursar.cli.top_frame import Frame, Row
from bursar.cli.top_layout import fitting, lines, screen
from bursar.cli.top_view import TABLES, bar, count, latency, size, span
from bursar.contracts.base import Message
from bursar.contracts.monitor import FLEET
from bursar.contracts.monitor_picture import (
    AlertRow,
    BudgetRow,
    CircuitRow,
    DeviceRow,
    HostRow,
    IncidentRow,
    InstanceRow,
    QueueRow,
    ScaleRow,
    SloRow,
    WorkerRow,
)

G = 2**30


def row(message: Message, age: int | None = 400, **more: Any) -> Row:
    return {**message.model_dump(), "age_ms": age, **more}


def instance(name: str, *, owner: bool = True, here: bool = True, age: int = 300) -> Row:
    made = InstanceRow(
        service="limiter", instance=name, version="0.1.0", owner=owner, requests=18_234, errors=2, open=1, p50_us=900,
        p99_us=2_345, rss_bytes=58 * 2**20, cpu_ms=None,
    )  # fmt: skip
    return row(made, age, is_here=here)


def scale() -> ScaleRow:
    return ScaleRow(
        pool="workers", desired=8, current=5, least=5, most=100, why="waiting", slots=40, running=38, waiting=60,
        forecast=52, forecast_error_milli=900, naive_error_milli=1_400, age_ms=400,
    )  # fmt: skip


def objective() -> SloRow:
    return SloRow(
        slo="cpu", subject="", signal="cpu_permille", objective_ppm=950_000, low=700, high=850, good=900, bad=300,
        left_permille=-4_000, p95_ms=None, burn_1h=5_200, burn_6h=1_000, burn_1d=None, burn_3d=None,
    )  # fmt: skip


def sections() -> dict[str, list[Row]]:
    alert = AlertRow(
        alert="1.1.9", rule="host-silent", subject="g2", severity="critical", value=9_000, at_least=5_000, since_ms=1,
        for_ms=44_000, silenced=False, acknowledged_by="ops", incident="", inhibited=False, age_ms=1,
        text="Host g2 has sent no sample for 9 s.",
    )  # fmt: skip
    numbers = {"limit": 4_000, "used": 3_620, "in_flight": 12, "headroom": 380, "waiting": 3, "window_ms": 60_000}
    budget = BudgetRow.model_validate({"budget": "provider-a/eu", "dimension": "requests", **numbers})
    money = BudgetRow.model_validate({**numbers, "budget": "provider-a/eu", "dimension": "usd_micros", "window_ms": 0})
    incident = IncidentRow(
        incident="1.1.9", firing=4, severity="critical", rule="host-silent", subject="g2", for_ms=44_000, told_ms=1_000,
        number=1, text="Host g2 has sent no sample for 9 s. 3 more alerts with it.",
    )  # fmt: skip
    return {
        "alerts": [row(alert)],
        "incidents": [row(incident)],
        "scaling": [row(scale())],
        "slos": [row(objective())],
        "services": [instance("limiter-1"), instance("limiter-2", owner=False), instance("old", here=False, age=9_000)],
        "budgets": [row(budget), row(money)],
        "circuits": [row(CircuitRow(target="provider-a", state="half_open", cause="probing"), 6_000)],
        "devices": [row(DeviceRow(host="g1", device="GPU-5d2f1c3a-77aa", state="lost", total_bytes=12 * G,
                                  granted_bytes=4 * G, leases=1), 22_000)],
        "queues": [row(QueueRow(queue="reactive", waiting=12, running=8))],
        "workers": [row(WorkerRow(worker="w", kind="gpu", state="up", slots=4, running=3, heard_ms=300))],
        "hosts": [row(HostRow(host="new-host", silent=True), None)],
    }  # fmt: skip


def frame(shown: dict[str, list[Row]], *away: str) -> Frame:
    return Frame("ops", "nats://here", shown, {name: name not in away for name in FLEET})


def drawn(shown: Frame, width: int = 100, height: int | None = None) -> str:
    """As plain text."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(screen(shown, height))
    return out.getvalue()


def line_of(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def test_a_frame_shows_every_section_within_a_hundred_columns() -> None:
    """Nothing is cut, nothing wraps."""
    text = drawn(frame(sections()))
    assert all(len(line.rstrip()) <= 100 for line in text.splitlines())
    for table in TABLES:
        assert table.title in text
    assert "…" not in text
    assert "all services answer" in text


def test_states_are_words_and_ages_are_numbers() -> None:
    """Nothing rests on colour: owner, gone, lost, and at the right edge how old it is."""
    text = drawn(frame(sections()))
    assert "owner" in line_of(text, "limiter-1")
    assert "standby" in line_of(text, "limiter-2")
    assert "gone" in line_of(text, "old ")
    assert line_of(text, "old ").endswith("9.0s")
    assert "lost" in line_of(text, "g1/GPU-5d2f1c3a")
    assert line_of(text, "g1/GPU-5d2f1c3a").endswith("22s")
    assert line_of(text, "new-host").endswith("never")
    assert "critical (ack ops)" in text
    assert "critical (4 alerts)" in line_of(text, "3 more alerts")
    assert "-400%" in line_of(text, "5.2x")


def test_what_is_not_known_is_a_dash() -> None:
    """A host that has never been heard shows no zeros."""
    assert not any(char.isdigit() for char in line_of(drawn(frame(sections())), "new-host"))


def test_a_budget_is_named_once_and_money_is_money() -> None:
    """Rows of one budget stand together; an amount that is spent once has no window."""
    text = drawn(frame(sections()))
    assert text.count("provider-a/eu") == 1
    assert "requests/1m" in text
    assert "$0.00" in line_of(text, "dollars")


def test_a_service_that_is_away_is_named() -> None:
    """In the head, and where its section would be; its last rows stay and grow old."""
    text = drawn(frame({"circuits": sections()["circuits"]}, "breaker", "scheduler", "monitor"))
    assert "no answer from breaker, scheduler, monitor" in text
    assert "the scheduler does not answer" in text
    assert "the monitor does not answer" in line_of(text, "Hosts")
    assert "half_open" in text
    assert line_of(drawn(frame({})), "Circuits").split() == ["Circuits", "none"]
    nobody = frame({}, *FLEET)
    nobody.is_connected = False
    assert "not connected   no service answers" in drawn(nobody)


@pytest.mark.parametrize("height", [24, 40, 60])
def test_a_frame_fits_into_its_terminal(height: int) -> None:
    """Long sections are cut first, and say how much is left out."""
    shown = sections()
    shown["hosts"] = [row(HostRow(host=f"host-{n}", silent=False)) for n in range(300)]
    made = frame(shown)
    made.left_out = {"hosts": 700}
    text = drawn(made, 100, height)
    most, is_airy = fitting(made, height)
    assert len(text.splitlines()) == lines(made, most, is_airy=is_airy)
    assert len(text.splitlines()) <= height
    assert f"… {1_000 - text.count('host-')} more" in text


@pytest.mark.parametrize("width", [60, 72, 80])
def test_narrow_terminals_cut_and_do_not_wrap(width: int) -> None:
    """Each row stays one line, and the last thing that goes is the age of its numbers."""
    wide, narrow = drawn(frame(sections()), 100), drawn(frame(sections()), width)
    assert len(narrow.splitlines()) == len(wide.splitlines())
    assert line_of(narrow, "old ").endswith("9.0s")
    if width >= 72:
        assert line_of(narrow, "provider-a/eu").rstrip().endswith("0.4s")
        assert "90%" in line_of(narrow, "provider-a/eu"), "how full it is says more than how much that is"
        assert "4.0 GiB / 12 GiB" in narrow


def test_a_narrow_terminal_tells_rows_apart() -> None:
    """Numbers go before the names of what they are about."""
    text = drawn(frame(sections()), 60)
    for name in ("limiter-1", "provider-a/eu", "g1/GPU-5d2f1c3a", "reactive"):
        assert name in text
    assert "limiter-1" in drawn(frame(sections()), 40)


def test_of_a_section_that_is_cut_the_rows_stay_that_somebody_should_see() -> None:
    """Full, waited for, gone: in their own order, and none of them because its name comes first."""
    shown = sections()
    budget = shown["budgets"][0]
    shown["budgets"] = [{**budget, "budget": f"b{n}", "used": 10 * n, "waiting": 0} for n in range(30)]
    shown["budgets"][7] |= {"waiting": 2}
    shown["budgets"][9] |= {"used": 4_000}
    shown["services"] = [instance(f"a-{n}", owner=False) for n in range(30)] + [instance("z", here=False, age=9_000)]
    text = drawn(frame(shown), 100, 40)
    budgets = [line.split()[0] for line in text.splitlines() if line.startswith("b") and line[1].isdigit()]
    assert budgets[:2] == ["b7", "b9"]
    assert "gone" in text
    assert f"Budgets … {30 - len(budgets)} more" in text


def test_what_is_idle_is_dim_and_what_is_not_is_bright() -> None:
    """A budget that nobody uses, a standby, an empty queue."""
    shown = sections()
    shown["queues"] = [row(QueueRow(queue=name, waiting=n, running=0)) for n, name in enumerate(("none", "some"))]
    out = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard", highlight=False)
    rendered = out.render(screen(frame(shown)))
    dim = {segment.text.strip(): segment.style is not None and bool(segment.style.dim) for segment in rendered}
    assert dim["none"]
    assert not dim["some"]
    assert dim["limiter-2"]
    assert not dim["limiter-1"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(None), "–"), (count(0), "0"), (count(9_999), "9999"), (count(18_234), "18.2k"),
        (count(1_234_567), "1.23M"), (count(25_000_000_000), "25G"),
        (size(None), "–"), (size(512), "512 B"), (size(5 * 2**20), "5.0 MiB"), (size(12 * G), "12 GiB"),
        (latency(None), "–"), (latency(2_345), "2.35 ms"), (latency(1_500_000), "1.5 s"),
        (span(None), "–"), (span(400), "0.4s"), (span(44_000), "44s"), (span(600_000), "10m"), (span(9_000_000), "2h"),
        (bar(50, 100, 0.9, 1).plain, "████      50%"), (bar(None, 100, 0.9, 1).plain.strip(), "–"),
        (bar(1, 0, 0.9, 1).plain.strip(), "–"), (bar(300, 100, 0.9, 1).plain, "████████ 300%"),
    ],
)  # fmt: skip
def test_numbers_are_short(shown: str, expected: str) -> None:
    """As people read them; what is not known is a dash."""
    assert shown == expected
