"""The registry as a process, agents on real connections: trips reach all, states survive kills, probes are shared."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.fleet import Fleet
from tests.integration.breaker_rig import agents, all_know, breaker_rig, check_journal, fail, order, shown, trust_of
from tests.integration.support import until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration


async def test_a_trip_reaches_twenty_agents_and_probes_close_it_again(tmp_path: Path) -> None:
    """What three of them see all of them know, verified once in this process; half-open, one of them tries at a time,
    and all hear that it is well again."""
    async with breaker_rig(tmp_path) as rig:
        await rig.start("a")
        async with agents(rig, 20) as breakers:
            for breaker in breakers[3:6]:
                breaker.record("quick/m", "ok")
            await shown(rig, "quick/m", lambda row: row.reporters == 3)
            await fail(breakers[:1], "quick/m", 50)
            row = await shown(rig, "quick/m", lambda row: row.failing == 1 and row.calls == 53)
            assert row.state == "closed", "one reporter among others that succeed"
            began = time.monotonic()
            await fail(breakers[:3], "quick/m", 4)
            await all_know(breakers, "quick/m", "open")
            log.info("known by all after %.0f ms", 1000 * (time.monotonic() - began))
            assert time.monotonic() - began < 1.5
            with pytest.raises(CircuitOpen):
                await breakers[19].enter("quick/m/key")
            await all_know(breakers, "quick/m", "half_open")
            assert {breaker.registry._verifier for breaker in breakers} == {breakers[0].registry._verifier}
            await _one_at_a_time(breakers)
            await all_know(breakers, "quick/m", "closed")
        state = await check_journal(rig)
        assert not state.leases


async def _one_at_a_time(breakers: list[Breaker]) -> None:
    """All ask at once; one may try."""
    now, most = 0, 0
    outcomes: list[str] = []

    async def attempt(breaker: Breaker) -> None:
        nonlocal now, most
        try:
            async with breaker.call("quick/m") as call:
                if call.is_probe:
                    now += 1
                    most = max(most, now)
                    await asyncio.sleep(0.2)
                    now -= 1
                    outcomes.append("probe")
        except CircuitOpen:
            outcomes.append("refused")

    await asyncio.gather(*(attempt(breaker) for breaker in breakers))
    assert most == 1
    assert outcomes.count("probe") == 1


async def test_kill_of_the_owner_keeps_what_is_open(tmp_path: Path) -> None:
    """kill -9 while a circuit is open and another forced: the standby has both, and agents never see them closed; who
    comes later knows, too."""
    async with breaker_rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with agents(rig, 3) as breakers:
            await fail(breakers, "p/m")
            await all_know(breakers, "p/m", "open")
            assert (await order(rig, "force-open", "q", 1))["circuit"]["state"] == "forced_open"
            await all_know(breakers, "q", "forced_open")
            killed = time.monotonic()
            rig["a"].kill()
            await rig["b"].becomes("owner")
            async with Fleet(None, bus=await rig.bus("late"), trust=trust_of(rig)) as fleet:
                assert await fleet.breaker.ready(10)
                log.info("a new agent knows %.2f s after the kill", time.monotonic() - killed)
                assert fleet.breaker.circuits() == {"p/m": "open", "q": "forced_open"}
                with pytest.raises(CircuitOpen):
                    await fleet.breaker.enter("p/m/k")
                assert all(breaker.circuits() == fleet.breaker.circuits() for breaker in breakers)
                await order(rig, "reset", "q", 2)
                await all_know([*breakers, fleet.breaker], "q", "closed")
        await check_journal(rig)


async def test_a_paused_owner_that_wakes_up_says_nothing_that_counts(tmp_path: Path) -> None:
    """The zombie: what another has changed meanwhile stays changed for everybody."""
    async with breaker_rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with agents(rig, 3) as breakers:
            await order(rig, "force-open", "p", 1)
            await all_know(breakers, "p", "forced_open")
            rig["a"].pause()
            await rig["b"].becomes("owner")
            await order(rig, "reset", "p", 2)
            await order(rig, "force-open", "q", 3)
            await all_know(breakers, "q", "forced_open")
            rig["a"].resume()
            await rig["a"].becomes("standby")
            await order(rig, "force-close", "r", 4)
            await all_know(breakers, "r", "forced_closed")
            assert [breaker.circuits() for breaker in breakers] == 3 * [{"q": "forced_open", "r": "forced_closed"}]
        await check_journal(rig)


async def test_a_dead_prober_is_replaced_and_agents_go_on_without_a_registry(tmp_path: Path) -> None:
    """Its permit runs out; and when the only registry is gone its last word holds."""
    async with breaker_rig(tmp_path) as rig:
        await rig.start("a")
        async with agents(rig, 2) as breakers:
            await fail(breakers, "quick")
            await all_know(breakers, "quick", "half_open")
            entry = await breakers[0].enter("quick")
            assert entry.lease is not None
            began = time.monotonic()

            async def taken_over() -> None:
                while True:
                    try:
                        async with breakers[1].call("quick"):
                            return
                    except CircuitOpen as refused:
                        await asyncio.sleep(min(refused.retry_in or 0.05, 0.05))

            await asyncio.wait_for(taken_over(), 5)
            assert 0.8 < time.monotonic() - began < 2.5
            await all_know(breakers, "quick", "closed")
            await fail(breakers, "p")
            await all_know(breakers, "p", "open")
            rig["a"].kill()
            for breaker in breakers:
                assert not breaker.allows("p")
                async with breaker.call("elsewhere"):
                    pass


async def test_status_and_reports_meet(tmp_path: Path) -> None:
    """What agents report is what an operator is shown."""
    async with breaker_rig(tmp_path) as rig:
        await rig.start("a")
        async with agents(rig, 2) as breakers:
            for number, breaker in enumerate(breakers):
                for _ in range(3 + number):
                    async with breaker.call("p/m"):
                        pass
                breaker.record("p/m", "rate_limited")
            row = await shown(rig, "p/m", lambda row: row.calls == 7 and row.counts["rate_limited"] == 2)
            assert (row.reporters, row.failing, row.state) == (2, 0, "closed")
            await shown(rig, "p", lambda row: row.calls == 7)


async def test_a_fleet_that_has_missed_nothing_does_not_ask(tmp_path: Path) -> None:
    """The pulse of the owner, a signed broadcast, is enough: through a kill of the owner, too."""
    async with breaker_rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with agents(rig, 10) as breakers:
            await fail(breakers, "p")
            await all_know(breakers, "p", "open")
            pulses = [0] * len(breakers)
            for n, breaker in enumerate(breakers):
                _count_pulses(breaker, pulses, n)
            asked = [breaker.registry._caller._queries for breaker in breakers]
            await until(lambda: min(pulses) >= 3, 10, f"three pulses reach all: {pulses}")
            rig["a"].kill()
            await rig["b"].becomes("owner")
            await until(lambda: min(pulses) >= 5, 10, f"the pulse of the next owner reaches all: {pulses}")
            assert [breaker.registry._caller._queries for breaker in breakers] == asked
            assert not any(breaker.is_alone for breaker in breakers)
            assert all(breaker.circuits() == {"p": "open"} for breaker in breakers)


def _count_pulses(breaker: Breaker, counts: list[int], number: int) -> None:
    heard, registry = breaker.registry._heard, breaker.registry

    def count() -> bool:
        counts[number] += 1
        return heard()

    registry._heard = count  # type: ignore[method-assign]
