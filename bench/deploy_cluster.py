"""Three replicated servers as processes; the one that leads the journal is killed, or stands still, under load."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Final

from bench.figures import say
from bursar.contracts.base import log_stream
from tests.integration.fleet import fleet_of
from tests.integration.support import Rig

FAULTS: Final = ("kill", "pause")
WITHIN: Final = 40.0
"""Seconds in which answers must come again; more is an error and no figure."""


async def measure(directory: Path, rounds: int = 1) -> dict[str, Any]:
    """``r3_lost``: requests that were acknowledged and are not in the journal, or not as they were acknowledged.
    ``r3_recover_s``: the longest time without any answer after a fault."""
    logging.getLogger("bursar").setLevel(logging.CRITICAL)  # that connections end is the point
    lost, gaps = 0, {}
    for number in range(rounds):
        for fault in FAULTS:
            place = directory / f"{fault}-{number}"
            place.mkdir()
            gone, gaps[f"{fault}-{number}"] = await _fault(place, fault)
            lost += gone
            say(f"{fault}: {gaps[f'{fault}-{number}']:.2f} s without an answer, {gone} lost")
    return {"r3_lost": lost, "r3_recover_s": max(gaps.values()), "r3_faults": len(gaps)}


async def _fault(directory: Path, fault: str) -> tuple[int, float]:
    """How many acknowledged requests are lost, and the gap in seconds."""
    async with Rig(directory, replicas=3) as rig:
        assert rig.cluster is not None
        await rig.start("a", "b")
        async with fleet_of(rig) as fleet:
            await fleet.answers(500)
            leader = await rig.cluster.leader_of(log_stream(rig.service))
            gone = time.monotonic()
            if fault == "kill":
                leader.kill()
            else:
                leader.pause()
            await fleet.answers(500, within=WITHIN)
            if fault == "pause":
                leader.resume()
            await fleet.answers(500)
            gap = fleet.gap(gone)
        final, _ = await rig.walk()
        counted = final.state.counted
        lost = sum(done.kind == "add" and counted.get(done.name) != done.n for done in fleet.done)
        return lost + len(final.state.twice), gap
