"""`bursar top`: what it asks, what it remembers, and its command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bursar.bus.call import Call
from bursar.bus.memory import MemoryNetwork
from bursar.bus.micro import Service
from bursar.cli.main import build
from bursar.cli.top_frame import Looker
from bursar.client.monitor import FleetWatch
from bursar.client.monitor_rows import of_limiter
from bursar.contracts.base import request_subject
from bursar.contracts.limiter import BudgetStatus, DimensionStatus, StatusReply
from tests.monitor.fleet import FENCE, GB, Desk, full, instance

BUDGET = BudgetStatus(
    name="b", reservations=1, waiting=2, granted=3, refused=4,
    dimensions={"requests": DimensionStatus(limit=10, window_ms=1_000, used=4, in_flight=1, headroom=6, debt=0)},
)  # fmt: skip

TOLD = StatusReply(now_ms=5, recovering=False, budgets=[BUDGET], fence=FENCE)
"""What the limiter of these tests says."""


def remembering() -> Desk:
    """A monitor that heard the limiter 30 s ago."""
    desk = Desk()
    desk.page("limiter", **of_limiter(TOLD))
    desk.sweep(instance())
    desk.advance(30_000)
    return desk


class Fleet:
    """A limiter and a monitor on a network in memory, and an operator who looks at them."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.now = 100.0
        self.watch = FleetWatch(self.network.connect("ops"))
        self.looker = Looker(self.watch, "ops", "memory", lambda: self.now)
        self.services: list[Service] = []

    async def start(self, name: str, reply: Callable[[], Any]) -> Service:
        service = Service(self.network.connect(f"svc-{name}"), name, "0.1.0", instance=f"{name}-1")
        self.services.append(service)

        def answer(call: Call) -> None:
            call.respond_value(reply())

        await service.add_endpoint("status", request_subject(name, "status", "*"), answer)
        await service.start()
        return service

    async def limiter(self) -> Service:
        return await self.start("limiter", TOLD.model_dump)

    async def monitor(self, desk: Desk) -> Service:
        return await self.start("monitor", desk.status)

    async def look(self) -> dict[str, Any]:
        return (await self.looker.look(0.2)).to_json()


@pytest.fixture
async def fleet() -> Fleet:
    made = Fleet()
    await made.watch.start()
    return made


async def test_top_works_without_the_monitor(fleet: Fleet) -> None:
    """Budgets come from the limiter itself, instances from all; the monitor is said to be away."""
    await fleet.limiter()
    seen = await fleet.look()
    assert seen["answers"] == {
        "limiter": True, "breaker": False, "gpu-manager": False, "scheduler": False, "monitor": False,
    }  # fmt: skip
    (budget,) = seen["budgets"]
    assert (budget["budget"], budget["used"], budget["limit"], budget["age_ms"]) == ("b", 4, 10, 0)
    assert [row["instance"] for row in seen["services"]] == ["limiter-1"]
    assert seen["hosts"] == [], "every section is there, also when nothing is known of it"


async def test_what_only_the_monitor_knows_comes_from_it(fleet: Fleet) -> None:
    """Hosts, alerts, and GPUs where no manager tells of them; with the monitor's own ages added."""
    desk = Desk()
    desk.observe(full(1), "alpha")
    desk.advance(2_000)
    await fleet.monitor(desk)
    seen = await fleet.look()
    (host,) = seen["hosts"]
    assert (host["host"], host["memory_used_bytes"], host["age_ms"]) == ("alpha", 75 * GB, 2_000)
    assert [device["source"] for device in seen["devices"]] == ["probe"]
    fleet.now += 3
    assert fleet.looker.frame().sections["hosts"][0]["age_ms"] == 5_000


async def test_what_does_not_answer_any_more_stays_and_grows_old(fleet: Fleet) -> None:
    """Last numbers are kept with their age; an instance that is away is shown as gone, and later not at all."""
    service = await fleet.limiter()
    await fleet.look()
    await service.stop()
    fleet.now += 10
    seen = await fleet.look()
    assert not seen["answers"]["limiter"]
    assert seen["budgets"][0]["age_ms"] == 10_000
    assert (seen["services"][0]["is_here"], seen["services"][0]["age_ms"]) == (False, 10_000)
    fleet.now += 300
    assert not (await fleet.look())["services"]


async def test_what_a_service_said_before_top_looked_comes_from_the_monitor(fleet: Fleet) -> None:
    """With the age of the words, not of their repetition, and its instances as gone."""
    await fleet.monitor(remembering())
    seen = await fleet.look()
    assert not seen["answers"]["limiter"]
    assert [(row["budget"], row["used"], row["age_ms"]) for row in seen["budgets"]] == [("b", 4, 30_000)]
    rows = {row["instance"]: (row["is_here"], row["age_ms"]) for row in seen["services"]}
    assert rows == {"limiter-1": (False, 30_000), "monitor-1": (True, 0)}


async def test_what_a_service_says_itself_goes_before_what_the_monitor_remembers(fleet: Fleet) -> None:
    """The monitor's older words are not shown beside it, and an instance stands there once."""
    await fleet.monitor(remembering())
    await fleet.limiter()
    seen = await fleet.look()
    assert [row["age_ms"] for row in seen["budgets"]] == [0]
    assert [row["instance"] for row in seen["services"]] == ["limiter-1", "monitor-1"]
    assert all(row["is_here"] for row in seen["services"])


async def test_a_broken_connection_is_said(fleet: Fleet) -> None:
    """Nobody is called gone because of it before their age says so."""
    await fleet.limiter()
    await fleet.look()
    fleet.network.stop()
    seen = await fleet.look()
    assert not seen["connected"]
    assert seen["services"][0]["is_here"]


def test_help_says_what_it_shows_and_how_to_quit() -> None:
    """With examples."""
    result = CliRunner().invoke(build(["bursar.cli.top"]), ["top", "--help"])
    assert result.exit_code == 0
    for word in ("--once", "--json", "--interval", "--home", "q  quit", "Examples"):
        assert word in result.output


def test_without_credentials_it_says_what_to_do(tmp_path: Path) -> None:
    """No traceback."""
    result = CliRunner().invoke(build(["bursar.cli.top"]), ["top", "--once", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert "no credentials of 'ops'" in result.output


async def test_the_frame_is_json(fleet: Fleet) -> None:
    """Plain values only."""
    assert json.loads(json.dumps(fleet.looker.frame().to_json()))["principal"] == "ops"
