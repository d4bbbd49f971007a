"""Moves as an owner sees them, and advice, against the real rules on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from bursar.client.gpu import Gpu
from bursar.client.gpu_errors import GpuUnavailable
from bursar.client.gpu_lease import GpuLease
from bursar.errors import CallerError
from tests.client.gpu_manager import fleet_and_manager
from tests.client.virtual import run

GIB = 1024**3
RUNS = [
    {"batch": batch, "throughput": rate, "itl_us": itl}
    for batch, rate, itl in ((1, 381_406, 3_623), (32, 5_734_138, 7_510), (96, 9_032_789, 13_894))
]
HALF = GIB // 2
CARDS = [f"h1/SIM-h1-{number}" for number in range(3)]


async def crowd(gpu: Gpu) -> None:
    for number, halves in enumerate((23, 21, 13)):
        await gpu.lease(halves * HALF, exclude=[card for card in CARDS if card != CARDS[number]], ttl=60.0)


async def golden(gpu: Gpu) -> GpuLease:
    """3.5, 5 and 9 GiB are free; the lease of half a GiB on the first card is in the way."""
    await crowd(gpu)
    return await gpu.lease(HALF, exclude=CARDS[1:], ttl=60.0, note="movable")


def test_an_owner_that_allows_it_is_moved_once() -> None:
    """Both leases hold while it reloads; then the first is gone, and memory is usable again."""

    async def main() -> None:
        async with fleet_and_manager("h1=3x16GiB") as (gpu, _, _):
            lease = await golden(gpu)
            moved: list[GpuLease] = []

            async def reload(there: GpuLease) -> None:
                assert lease.held
                assert there.held
                await asyncio.sleep(3.0)
                moved.append(there)

            await gpu.moves.allow(lease, reload, cost=0.5)
            before = await gpu.moves.fragmentation()
            assert before.classes[2].fragmentation == 314_285
            assert [move.target for move in before.plan] == [CARDS[1]]
            await asyncio.sleep(20.0)
            [there] = moved
            assert there.devices[0].device == CARDS[1]
            assert lease.ended
            assert there.held
            told = await gpu.moves.fragmentation(memory=8 * GIB)
            assert told.classes[2].fragmentation == 85_714
            assert told.done == {"loaded": 1}
            assert told.clearing is not None
            await gpu.moves.forbid(there)

    run(main())


def test_what_is_forbidden_while_it_is_being_allowed_stays_forbidden() -> None:
    """And who allows it hears why it did not become so, and nothing else."""

    async def main() -> None:
        async with fleet_and_manager("h1=3x16GiB", patience=0.5) as (gpu, there, _):
            lease = await golden(gpu)

            async def reload(_: GpuLease) -> None:
                raise AssertionError("it was forbidden")

            there.deaf = True
            allowing = asyncio.create_task(gpu.moves.allow(lease, reload))
            await asyncio.sleep(0.1)
            with pytest.raises(GpuUnavailable):
                await gpu.moves.forbid(lease)
            with pytest.raises(GpuUnavailable):
                await allowing
            there.deaf = False
            await asyncio.sleep(20.0)
            assert lease.held
            assert gpu.moves.failures == []

    run(main())


def test_a_reload_that_fails_leaves_the_lease_where_it_is() -> None:
    """The second lease goes back."""

    async def main() -> None:
        async with fleet_and_manager("h1=3x16GiB") as (gpu, there, _):
            lease = await golden(gpu)

            async def reload(_: GpuLease) -> None:
                raise OSError("the disk is gone")

            await gpu.moves.allow(lease, reload)
            await asyncio.sleep(20.0)
            assert lease.held
            assert [str(error) for error in gpu.moves.failures] == ["the disk is gone"]
            assert len(there.desk.state.leases) == 4
            assert (await gpu.moves.fragmentation()).done == {"failed": 1}

    run(main())


def test_nothing_moves_that_was_not_allowed() -> None:
    """Nor what is allowed, when nobody has proposed it: the manager says no, and the lease stays."""

    async def main() -> None:
        async with fleet_and_manager("h1=3x16GiB") as (gpu, there, _):
            lease = await gpu.lease(HALF, exclude=CARDS[1:], ttl=60.0)

            async def reload(_: GpuLease) -> None:
                raise AssertionError("nobody proposed it")

            await gpu.moves.allow(lease, reload)
            gpu.moves.hear({"lease": lease.id})
            await asyncio.sleep(1.0)
            assert there.asked("move") == 1
            assert lease.held
            await gpu.moves.forbid(lease)
            await crowd(gpu)
            await asyncio.sleep(20.0)
            gpu.moves.hear({"lease": lease.id})
            await asyncio.sleep(1.0)
            assert there.asked("move") == 1

    run(main())


def test_who_is_asked_before_he_is_answered_knows_what_to_do() -> None:
    """The proposal may arrive before the answer that says that the lease may be moved; refused, it is not allowed."""

    async def main() -> None:
        async with fleet_and_manager("h1=3x16GiB") as (gpu, _, _):
            lease = await golden(gpu)
            there: list[GpuLease] = []

            async def reload(to: GpuLease) -> None:
                there.append(to)

            await gpu.moves.allow(lease, reload)
            await asyncio.sleep(1.0)
            assert len(there) == 1
            assert lease.ended
            with pytest.raises(CallerError):
                await gpu.moves.allow(lease, reload)
            gpu.moves.hear({"lease": lease.id})
            await asyncio.sleep(1.0)
            assert len(there) == 1

    run(main())


def test_advice_is_asked_for() -> None:
    """Start-up parameters from a lease, a batch from a curve, a pace from a window."""

    async def main() -> None:
        async with fleet_and_manager("h1=80GiB") as (gpu, _, _):
            lease = await gpu.lease(30 * GIB)
            told = await gpu.moves.startup(lease, "llama-3-8b", context=4_096, swap_space_fraction=100, host_memory=GIB)
            assert "--kv-offloading-size" in told.arguments
            small = await gpu.lease(2 * GIB)
            with pytest.raises(CallerError) as error:
                await gpu.moves.startup(small, "llama-3-8b", engine="candle-vllm")
            assert error.value.code == "lease_too_small"
            assert (await gpu.moves.advise({"runs": RUNS})).batch == 96
            assert (await gpu.moves.pace(900, 400, 20, 64)).limit == 64

    run(main())


def test_a_change_is_recommended_and_tried() -> None:
    """The worker agrees, applies it, and is told to take it back at the first preemption."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            told = await gpu.moves.tune({"runs": RUNS}, batch=32)
            assert told.recommendation is not None
            assert (told.step, told.recommendation.then) == ("recommended", 96)
            await gpu.moves.tune_window(5_700_000, 7_500)
            assert (await gpu.moves.tune_step("agreed")).step == "agreed"
            assert (await gpu.moves.tune_step("applied")).step == "canary"
            assert (await gpu.moves.tune_window(9_000_000, 13_000)).step == "canary"
            assert (await gpu.moves.tune_window(9_000_000, 13_000, 1)).step == "rolled_back"
            with pytest.raises(CallerError):
                await gpu.moves.tune_step("declined")

    run(main())
