"""Ten kills in ten seconds, one instance after the other."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from bursar.kernel.entry import EPOCH
from tests.integration import history
from tests.integration.fleet import ask, fleet_of
from tests.integration.support import Rig

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration

KILLS = 10


async def test_restart_storm_reuses_no_epoch_and_replays_to_what_the_owner_answers(tmp_path: Path) -> None:
    """kill -9 of alternating instances, ten within about ten seconds, each started again at once: every epoch has one
    entry that begins it, the chain holds from the first entry to the last, and the replay is what the owner says."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig, clients=30) as fleet:
            began = time.monotonic()
            for kill in range(KILLS):
                victim = rig["ab"[kill % 2]]
                victim.kill()
                victim.start()
                await asyncio.sleep(max(0.0, began + kill + 1 - time.monotonic()))
            took = time.monotonic() - began
            await fleet.answers(500)
        now = await ask(await rig.bus("client"), "get", {})
        final, entries = await rig.walk()
        log.info("%d kills in %.1f s, %d answers, epoch %d", KILLS, took, fleet.answered, final.epoch)
        history.check(fleet.done, final.state)
        begun = [entry.epoch for entry in entries if entry.kind == EPOCH]
        assert begun == list(range(1, len(begun) + 1))
        assert [entry.epoch for entry in entries] == sorted(entry.epoch for entry in entries)
        assert (now["n"], now["digest"]) == (final.state.n, final.state.digest.hex())
        assert (await rig.replay()).dump() == final.dump()
