"""The limiter itself through the same faults: permits that were given are not forgotten, and limits hold."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from tests.integration.callers import BUDGETS, Callers, callers_of, check, settlements_are_kept
from tests.integration.damage import TRUNCATED
from tests.integration.support import Rig, until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration


def _limiter(directory: Path) -> Rig:
    budgets = directory / "budgets.toml"
    budgets.write_text(BUDGETS)
    return Rig(
        directory,
        module="bursar_limiter",
        service="limiter",
        decider=LimiterDecider,
        env={"BURSAR_BUDGETS": str(budgets)},
    )


@pytest.mark.parametrize("fault", ["kill", "pause", "terminate", "server"])
async def test_limiter_keeps_permits_and_limits_through_a_fault(tmp_path: Path, fault: str) -> None:
    """Agents reserve and settle while the owner (or the server) is killed, paused or terminated: every permit and
    every settlement that was acknowledged is in the journal once, and no window holds more than the limit."""
    async with _limiter(tmp_path) as rig:
        await rig.start("a", "b")
        async with callers_of(rig) as callers:
            await callers.grants(200)
            await _strike(rig, fault)
            await callers.grants(300)
        await _everything_holds(rig, callers)


async def _strike(rig: Rig, fault: str) -> None:
    if fault == "kill":
        rig["a"].kill()
    elif fault == "pause":
        rig["a"].pause()
        await rig["b"].becomes("owner")
        await asyncio.sleep(1.0)
        rig["a"].resume()
    elif fault == "terminate":
        assert await rig["a"].terminate() == 0
    else:
        rig.server.kill()
        await rig.server.start()


async def test_limiter_whose_journal_lost_entries_waits_until_what_it_may_have_granted_is_over(
    tmp_path: Path,
) -> None:
    """The end of the journal is cut off under a living limiter: it starts a new incarnation, refuses for as long as
    lost permits may be in use, and then grants again within the limits."""
    async with _limiter(tmp_path) as rig:
        await rig.start("a", "b")
        async with callers_of(rig) as callers:
            await callers.grants(200)
            await TRUNCATED[-1].apply(rig)
            await until(lambda: callers.refused["recovering"] > 0, 10, f"it recovers; {callers.errors}")
            await callers.grants(200)
        await _everything_holds(rig, callers, incarnation=2)


async def _everything_holds(rig: Rig, callers: Callers, incarnation: int = 1) -> None:
    log.info("%d granted, refused %s, errors %s", len(callers.granted), dict(callers.refused), dict(callers.errors))
    final, entries = await rig.walk()
    assert final.incarnation == incarnation
    settlements_are_kept(callers, final.state)
    if incarnation == 1:
        check(callers, entries)
    validate(final.state, final.time)
    assert (await rig.replay()).dump() == final.dump()
