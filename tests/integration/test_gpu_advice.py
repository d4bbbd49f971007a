"""Moves, fragmentation and advice with a real server and a real manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from bursar.client.fleet import Fleet
from bursar.errors import CallerError
from tests.integration.gpu_hosts import GIB, hosts_of, manager

pytestmark = pytest.mark.integration

RUNS = [
    {"batch": batch, "throughput": rate, "itl_us": itl}
    for batch, rate, itl in ((1, 381_406, 3_623), (32, 5_734_138, 7_510), (96, 9_032_789, 13_894))
]


async def test_what_workers_are_told_and_agreed_to_survives_the_owner(tmp_path: Path) -> None:
    """Start-up parameters from a lease, fragmentation with a lease that may be moved, a change that goes on after
    kill -9 of the owner."""
    async with manager(tmp_path) as rig:
        await rig.start("a")
        async with hosts_of(rig, h1="2x16GiB"), Fleet(None, bus=await rig.bus("ann")) as ann:
            lease = await ann.gpu.lease(7 * GIB, ttl=60.0)
            told = await ann.gpu.moves.startup(lease, "qwen2.5-1.5b", context=2_048)
            assert "--gpu-memory-utilization" in told.arguments
            with pytest.raises(CallerError) as error:
                await ann.gpu.moves.startup(lease, "llama-3-8b", context=2_048)
            assert error.value.code == "lease_too_small"
            await ann.gpu.moves.allow(lease, _nothing)
            before = await ann.gpu.moves.fragmentation(12 * GIB)
            assert before.free == 24 * GIB
            assert before.clearing is not None
            assert (await ann.gpu.moves.tune({"runs": RUNS}, batch=32)).step == "recommended"
            assert (await ann.gpu.moves.tune_step("agreed")).step == "agreed"
            rig["a"].kill()
            rig.launch("a")
            await rig["a"].becomes("owner")
            assert (await ann.gpu.moves.tune_step("applied")).step == "canary"
            assert lease.held


async def _nothing(_: object) -> None:
    raise AssertionError("nothing has to move here")
