"""Local workers that follow the monitor's number: what is to be done, and real processes that do it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest

from bursar.bus.codec import decode_value
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import HomeError, create_home, mint_agent
from bursar.bus.micro import Service
from bursar.bus.server import NatsServer
from bursar.cli.autoscale import Autoscaler, Seen, Step, Wanted, creds_of, is_of, step_of, wanted_of
from bursar.contracts.base import event_subject, observation_subject
from bursar.contracts.monitor_picture import Section, WorkerRow
from tests.integration.support import Instance, settled_in, until

NAMES = [f"w-{number}" for number in range(1, 9)]


def row(name: str, running: int = 0, state: str = "up") -> WorkerRow:
    return WorkerRow(worker=name, kind="cpu", state=state, slots=4, running=running)


def seen(desired: int, *rows: WorkerRow) -> Seen:
    return Seen(desired, {found.worker: found for found in rows})


def test_what_is_missing_is_started_here_and_what_runs_elsewhere_counts() -> None:
    """Names that are in use, or not yet free again, are left out; workers elsewhere that drain do not count."""
    elsewhere = [row("far-1"), row("far-2", state="draining")]
    step = step_of(seen(4, row("w-1"), *elsewhere), ["w-1"], ["w-2"], NAMES, 8)
    assert step == Step(("w-3", "w-4"), (), 0)


def test_no_more_run_here_than_this_machine_may_have() -> None:
    """The rest is said to be missing."""
    assert step_of(seen(9), [], [], NAMES, 3) == Step(("w-1", "w-2", "w-3"), (), 6)


def test_those_without_work_go_first_and_of_these_the_newest() -> None:
    """A worker that does something is the last to be drained."""
    rows = [row("w-1"), row("w-2"), row("w-3", running=2)]
    assert step_of(seen(1, *rows), ["w-1", "w-2", "w-3"], [], NAMES, 8) == Step((), ("w-2", "w-1"), 0)
    assert step_of(seen(0, row("w-1")), ["w-1"], [], NAMES, 8).drain == ("w-1",)
    assert step_of(seen(2, *rows, row("far-1")), ["w-1", "w-2", "w-3"], [], NAMES, 8).drain == ("w-2", "w-1")


def test_a_worker_is_named_as_python_names_it() -> None:
    """With the pool before it, or that of the default rules; anything else is said at the start."""
    assert wanted_of("my.module:worker", 3) == Wanted("workers", "my.module:worker", 3)
    assert wanted_of("gpu=m:make.it", 1) == Wanted("gpu", "m:make.it", 1)
    assert wanted_of("m:w").most >= 8
    for wrong in ("worker", "a b=m:w", "=:", "m:"):
        with pytest.raises(ValueError, match="takes a worker"):
            wanted_of(wrong)
    assert is_of("gpu-*", "gpu-1")
    assert not is_of("gpu-1", "gpu-10")


def test_credentials_are_minted_here_and_looked_for_elsewhere(tmp_path: Path) -> None:
    """Of a server that is not ours nothing can be minted; an agent's name is not taken for a worker."""
    home = create_home(tmp_path / "home", ("scheduler", "monitor"))
    find = creds_of(home, None)
    assert find("w-1") == find("w-1") == home.creds("w-1")
    assert home.role_of("w-1") == "worker"
    mint_agent(home, "ann")
    with pytest.raises(HomeError, match="no worker"):
        find("ann")
    given = creds_of(home, home.creds_dir)
    assert given("w-1") == home.creds("w-1")
    with pytest.raises(HomeError, match="--role worker"):
        given("w-2")


WORKER = """
import bursar
worker = bursar.Worker(slots=2)
@worker.task("any")
async def anything(task):
    return None
"""


class Monitor:
    """Says how many workers there should be, and hears how long starts took. ``desired`` None: not known."""

    def __init__(self, bus: NatsBus, scheduler: list[dict[str, Any]]) -> None:
        self.desired: int | None = None
        self.workers = scheduler
        self.took: list[int] = []
        self.bus = bus
        self.service = Service(bus, "monitor", "1.0.0", instance="m-1")

    async def start(self) -> None:
        endpoint = await self.service.add_endpoint("status", "bursar.req.monitor.status.*", self._answer)
        await endpoint.listen()
        await self.bus.subscribe(
            observation_subject("monitor", "took", "*"), lambda msg: self.took.extend(decode_value(msg.data)[0]["ms"])
        )

    def wants(self, desired: int) -> None:
        self.desired = desired
        self.bus.publish(event_subject("monitor", "scale", "workers"), b"{}")

    def _answer(self, call: Any) -> None:
        pool = {
            "v": 1, "pool": "workers", "desired": self.desired, "current": None, "least": 0, "most": 9, "why": "busy",
            **dict.fromkeys(("slots", "running", "waiting", "forecast", "age_ms")),
            "forecast_error_milli": None, "naive_error_milli": None,
        }  # fmt: skip
        sections: dict[str, Any] = {name: [] for name in get_args(Section)} | {"scaling": [pool]}
        call.respond_value({"v": 1, "ok": True, "now_ms": 1, "sources": {}, "left_out": {}, **sections, "fence": "f"})


@contextlib.asynccontextmanager
async def site(directory: Path) -> AsyncIterator[tuple[Monitor, Autoscaler, list[str]]]:
    """A server, a scheduler, a monitor that says what the test wants, and the autoscaler."""
    home = create_home(directory / "home", ("scheduler", "monitor"))
    (directory / "scaled_worker.py").write_text(WORKER)
    lines: list[str] = []
    async with NatsServer(home) as server:
        scheduler = Instance("s-1", "bursar_scheduler", directory, await settled_in(home, server.url, "scheduler"))
        scheduler.start()
        buses = [await connect(server.url, home.creds(name), principal=name) for name in ("ops", "svc-monitor")]
        monitor = Monitor(buses[1], [])
        scaler = Autoscaler(
            buses[0], Wanted("workers", "scaled_worker:worker", 4), creds_of(home, None), server.url, lines.append
        )
        await monitor.start()
        following = asyncio.create_task(scaler.follow())
        try:
            await scheduler.is_up(("owner",))
            yield monitor, scaler, lines
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await scaler.stop()
            scheduler.kill()
            for bus in buses:
                await bus.close()


@pytest.mark.integration
async def test_workers_are_started_and_drained_as_the_monitor_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes: what is not known starts nothing; two take tasks, and how long that took is told; one too many
    ends by itself; at the end all have ended in good order."""
    monkeypatch.chdir(tmp_path)
    async with site(tmp_path) as (monitor, scaler, lines):
        await until(lambda: bool(lines), 10, "it says that nothing is known")
        assert not scaler.running
        monitor.wants(2)
        await until(lambda: len(scaler.spawned) == 2, 20, "two workers take tasks")
        await until(lambda: sorted(monitor.took) == sorted(scaler.spawned), 5, "the monitor is told")
        first, second = scaler.running
        monitor.wants(1)
        await until(lambda: f"{second} has ended" in lines, 20, "one is drained")
        assert list(scaler.running) == [first]
    assert f"{first} has ended" in lines
    assert not any("killed" in line or "starting it again" in line for line in lines)
