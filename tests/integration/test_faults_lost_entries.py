"""The journal loses what it had acknowledged: a cut or damaged block, a purge, a new stream, an older copy.

The server says nothing about any of it (it starts, it is healthy, it reuses sequence numbers). The service has to see
it, start a new incarnation, keep what its live state or its snapshot still knows, and serve again.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from pathlib import Path

import pytest

from bursar.kernel.entry import RECOVERY
from bursar.kernel.fencing import Fencer, parse_fence
from bursar.kernel.floor import FloorFile
from tests.integration import history
from tests.integration.damage import LOSSES, Damage, copy_store
from tests.integration.fleet import Fleet, Operation, ask, fleet_of
from tests.integration.support import TAKEOVER_SECONDS, Rig, until

log = logging.getLogger(__name__)
DAMAGES = {damage.name: damage for damage in LOSSES}
SILENT = {"cut-50", "older-copy", "recreated"}
pytestmark = pytest.mark.integration


async def test_live_service_keeps_everything_that_the_journal_loses(tmp_path: Path, damage: Damage) -> None:
    """An owner that lives through the loss stores its state as a base: nothing acknowledged is lost, and every
    answer after the loss carries the new incarnation."""
    async with Rig(tmp_path) as rig:
        await _start(rig, damage)
        async with fleet_of(rig, clients=20) as fleet:
            await fleet.answers(300)
            await damage.apply(rig)
            await until(lambda: fleet.done[-1].fence[0] > 1, 10, f"a new incarnation; {dict(fleet.errors)}")
            await fleet.answers(300)
            await asyncio.sleep(1.0)  # for the standby to read the new incarnation
            killed = time.monotonic()
            rig.owner().kill()
            await fleet.answers(300)
            assert fleet.resumed_after(killed) <= TAKEOVER_SECONDS
        await _nothing_is_lost(rig, fleet)


async def test_owner_that_lives_recovers_before_a_standby_that_knows_less(tmp_path: Path) -> None:
    """The server is down for long enough that the standby wants to take over: it sees the loss first or second, and
    leaves the recovery to the owner, which knows what the standby may not have read."""
    async with Rig(tmp_path) as rig:
        await _start(rig, DAMAGES["cut-50"])
        async with fleet_of(rig) as fleet:
            rig["b"].pause()
            await fleet.answers(300)
            rig["b"].resume()
            await DAMAGES["cut-50"].apply(rig, down=2.5)
            await fleet.answers(300)
        assert rig["a"].role == "owner"
        await _nothing_is_lost(rig, fleet)


async def _nothing_is_lost(rig: Rig, fleet: Fleet) -> None:
    final, entries = await rig.walk()
    log.info("gap %.2f s, errors %s", fleet.gap(), dict(fleet.errors))
    history.check(fleet.done, final.state)
    assert (final.incarnation, final.state.recoveries) == (2, 1)
    assert [entry.kind for entry in entries].count(RECOVERY) == 1
    assert (await rig.replay()).dump() == final.dump()


async def test_cold_service_starts_a_new_incarnation_above_its_floor(tmp_path: Path, damage: Damage) -> None:
    """A service that starts after the loss learns of it from its floor file: nothing is answered in the old
    incarnation, what the journal and the snapshots still hold is kept, and nobody gets a number twice."""
    async with Rig(tmp_path) as rig:
        await _start(rig, damage)
        async with fleet_of(rig, clients=20) as fleet:
            await fleet.answers(300)
        await _floors_reach(rig, fleet)
        rig["a"].kill()
        rig["b"].kill()
        await damage.apply(rig)
        await rig.start("a", "b")
        await _serves_in_a_new_incarnation(rig, fleet.done)


@pytest.fixture(params=LOSSES, ids=lambda damage: damage.name)
def damage(request: pytest.FixtureRequest) -> Damage:
    found: Damage = request.param
    return found


@pytest.mark.parametrize("damage", [d for d in LOSSES if d.name in SILENT], ids=lambda damage: str(damage.name))
async def test_fence_that_a_client_shows_reveals_the_loss(tmp_path: Path, damage: Damage) -> None:
    """Without floor files only a client knows: its first request with the fence it has seen starts a new incarnation
    and is answered in it."""
    async with Rig(tmp_path) as rig:
        await _start(rig, damage)
        async with fleet_of(rig, clients=20) as fleet:
            await fleet.answers(300)
        await _floors_reach(rig, fleet)
        for name in ("a", "b"):
            rig[name].kill()
            for floor in rig[name].data_dir.glob("*.fence"):
                floor.unlink()
        await damage.apply(rig)
        await rig.start("a")
        principal, seen = max(fleet.seen.items(), key=lambda given: parse_fence(given[1]))
        answer = await ask(await rig.bus(principal), "get", {"seen": seen})
        assert answer["fence"].startswith("2."), answer
        await rig.start("b")
        await _serves_in_a_new_incarnation(rig, fleet.done)


async def test_one_instance_that_knows_of_the_loss_tells_the_others(tmp_path: Path) -> None:
    """Only one instance has a floor file and another one starts first: it is told, and recovers."""
    async with Rig(tmp_path) as rig:
        await _start(rig, DAMAGES["older-copy"])
        async with fleet_of(rig, clients=20) as fleet:
            await fleet.answers(300)
        await _floors_reach(rig, fleet)
        rig["a"].kill()
        rig["b"].kill()
        shutil.rmtree(rig["a"].data_dir)
        await DAMAGES["older-copy"].apply(rig)
        await rig.start("a")
        await rig["a"].becomes("owner")
        rig.launch("b")
        await until(lambda: rig["a"].roles[-2:] == ["recovering", "owner"], 5, "it recovers")
        await _serves_in_a_new_incarnation(rig, fleet.done)


async def _start(rig: Rig, damage: Damage) -> None:
    """Two instances with some history; where it will be needed, a copy of the store as it then was is kept."""
    await rig.start("a")
    if damage.name == "older-copy":
        async with fleet_of(rig, clients=10) as fleet:
            await fleet.answers(100)
        rig.server.kill()
        copy_store(rig)
        await rig.server.start()
        await ask(await rig.bus("client"), "get", {})
    await rig.start("b")


async def _floors_reach(rig: Rig, fleet: Fleet) -> None:
    """Wait until the floor files of both instances hold the last decision that the fleet has seen."""
    fencer = Fencer((rig.keys_dir / "fence.key").read_bytes())
    last = max(o.fence for o in fleet.done)
    for name in ("a", "b"):
        floor = FloorFile(rig[name].data_dir, rig.service, 0, fencer)
        await until(lambda f=floor: (f.read() or (0, 0, 0)) >= last, 5, f"the floor file of {name} is up to date")  # type: ignore[misc]


async def _serves_in_a_new_incarnation(rig: Rig, before: list[Operation]) -> None:
    highest = max(o.n for o in before)
    async with fleet_of(rig, clients=20) as fleet:
        await fleet.answers(200)
    assert {o.fence[0] for o in fleet.done} == {2}
    assert min(o.n for o in fleet.done if o.kind == "add") > highest
    final, _ = await rig.walk()
    history.check(fleet.done, final.state)
    kept = [o for o in before if o.kind == "add" and o.name in final.state.counted]
    assert all(final.state.counted[o.name] == o.n for o in kept)
    assert (await rig.replay()).dump() == final.dump()
