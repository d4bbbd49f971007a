"""A fleet in four processes, an upstream that comes and goes, and everything else killed one after another."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from bench.breaker_rig import Fleet, Process, Upstream
from bursar_breaker.core import BreakerDecider
from tests.integration.breaker_rig import check_journal, shown, trust_of
from tests.integration.support import Rig

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration

TARGET: Final = "up/model"
CALL_EVERY_S: Final = 1.0
OPEN_S: Final = 0.5
PROCESSES: Final = 4
RULES: Final = """
[default]
window = "3s"
minimum_calls = 10
consecutive = 0
open_for = "500ms"
growth = "100%"
jitter = "0%"
max_open = "1s"
probes = 1
probe_ttl = "1s"
successes = 1
ramp = ["25%"]
ramp_step = "300ms"
"""


@asynccontextmanager
async def site(directory: Path, agents: int) -> AsyncIterator[tuple[Rig, Fleet, Upstream]]:
    """Owner and standby; agents that call the upstream once a second, under the breaker."""
    circuits = directory / "circuits.toml"
    circuits.write_text(RULES)
    env = {"BURSAR_CIRCUITS": str(circuits)}
    async with Rig(directory, module="bursar_breaker", service="breaker", decider=BreakerDecider, env=env) as rig:
        await rig.start("a", "b")
        each = agents // PROCESSES
        trust = str(trust_of(rig))
        share = [(str(n * each), str(each)) for n in range(PROCESSES)]
        parts = [Process("bench.breaker_agents", rig.url, trust, *part) for part in share]
        fleet, upstream = Fleet([await part.start() for part in parts]), Upstream(200)
        try:
            await asyncio.gather(*(part.until("ready", within=60.0) for part in parts))
            await fleet.tell("call", TARGET, "127.0.0.1", await upstream.start(), CALL_EVERY_S)
            yield rig, fleet, upstream
        finally:
            for part in parts:
                await part.kill()
            upstream.close()


async def breaks(fleet: Fleet, upstream: Upstream, within: float) -> float:
    """The upstream is dead, and the last of all agents knows; when that was."""
    await fleet.tell("watch", TARGET)
    upstream.status, began = 0, time.monotonic()
    known = await fleet.last("known", TARGET, within)
    log.info("dead: all know after %.2f s", known - began)
    return known


async def recovers(fleet: Fleet, upstream: Upstream, within: float) -> None:
    """The upstream is well, and the last of all agents knows."""
    await fleet.tell("free", TARGET)
    upstream.status, began = 200, time.monotonic()
    log.info("well: all know after %.2f s", await fleet.last("freed", TARGET, within) - began)


async def flap(directory: Path, agents: int, within: float) -> None:
    """What is killed while the upstream is dead keeps nobody from knowing that it is well again."""
    async with site(directory, agents) as (rig, fleet, upstream):
        await shown(rig, TARGET, lambda row: row.state == "closed" and row.calls >= agents // 2)
        known = await breaks(fleet, upstream, within)
        rig["a"].kill()
        await rig["b"].becomes("owner")
        await asyncio.sleep(1.0)
        probes, took = fleet.went_since(known), time.monotonic() - known
        assert probes <= 2 + took / OPEN_S, f"{probes} calls to a dead upstream in {took:.1f} s"
        await recovers(fleet, upstream, within)
        await breaks(fleet, upstream, within)
        await probers_die(rig, fleet, upstream, within)
        await breaks(fleet, upstream, within)
        rig.server.kill()
        await asyncio.sleep(0.5)
        await rig.server.start()
        await recovers(fleet, upstream, within)
        await shown(rig, TARGET, lambda row: row.state == "closed" and row.reporters > agents // 10)
        state = await check_journal(rig)
        assert state.circuits[TARGET].state == "closed"


async def probers_die(rig: Rig, fleet: Fleet, upstream: Upstream, within: float) -> None:
    """Twice who holds the only permit is killed; the circuit is not stuck in half-open."""
    trust = str(trust_of(rig))
    for _ in range(2):
        prober = await Process("bench.breaker_prober", rig.url, trust, TARGET).start()
        try:
            await prober.until("ready", within=20.0)
            await prober.until("held", within=within)
        finally:
            await prober.kill()
    began = time.monotonic()
    await recovers(fleet, upstream, within)
    log.info("after two dead probers: %.2f s", time.monotonic() - began)


async def test_a_fleet_knows_what_its_upstream_does_whatever_is_killed(tmp_path: Path) -> None:
    """kill -9 of the owner, of probers, of the server, while the upstream flaps: all agents know each time."""
    await flap(tmp_path, agents=80, within=12.0)


@pytest.mark.slow
async def test_the_same_with_a_thousand_agents(tmp_path: Path) -> None:
    """Each on a connection of its own."""
    await flap(tmp_path, agents=int(os.environ.get("BURSAR_AGENTS", "1000")), within=30.0)
