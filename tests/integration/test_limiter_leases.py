"""Leases against the real limiter: agents in demand decide by themselves, the limiter is killed meanwhile, processes
are stopped for longer than a lease; and no window ever holds more than the limit."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bursar.client.errors import LimiterUnavailable
from bursar.client.fleet import Fleet
from bursar.client.local_permit import LocalPermit
from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from tests.integration.support import ROOT, Rig, until

pytestmark = pytest.mark.integration

WINDOW = 2.0
LIMIT = 4_000

BUDGETS = f"""
[budgets.org]
utilisation = "80%"
jitter = "300ms"
limits.input_tokens = {{ limit = {LIMIT}, window = "2s" }}
limits.concurrent = 400

[budgets.hot]
utilisation = "80%"
parent = "org"
jitter = "300ms"
limits.input_tokens = {{ limit = {LIMIT}, window = "2s" }}

[budgets.free]
when_unreachable = "open"
limits.requests = {{ limit = 100000, window = "2s" }}

[budgets.cut]
when_unreachable = "island"
islands = 2
island_share = "20%"
jitter = "300ms"
limits.requests = {{ limit = 100, window = "10s" }}
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    budgets = tmp_path / "budgets.toml"
    budgets.write_text(BUDGETS)
    env = {"BURSAR_BUDGETS": str(budgets)}
    async with Rig(tmp_path, module="bursar_limiter", service="limiter", decider=LimiterDecider, env=env) as rig:
        await rig.start("a")
        yield rig


class Load:
    """Agents that call as often as they are let; ``charges``: (time, tokens) of every call, ``local`` of them decided
    here."""

    def __init__(self) -> None:
        self.charges: list[tuple[float, int]] = []
        self.local = 0
        self.is_over = False

    async def run(self, fleet: Fleet, tokens: int) -> None:
        while not self.is_over:
            try:
                async with fleet.limiter.reserve("hot", input_tokens=tokens, wait=5) as permit:
                    permit.sent()
                    self.charges.append((time.monotonic(), tokens))
                    self.local += isinstance(permit, LocalPermit)
            except LimiterUnavailable:
                continue
            await asyncio.sleep(0.004)

    def most_in_a_window(self) -> int:
        """The most tokens in any window, wherever it starts."""
        most = held = first = 0
        for at, tokens in self.charges:
            held += tokens
            while self.charges[first][0] <= at - WINDOW:
                held -= self.charges[first][1]
                first += 1
            most = max(most, held)
        return most


async def test_a_killed_limiter_finds_its_leases_again_and_no_window_is_over(rig: Rig) -> None:
    """Agents hold leases; the limiter is killed and comes back without learning; the limit holds all along, and demand
    is served from leases before and after."""
    load = Load()
    async with Fleet(None, bus=await rig.bus("agent-1")) as one, Fleet(None, bus=await rig.bus("agent-2")) as two:
        running = [asyncio.create_task(load.run(fleet, 10)) for fleet in (one, two) for _ in range(4)]
        await until(lambda: load.local > 150, 15, "calls are decided by leases")
        rig["a"].kill()
        await rig.start("b")
        before = load.local
        await until(lambda: load.local > before + 150, 15, "leases go on after the restart")
        load.is_over = True
        await asyncio.gather(*running)
        assert one.limiter.background.failed == two.limiter.background.failed == 0
    assert load.most_in_a_window() <= LIMIT
    folded = await rig.replay()
    validate(folded.state, folded.time)
    assert not any(any(record.counts) for record in folded.state.leases.records.values())


async def test_calls_go_on_and_are_charged_where_a_budget_is_open(rig: Rig) -> None:
    """They are counted here, and told to the limiter when it is back."""
    async with Fleet(None, bus=await rig.bus("agent-1")) as fleet:
        limiter = fleet.limiter
        await (await limiter.acquire("free")).settle()
        await until(lambda: limiter.away.rule("free") == "open", 5, "the rule is known")
        rig["a"].kill()
        for _ in range(5):
            async with limiter.reserve("free") as permit:
                permit.sent()
        assert limiter.away.uncovered == {"free": 5}
        await rig.start("b")
        await until(lambda: not limiter.away.is_away, 10, "it is back")
    folded = await rig.replay()
    assert folded.state.leases.uncovered == {"free": 5}


async def test_a_slice_is_spent_and_no_more_where_a_budget_is_an_island(rig: Rig) -> None:
    """Two slices of ten: each cut off agent makes ten calls in a window, and the rest of the limit is not touched."""
    async with Fleet(None, bus=await rig.bus("agent-1")) as one, Fleet(None, bus=await rig.bus("agent-2")) as two:
        for fleet in (one, two):
            await (await fleet.limiter.acquire("cut")).settle()
            await until(lambda fleet=fleet: "cut" in fleet.limiter.away._leases, 5, "a slice is held")  # type: ignore[misc]
        (told,) = (await one.limiter.status("cut")).budgets
        assert told.dimensions["requests"].headroom == 78
        rig["a"].kill()
        for fleet in (one, two):
            for _ in range(10):
                async with fleet.limiter.reserve("cut") as permit:
                    permit.sent()
            assert fleet.limiter.away.take("cut", (1, 0, 0, 1, 0, 0, 0)) is None
        await rig.start("b")
        await until(lambda: not one.limiter.away.is_away, 10, "it is back")
        await (await one.limiter.acquire("cut")).settle()


async def test_a_process_that_is_stopped_for_longer_than_its_lease_exceeds_nothing(rig: Rig) -> None:
    """Two agents as processes; one is stopped in the middle of spending, and the other has what it leaves."""
    command = [sys.executable, "-m", "tests.integration.lease_agent", rig.url]
    agents = [
        await asyncio.create_subprocess_exec(*command, f"agent-{n}", "7", stdout=asyncio.subprocess.PIPE, cwd=ROOT)
        for n in (1, 2)
    ]
    outputs = [agent.stdout for agent in agents]
    assert outputs[0] is not None
    assert outputs[1] is not None
    assert await asyncio.wait_for(outputs[0].readline(), 20) == b"held\n"
    agents[0].send_signal(signal.SIGSTOP)
    await asyncio.sleep(2.0)  # longer than a lease and its drift
    agents[0].send_signal(signal.SIGCONT)
    load = Load()
    for output in outputs:
        told = (await asyncio.wait_for(output.read(), 30)).splitlines()[-1]  # type: ignore[union-attr]
        load.charges += [(at / 1000.0, tokens) for at, tokens in json.loads(told)]
    load.charges.sort()
    assert len(load.charges) > 300
    assert load.most_in_a_window() <= LIMIT
