"""Figures, promises and picture are made from what was measured, and from nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from bursar.demo.footprint import Footprint
from bursar.demo.picture import draw, headline, table_rows, write_html
from bursar.demo.result import (
    Arm,
    Gpu,
    Happening,
    Recovery,
    Result,
    Tasks,
    broken_promises,
    flat,
    not_promised,
)


def arm(name: Literal["unmanaged", "managed"]) -> Arm:
    return Arm(
        name=name,
        label=name,
        arrivals=100,
        completed=100,
        completed_twice=0,
        violations=0,
        calls=104,
        completion_s=[n / 10 for n in range(100)],
        wasted_tokens=0,
        wasted_usd=0.0,
        utilisation=0.91,
        measured_s=40.0,
        used=[(0.0, 0.0), (1.0, 0.9), (2.0, 0.92)],
        backlog=[(0.5, 30.0)],
        finished_at=30.0,
    )


def result() -> Result:
    return Result(
        trace="generated",
        agents=100,
        processes=4,
        window="rolling",
        window_s=20.0,
        limit=5_000_000,
        seconds=70.0,
        unmanaged=replace(arm("unmanaged"), violations=7, completed=90),
        managed=arm("managed"),
        happenings=[Happening("outage", 0.5, 0.4, "outage"), Happening("kill", 1.5, 0, "kill -9")],
        recoveries=[Recovery("limiter", 10.0, 1.1), Recovery("scheduler", 20.0, 1.3), Recovery("worker", 25.0, 1.2)],
        coordination_ms={"limiter": [float(n) for n in range(100)]},
        inside_agents_ms=[1.0],
        circuit=[(0.6, 0.9, "open"), (0.9, 1.0, "half_open")],
        trips_ms=[80.0, 120.0],
        tasks=Tasks(accepted=100, done=100, ended_twice=0, retried=3),
        gpu=Gpu(oversubscribed=0, allocations=12, unmanaged_failed=4, unmanaged_allocations=12),
        footprint={"limiter": Footprint(0.02, 90_000_000, 2), "gpu-manager": Footprint(0.03, 80_000_000, 2)},
    )


def test_the_flat_figures_have_the_keys_that_others_read() -> None:
    """Names are part of the interface; values come from the arms."""
    figures = flat(result())

    assert figures["managed_violations"] == 0
    assert figures["managed_lost"] == 0
    assert figures["managed_completed_twice"] == 0
    assert figures["managed_utilisation"] == 0.91
    assert figures["unmanaged_violations"] == 7
    assert figures["unmanaged_lost"] == 10
    assert figures["kill_recovery_max_s"] == 1.3
    assert figures["coordination_p95_ms"] == 95.0
    assert figures["gpu_oversubscribed"] == 0
    assert figures["tasks_lost"] == 0
    assert figures["tasks_ended_twice"] == 0
    assert figures["breaker_trip_p99_ms"] == 120.0
    assert figures["services_killed"] == 2
    assert figures["recoveries_over_3s"] == 0
    assert figures["idle_cpu_cores_all"] == pytest.approx(0.05)
    assert figures["rss_mb_all"] == pytest.approx(170.0)
    assert json.loads(json.dumps(figures)) == figures


def test_a_good_run_breaks_no_promise() -> None:
    """What the unmanaged arm did is no promise of ours."""
    assert broken_promises(result()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"violations": 1}, "1 calls over the limit"),
        ({"completed": 99}, "1 requests lost"),
        ({"completed_twice": 2}, "2 requests done twice"),
        ({"utilisation": 0.84}, "84.0% is not within"),
        ({"utilisation": 0.96}, "96.0% is not within"),
    ],
)
def test_each_broken_promise_is_named(change: dict[str, float], says: str) -> None:
    """Whatever the managed arm did not keep is said in words."""
    good = result()
    broken = broken_promises(replace(good, managed=replace(good.managed, **change)))  # type: ignore[arg-type]

    assert len(broken) == 1
    assert says in broken[0]


def test_use_of_the_limit_is_not_promised_for_large_requests_or_little_work() -> None:
    """Requests above 7 % of the limit, or less waiting than one window: the figure is shown and not judged."""
    idle = replace(result().managed, utilisation=0.3)
    large = replace(result(), managed=idle, extra={"largest_request_share": 0.2})
    little = replace(result(), managed=replace(idle, measured_s=0.0))

    assert "20% of the limit" in not_promised(large)
    assert "never waited" in not_promised(little)
    assert not_promised(result()) == ""
    assert broken_promises(large) == broken_promises(little) == []


@pytest.mark.parametrize(
    ("recoveries", "says"),
    [
        ([], "nothing was killed"),
        ([Recovery("breaker", 1.0, 1.0), Recovery("worker", 2.0, 4.0)], "4.0 s until the worker was made up for"),
    ],
)
def test_a_recovery_must_be_seen_and_quick(recoveries: list[Recovery], says: str) -> None:
    """No kill, no claim about recovery; a slow one is a broken promise."""
    assert says in broken_promises(replace(result(), recoveries=recoveries))[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": Tasks(100, 99, 0, 0)}, "1 accepted tasks were lost"),
        ({"tasks": Tasks(100, 100, 2, 0)}, "2 tasks with more than one accepted end"),
        ({"gpu": Gpu(3, 12, 0, 12)}, "3 allocations beyond"),
    ],
)
def test_lost_tasks_second_ends_and_full_cards_are_broken_promises(change: dict[str, Any], says: str) -> None:
    """As the other fleet's are not."""
    (broken,) = broken_promises(replace(result(), **change))
    assert says in broken


def test_the_picture_and_the_page_are_made_and_need_nothing_else(tmp_path: Path) -> None:
    """The PNG is a picture; the HTML holds it and all figures, with no reference to anything outside."""
    draw(result(), tmp_path / "demo.png")
    write_html(result(), tmp_path / "demo.png", tmp_path / "demo.html")
    page = (tmp_path / "demo.html").read_text()

    assert (tmp_path / "demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert headline(result()) in page
    assert "managed_utilisation" in page
    assert "http" not in page.split("base64,")[0]


def test_the_table_has_both_arms_beside_each_other() -> None:
    """Each row names what it shows and has a value for either arm."""
    rows = {name: (left, right) for name, left, right in table_rows(result())}

    assert rows["requests lost"] == ("10", "0")
    assert rows["calls over the limit (429)"] == ("7", "0")
    assert rows["completion p50"] == ("5.00 s", "5.00 s")
