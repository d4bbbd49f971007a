"""Snapshots of a running service: the journal stays short, and a cold start needs no more than they hold."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from bursar.contracts.base import checkpoint_stream, log_stream, log_subject
from bursar.kernel.snapshot import KEEP
from tests.integration import history
from tests.integration.fleet import ask, fleet_of
from tests.integration.support import Rig, until

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration

OFTEN = {"BURSAR_SNAPSHOT_MS": "300"}


async def test_journal_is_purged_below_the_oldest_snapshot_and_a_cold_start_gives_the_same_state(
    tmp_path: Path,
) -> None:
    """With snapshots under load: three are kept, older chunks and older entries are gone, the last entry of the oldest
    snapshot stays, and a service started anew answers as the one before."""
    async with Rig(tmp_path, env=OFTEN) as rig:
        await rig.start("a")
        async with fleet_of(rig, clients=30) as fleet:
            await until(lambda: len(rig["a"].events("snapshot_stored")) >= KEEP + 2, 20, "five snapshots")
            await fleet.answers(200)
        client = await rig.bus("client")
        before = await ask(client, "get", {})
        rig["a"].kill()
        journal = await rig.journal()
        manifests = await journal.manifests()
        stream = await _info(rig, log_stream(rig.service))
        assert len(manifests) == KEEP
        assert stream["first_seq"] == min(m.sequence for m in manifests) > 1
        chunks = (await _info(rig, checkpoint_stream(rig.service)))["messages"] - KEEP
        assert chunks == sum(m.chunks for m in manifests)
        replayed = await rig.replay()
        history.check(fleet.done, replayed.state)
        await rig.start("a")
        after = await ask(client, "get", {})
        assert (after["n"], after["digest"]) == (before["n"], before["digest"])
        assert (after["n"], after["digest"]) == (replayed.state.n, replayed.state.digest.hex())


@pytest.mark.parametrize("harm", ["damaged", "missing"])
async def test_damaged_snapshot_is_passed_over_for_the_one_before(tmp_path: Path, harm: str) -> None:
    """A chunk of the newest snapshot holds other bytes, or is gone: the one before it and a longer tail give the same
    state, without a recovery."""
    async with Rig(tmp_path, env=OFTEN) as rig:
        await rig.start("a")
        async with fleet_of(rig, clients=20) as fleet:
            await until(lambda: len(rig["a"].events("snapshot_stored")) >= KEEP + 1, 20, "four snapshots")
        client = await rig.bus("client")
        before = await ask(client, "get", {})
        rig["a"].kill()
        journal = await rig.journal()
        newest = (await journal.manifests())[0]
        if harm == "damaged":
            await journal.put_chunk(newest.id, newest.chunks - 1, b"not what it was")
        else:
            await journal.drop_snapshot(newest.id)
        await rig.start("a")
        after = await ask(client, "get", {})
        assert (after["n"], after["digest"]) == (before["n"], before["digest"])
        assert after["fence"].split(".")[:2] == ["1", "2"]
        history.check(fleet.done, (await rig.replay()).state)


async def test_chunks_that_crashes_left_behind_are_swept_by_the_next_snapshot(tmp_path: Path) -> None:
    """A snapshot that got no manifest and a base that no recovery names: both go from the server's disk; the base of
    a recovery that may still come stays."""
    async with Rig(tmp_path, env=OFTEN) as rig:
        journal = await rig.journal()
        for name, index in (("1-1-1-1", 0), ("1-1-1-1", 1), ("base-0-gone", 0), ("base-900000-coming", 0)):
            await journal.put_chunk(name, index, bytes(1000))
        await rig.start("a")
        async with fleet_of(rig, clients=5) as fleet:
            await fleet.answers(20)
            await until(lambda: any(row["swept"] for row in rig["a"].events("snapshot_stored")), 20, "it sweeps")
        assert await journal.chunk("1-1-1-1", 0) is None
        assert await journal.chunk("base-0-gone", 0) is None
        assert await journal.chunk("base-900000-coming", 0) == bytes(1000)
        await rig["a"].terminate()
        assert await journal.leftovers() == ["base-900000-coming"]
        history.check(fleet.done, (await rig.replay()).state)


async def _info(rig: Rig, stream: str) -> dict[str, int]:
    admin = await rig.bus("admin")
    answer = json.loads((await admin.request(f"$JS.API.STREAM.INFO.{stream}", b"", 5.0)).data)
    state: dict[str, int] = answer["state"]
    assert stream != log_stream(rig.service) or answer["config"]["subjects"] == [f"{log_subject(rig.service, 0)[:-1]}*"]
    return state
