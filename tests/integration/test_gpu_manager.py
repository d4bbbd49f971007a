"""The GPU manager with a real server, real processes, and simulated cards that judge it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bursar.client.fleet import Fleet
from bursar.client.gpu_errors import GpuRefused, LeaseLost
from bursar_gpu_manager.state import validate
from tests.integration.gpu_hosts import GIB, Holder, Hosts, hosts_of, manager, when
from tests.integration.support import Rig, until

pytestmark = pytest.mark.integration


async def test_one_manager_a_race_a_stranger_and_an_operator(tmp_path: Path) -> None:
    """What each of them is answered, one after the other, by one real manager; its owner is killed in between."""
    async with manager(tmp_path) as rig:
        await rig.start("a")
        async with hosts_of(rig, h1="16GiB") as hosts, Fleet(None, bus=await rig.bus("ann")) as ann:
            async with Fleet(None, bus=await rig.bus("bob")) as bob:
                await two_agents_race_for_the_last_bytes(ann, bob)
            assert (await ann.gpu.status()).leases == []
            assert hosts.judged()["violations"] == 0
            await foreign_memory_and_overuse_are_seen(hosts, ann)
            await operators_verbs_reach_the_service(rig, ann)


async def two_agents_race_for_the_last_bytes(ann: Fleet, bob: Fleet) -> None:
    """One gets them, the other is told what is missing, waits, and gets them when they are back."""
    tried = await asyncio.gather(ann.gpu.lease(9 * GIB), bob.gpu.lease(9 * GIB), return_exceptions=True)
    [refused] = [error for error in tried if isinstance(error, GpuRefused)]
    [lease] = [lease for lease in tried if not isinstance(lease, BaseException)]
    assert (refused.reason, refused.missing) == ("no_room", 2 * GIB + GIB // 2)
    assert (lease.host, lease.device, lease.memory) == ("h1", "SIM-h1-0", 9 * GIB)
    waiting = asyncio.ensure_future(bob.gpu.lease(9 * GIB, wait=20).__aenter__())
    await when(ann.gpu, lambda status: status.waiting == 1)
    await lease.release()
    second = await waiting
    assert second.held
    assert second.fence_numbers > lease.fence_numbers
    with pytest.raises(LeaseLost):
        lease.check()
    await second.release()


async def foreign_memory_and_overuse_are_seen(hosts: Hosts, ann: Fleet) -> None:
    """What others use is not granted; what a holder uses beyond its lease counts and is told to it."""
    host = hosts.hosts["h1"]
    stranger, _ = host.start(foreign=True)
    host.allocate(stranger, "SIM-h1-0", 6 * GIB)
    await when(ann.gpu, lambda status: status.devices[0].foreign == 6 * GIB)
    with pytest.raises(GpuRefused) as refused:
        await ann.gpu.lease(10 * GIB)
    assert refused.value.missing == GIB // 2
    async with ann.gpu.lease(4 * GIB, ttl=0.9) as lease:
        mine, started = host.start()
        await lease.bind((mine, started))
        host.allocate(mine, "SIM-h1-0", 5 * GIB)
        status = await when(ann.gpu, lambda status: status.devices[0].overused == 1)
        assert status.devices[0].charged == 5 * GIB
        assert status.devices[0].foreign == 6 * GIB
        await until(lambda: lease.overuse == GIB, 5, "the holder is told")
        host.exit(mine)
    host.exit(stranger)


async def operators_verbs_reach_the_service(rig: Rig, ann: Fleet) -> None:
    """Cordon and drop: durable, and the holder hears of it."""
    lease = await ann.gpu.lease(4 * GIB)
    ops = await rig.bus("ops")
    body = f'{{"id":"o-1","lease":"{lease.id}"}}'.encode()
    answer = await ops.request("bursar.adm.gpu-manager.drop.ops", body, 2.0)
    assert b'"principal":"ann"' in answer.data
    assert await asyncio.wait_for(lease.lost.wait(), 5) == "dropped"
    await lease.release()
    await ops.request("bursar.adm.gpu-manager.cordon.ops", b'{"id":"o-2","target":"h1"}', 2.0)
    rig["a"].kill()
    rig.launch("a")
    await rig["a"].becomes("owner")
    with pytest.raises(GpuRefused) as refused:
        await ann.gpu.lease(GIB)
    assert refused.value.reason == "no_device"


async def test_killing_the_owner_costs_no_lease_and_no_byte_too_many(tmp_path: Path) -> None:
    """Holders that really allocate go on through kill -9 of the owner and of its successor: leases are kept, renewals
    go on, fences grow, and the cards saw no allocation beyond what they have."""
    async with manager(tmp_path) as rig:
        await rig.start("a", "b")
        async with hosts_of(rig, h1="2x16GiB", h2="16GiB") as hosts, Fleet(None, bus=await rig.bus("ann")) as ann:
            keeper = await ann.gpu.lease(4 * GIB, ttl=3.0)
            sizes = [(9, 1), (7, 1), (5, 2), (3, 2), (11, 1), (2, 1)]
            holders = [Holder(hosts, ann, memory * GIB, devices) for memory, devices in sizes]
            tasks = [asyncio.create_task(holder.work()) for holder in holders]
            await until(lambda: sum(holder.turns for holder in holders) > 10, 20, "some turns")
            rig["a"].kill()
            turns = sum(holder.turns for holder in holders)
            await rig["b"].becomes("owner")
            rig.launch("a")
            await until(lambda: sum(holder.turns for holder in holders) > turns + 10, 20, "turns after the kill")
            await rig["a"].is_up(("standby",))
            rig["b"].kill()
            turns = sum(holder.turns for holder in holders)
            await until(lambda: sum(holder.turns for holder in holders) > turns + 10, 20, "turns after the second")
            assert keeper.held
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert hosts.judged()["violations"] == 0
            assert hosts.judged()["out_of_memory"] == 0
            assert hosts.judged()["allocations"] > 80
            await keeper.release()
        for holder in holders:
            assert holder.lost == []
            assert holder.fences == sorted(set(holder.fences))
        final, _ = await rig.walk()
        validate(final.state, final.time)
        assert final.incarnation == 1


async def test_a_dead_probe_loses_its_devices_and_their_holders_are_told(tmp_path: Path) -> None:
    """And a card that falls off its bus, alone; what comes back can be leased again."""
    async with manager(tmp_path, BURSAR_GPU_SILENCE_MS="1000", BURSAR_GPU_FRESH_MS="700") as rig:
        await rig.start("a")
        async with hosts_of(rig, h1="2x16GiB", h2="16GiB") as hosts, Fleet(None, bus=await rig.bus("ann")) as ann:
            set_, other = await ann.gpu.lease(10 * GIB, devices=2, ttl=60.0), await ann.gpu.lease(10 * GIB, ttl=60.0)
            heard: list[str] = []
            set_.on_lost(lambda lease: heard.append(lease.id))
            hosts.hosts["h1"].lose("SIM-h1-1")
            assert await asyncio.wait_for(set_.lost.wait(), 5) == "device_lost"
            assert heard == [set_.id]
            assert other.held
            await set_.release()
            await (await ann.gpu.lease(10 * GIB, hosts=["h1"])).release()
            await hosts.stop_probe("h2")
            assert await asyncio.wait_for(other.lost.wait(), 5) == "device_lost"
            with pytest.raises(LeaseLost):
                other.check()
            status = await ann.gpu.status("h2")
            assert [(device.state, device.room) for device in status.devices] == [("lost", None)]
            with pytest.raises(GpuRefused) as refused:
                await ann.gpu.lease(GIB, hosts=["h2"])
            assert refused.value.reason == "no_device"
            await hosts.start_probe("h2")
            again = await ann.gpu.lease(4 * GIB, hosts=["h2"], wait=10)
            with pytest.raises(GpuRefused):
                await ann.gpu.lease(10 * GIB, hosts=["h2"])
            await other.release()
            await (await ann.gpu.lease(10 * GIB, hosts=["h2"])).release()
            await again.release()
            assert (await ann.gpu.status()).counters.devices_lost == 2
