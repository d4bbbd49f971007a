"""GPU memory as an agent sees it, against the real rules on virtual time."""

from __future__ import annotations

import asyncio
import copy

import pytest

from bursar.client.fleet import Fleet
from bursar.client.gpu import started_at
from bursar.client.gpu_errors import GpuRefused, GpuUnavailable, LeaseLost
from bursar.client.gpu_lease import GpuLease
from bursar.errors import CallerError
from tests.client.gpu_manager import fleet_and_manager
from tests.client.virtual import run

GIB = 1024**3


def test_a_block_leases_and_gives_back() -> None:
    """The lease names its device, holds in the block, and is gone after it."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            async with gpu.lease(4 * GIB, purpose="weights") as lease:
                assert (lease.host, lease.device, lease.memory) == ("h1", "SIM-h1-0", 4 * GIB)
                assert lease.devices[0].index == 0
                assert lease.held
                assert not lease.lost
                assert lease.fence.startswith(lease.id)
                assert 9.9 < lease.left < 10.0
                assert [held.id for held in gpu.leases] == [lease.id]
                assert there.desk.state.leases[lease.id].purpose == "weights"
            assert not there.desk.state.leases
            assert not gpu.leases
            assert lease.ended
            with pytest.raises(LeaseLost, match="released"):
                lease.check()
            assert "released" in repr(lease)

    run(main())


def test_a_lease_is_renewed_at_a_third_of_its_time() -> None:
    """For as long as it is held; bound processes count as its own."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            async with gpu.lease(4 * GIB, ttl=3.0) as lease:
                assert [(process.pid, process.started) for _, body in there.heard for process in body.processes] != []
                pid, started = there.desk.hosts["h1"].start()
                await lease.bind((pid, started))
                assert there.asked("renew") == 1
                await asyncio.sleep(30)
                assert lease.held
                assert 28 <= there.asked("renew") <= 34
                there.desk.hosts["h1"].allocate(pid, "SIM-h1-0", 5 * GIB)
                await asyncio.sleep(2)
                assert lease.overuse == GIB
                assert (await gpu.status()).devices[0].overused == 1
            renewals = there.asked("renew")
            await asyncio.sleep(10)
            assert there.asked("renew") == renewals

    run(main())


def test_a_refusal_says_what_is_missing() -> None:
    """As an exception with its facts, which survives being copied."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            async with gpu.lease(12 * GIB, ttl=5.0):
                with pytest.raises(GpuRefused) as refused:
                    await gpu.lease(8 * GIB)
            error = copy.copy(refused.value)
            assert (error.reason, error.closest, error.missing) == ("no_room", "h1/SIM-h1-0", 4 * GIB + GIB // 2)
            assert 4.0 < (error.retry_in or 0.0) <= 5.5
            assert "wait=" in error.advice
            with pytest.raises(GpuRefused, match="large enough") as never:
                await gpu.lease(99 * GIB)
            assert never.value.retry_in is None
            assert "less memory" in never.value.advice

    run(main())


def test_who_waits_gets_a_lease_that_holds() -> None:
    """Though by its request it is old: it is renewed before it is handed out."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            first = await gpu.lease(12 * GIB, ttl=2.0)
            waiting = asyncio.create_task(gpu.lease(8 * GIB, ttl=2.0, wait=60).__aenter__())
            await asyncio.sleep(20)
            assert not waiting.done()
            await first.release()
            second = await waiting
            assert second.held
            assert second.left > 1.0
            await asyncio.sleep(10)
            assert second.held
            await second.release()

    run(main())


def test_a_lease_is_lost_at_its_own_deadline_when_the_manager_is_out_of_reach() -> None:
    """Never later than the manager frees it; and seen even by a holder that had no time to notice."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, clock):
            lease = await gpu.lease(4 * GIB, ttl=4.0)
            heard: list[GpuLease] = []
            lease.on_lost(heard.append)
            there.deaf = True
            await asyncio.sleep(3.9)
            lease.check()
            await asyncio.sleep(0.2)
            assert not lease.held
            assert await lease.lost.wait() == "out_of_reach"
            assert heard == [lease]
            lease.on_lost(heard.append)
            assert len(heard) == 2
            assert lease.id in there.desk.state.leases, "the manager still counts it"
            there.deaf = False
            await lease.release()
            second = await gpu.lease(4 * GIB, ttl=4.0)
            clock.ahead += 5_000
            assert second.lost.is_set()
            assert "out_of_reach" in repr(second.lost)
            with pytest.raises(LeaseLost):
                second.check()
            with pytest.raises(LeaseLost):
                await second.bind((1, 1))
            assert copy.copy(LeaseLost("1.1.1", "dropped")).reason == "dropped"

    run(main())


def test_a_deadline_counts_from_the_sending_of_the_request() -> None:
    """However late the answer comes."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, clock):
            there.bus.delay = 0.4
            lease = await gpu.lease(GIB, ttl=10.0)
            sent = lease.deadline - 10_000 * 0.999 + 1
            assert clock.now() - sent == pytest.approx(800, abs=20)
            assert lease.deadline - clock.start < there.desk.state.leases[lease.id].expires_at

    run(main())


def test_a_holder_is_told_that_its_device_is_lost() -> None:
    """By a notice, or else by its next renewal."""

    async def main() -> None:
        for tells in (True, False):
            async with fleet_and_manager("h1=2x16GiB") as (gpu, there, _):
                there.tells = tells
                lease = await gpu.lease(4 * GIB, devices=2, ttl=6.0)
                there.desk.hosts["h1"].lose("SIM-h1-1")
                assert await asyncio.wait_for(lease.lost.wait(), 3) == "device_lost"
                assert lease.id in there.desk.state.leases, "it counts until it is given back"
                await lease.release()
                assert lease.id not in there.desk.state.leases

    run(main())


def test_other_notices_are_left_alone() -> None:
    """They are for other parts of the agent, or for nobody."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            lease = await gpu.lease(GIB)
            from tests.client.fakes import Message

            for data in (b"", b"\x80", b"\x81\xa7service\xa9scheduler", b"\x01"):
                there.bus.answer(Message("bursar.assign.agent-1", "", data))
            await asyncio.sleep(1)
            assert lease.held

    run(main())


def test_a_lease_that_the_manager_forgot_is_declared_again() -> None:
    """After a loss of data: at the first answer that shows it, or at the next renewal."""

    async def main() -> None:
        for ask in (True, False):
            async with fleet_and_manager() as (gpu, there, _):
                lease = await gpu.lease(12 * GIB, ttl=6.0)
                there.lose_log()
                if ask:
                    await gpu.status()
                await asyncio.sleep(8)
                assert lease.held
                assert there.asked("redeclare") >= 1
                assert there.desk.state.leases[lease.id].adopted
                with pytest.raises(GpuRefused, match="log has lost"):
                    await gpu.lease(GIB)
                await lease.release()

    run(main())


def test_a_lease_that_is_not_taken_back_is_lost() -> None:
    """The manager does not know it and it is too late to declare it."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            lease = await gpu.lease(12 * GIB, ttl=6.0)
            there.desk.configure(max_ttl_ms=100, margin_ms=0)
            there.lose_log()
            await asyncio.sleep(7)
            assert lease.lost.reason == "unknown_lease"
            await lease.release()

    run(main())


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    """Whether it stood in line or was granted and not told."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            there.lose_answers = True
            asking = asyncio.create_task(gpu.lease(4 * GIB, ttl=60.0).__aenter__())
            await asyncio.sleep(0.1)
            assert len(there.desk.state.leases) == 1
            asking.cancel()
            await asyncio.sleep(0.1)
            there.lose_answers = False
            await asyncio.sleep(5)
            assert not there.desk.state.leases

    run(main())


def test_without_a_manager_nothing_is_leased() -> None:
    """Patience ends; the grant that nobody heard of is given back when it is found."""

    async def main() -> None:
        async with fleet_and_manager(patience=2.0) as (gpu, there, _):
            there.lose_answers = True
            with pytest.raises(GpuUnavailable) as error:
                await gpu.lease(4 * GIB, ttl=60.0)
            assert "bursar up" in error.value.advice
            there.lose_answers = False
            await asyncio.sleep(5)
            assert not there.desk.state.leases

    run(main())


def test_leases_that_always_come_too_late_are_given_back() -> None:
    """A lease that is shorter than the way there and back cannot be used."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            there.bus.delay = 0.3
            with pytest.raises(GpuUnavailable, match="too late"):
                await gpu.lease(GIB, ttl=0.2)
            await asyncio.sleep(3)
            assert not there.desk.state.leases

    run(main())


def test_closing_the_fleet_releases_what_is_held() -> None:
    """Without a block around it."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            await gpu.lease(GIB, processes=())
            assert len(there.desk.state.leases) == 1
            assert await gpu.close() == 0
            assert not there.desk.state.leases

    run(main())


def test_a_fleet_that_is_not_entered_leases_nothing() -> None:
    """As with everything else of it."""
    with pytest.raises(CallerError, match="not_connected"):
        _ = Fleet(None).gpu


def test_the_start_of_no_process_is_unknown() -> None:
    """Not zero."""
    assert started_at(2**22 + 1) is None
