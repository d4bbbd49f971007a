"""Three replicated servers; the one that leads the journal dies or stands still under load."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from bursar.contracts.base import log_stream
from bursar.kernel.errors import Conflict
from tests.integration import history
from tests.integration.fleet import fleet_of
from tests.integration.support import Rig

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration

GAP_SECONDS = 18.0
"""A Raft election takes 4 to 9 s, a second one when the votes are split, and nothing can be made durable before."""


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_cluster_loses_nothing_when_the_leader_goes(tmp_path: Path, fault: str) -> None:
    """kill -9 or SIGSTOP of the leader: one or two elections without answers, nothing acknowledged is lost or done
    twice, and afterwards answers come as fast as before."""
    async with Rig(tmp_path, replicas=3) as rig:
        assert rig.cluster is not None
        await rig.start("a", "b")
        async with fleet_of(rig) as fleet:
            started = time.monotonic()
            await fleet.answers(1000)
            before = fleet.median(started)
            leader = await rig.cluster.leader_of(log_stream(rig.service))
            gone = time.monotonic()
            if fault == "kill":
                leader.kill()
            else:
                leader.pause()
            await fleet.answers(500, within=30)
            if fault == "pause":
                leader.resume()
            await fleet.answers(500)
            settled = time.monotonic()
            await fleet.answers(1000)
            gap, after = fleet.gap(gone), fleet.median(settled)
        log.info("gap %.2f s, median %.4f -> %.4f s, errors %s", gap, before, after, dict(fleet.errors))
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)
        assert final.incarnation == 1, "nothing was lost, so nothing is to be recovered"
        assert gap <= GAP_SECONDS
        assert after <= 5 * before + 0.05


async def test_conflict_without_a_number_is_a_conflict(tmp_path: Path) -> None:
    """On three replicas a refused append often carries code 10164 and no number: the journal says `Conflict`, and of
    many appends at one expected sequence exactly one lands."""
    async with Rig(tmp_path, replicas=3) as rig:
        journal = await rig.journal()
        results = await asyncio.gather(*(journal.append(0, b"x%d" % i) for i in range(50)), return_exceptions=True)
        landed = [r for r in results if isinstance(r, int)]
        codes = {r.facts["code"] for r in results if isinstance(r, Conflict)}
        assert len(landed) == 1
        assert len(results) - 1 == sum(isinstance(r, Conflict) for r in results), results
        assert 10164 in codes
