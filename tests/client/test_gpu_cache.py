"""Shared weights as an agent sees them, and explanations, against the real rules on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from bursar.client.gpu import Gpu
from bursar.client.gpu_cache import Loading
from bursar.client.gpu_lease import GpuLease
from bursar.contracts import gpu_cache as wire
from bursar.contracts.gpu_cache import CacheTold
from bursar.errors import ServiceError
from tests.client.gpu_manager import Manager, fleet_and_manager
from tests.client.virtual import run

GIB = 1024**3
CARD = "h1/SIM-h1-0"

Loads = Callable[[Loading], Coroutine[None, None, GpuLease]]


def loader(gpu: Gpu, there: Manager, seen: list[Loading], takes: float = 1.0) -> Loads:
    """Leases, allocates, takes its time."""

    async def load(where: Loading) -> GpuLease:
        seen.append(where)
        pid, started = there.desk.hosts["h1"].start()
        lease = await gpu.lease(where.size, purpose="weights", ttl=60.0, processes=[(pid, started)])
        there.desk.hosts["h1"].allocate(pid, lease.device, where.size)
        await asyncio.sleep(takes)
        return lease

    return load


def test_weights_are_loaded_once_for_all_that_want_them() -> None:
    """One loads, the others wait; afterwards nobody uses them, and they are still there."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            seen: list[Loading] = []

            async def use() -> None:
                async with gpu.cache.weights("m", CARD, 4 * GIB, loader(gpu, there, seen)):
                    await asyncio.sleep(0.5)

            await asyncio.gather(use(), use(), use())
            assert [(one.source, one.number) for one in seen] == [("disk", 1)]
            await use()
            told = await gpu.cache.where("m")
            assert [(copy.phase, copy.users) for copy in told.copies] == [("ready", 0)]
            assert (told.hit_permille, told.mean_load_ms >= 1_000) == (750, True)
            for lease in gpu.leases:
                await lease.release()

    run(main())


def test_when_the_loader_fails_the_next_one_loads() -> None:
    """It raises where it failed, and nowhere else; lost notices only cost time."""

    async def main() -> None:
        for tells in (True, False):
            async with fleet_and_manager() as (gpu, there, _):
                there.tells = tells
                seen: list[Loading] = []

                async def fail(where: Loading) -> GpuLease:
                    await asyncio.sleep(1.0)
                    raise OSError("the disk is gone")

                async def use(load: Loads, gpu: Gpu = gpu) -> None:
                    async with gpu.cache.weights("m", CARD, 4 * GIB, load):
                        await asyncio.sleep(0.1)

                first = asyncio.ensure_future(use(fail))
                await asyncio.sleep(0.5)
                second = asyncio.ensure_future(use(loader(gpu, there, seen)))
                with pytest.raises(OSError, match="disk"):
                    await first
                await asyncio.wait_for(second, 20)
                assert [one.number for one in seen] == [2]
                for lease in gpu.leases:
                    await lease.release()

    run(main())


def test_an_owner_is_asked_for_the_room_and_gives_it_back() -> None:
    """Who wants it meanwhile asks again until it is there; what is used is not asked for."""

    async def main() -> None:
        async with fleet_and_manager("h1=1x24GiB") as (gpu, there, _):
            seen: list[Loading] = []
            asked: list[CacheTold] = []

            def unload(told: CacheTold) -> None:
                asked.append(told)
                for pid in list(there.desk.hosts["h1"].started):
                    there.desk.hosts["h1"].exit(pid)

            gpu.cache.on_evict(unload)
            async with gpu.cache.weights("m", CARD, 7 * 10**9, loader(gpu, there, seen)):
                with pytest.raises(ServiceError, match="used"):
                    async with gpu.cache.weights("n", CARD, 7 * 10**9, loader(gpu, there, seen)):
                        pass
            await asyncio.sleep(11)
            async with gpu.cache.weights("n", CARD, 7 * 10**9, loader(gpu, there, seen)):
                assert [(one.model, one.step) for one in asked] == [("m", "ask")]
            assert [one.model for one in seen] == ["m", "n"]
            for lease in gpu.leases:
                await lease.release()

    run(main())


def test_a_copy_in_a_hosts_memory_makes_the_next_load_quicker() -> None:
    """Until its owner says that it is gone."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            seen: list[Loading] = []

            async def read(where: Loading) -> None:
                seen.append(where)

            async with gpu.cache.weights("m", "h1", GIB, read, tier="ram"):
                pass
            await asyncio.sleep(200.0)  # nobody uses it, and it is there still
            async with gpu.cache.weights("m", CARD, GIB, loader(gpu, there, seen)):
                pass
            assert [(one.tier, one.source) for one in seen] == [("ram", "disk"), ("gpu", "ram")]
            await gpu.cache.gone("m", "h1", "ram")
            assert [copy.tier for copy in (await gpu.cache.where()).copies] == ["gpu"]
            gpu.cache.hear({"what": "cache"})
            assert isinstance(await gpu.cache.where(), wire.CacheReply)
            for lease in gpu.leases:
                await lease.release()

    run(main())


def test_a_use_is_kept_while_it_lasts_and_its_loss_is_told() -> None:
    """For longer than the manager believes in it by itself; one that was cut off meanwhile is told when it is back, and
    can enter again. Afterwards nothing is said any more."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            there.desk.configure(cache_use_ms=6_000)
            seen: list[Loading] = []
            async with gpu.cache.weights("m", CARD, GIB, loader(gpu, there, seen, takes=20.0)) as held:
                await asyncio.sleep(30.0)
                assert [copy.users for copy in (await gpu.cache.where()).copies] == [1]
                assert not held.lost.is_set()
                there.deaf = True
                await asyncio.sleep(10.0)
                there.deaf = False
                await asyncio.wait_for(held.lost.wait(), 10)
                async with gpu.cache.weights("m", CARD, GIB, loader(gpu, there, seen)) as again:
                    await asyncio.sleep(10.0)
                    assert not again.lost.is_set()
            assert len(seen) == 1
            said = there.asked("cache-keep")
            await asyncio.sleep(20.0)
            assert there.asked("cache-keep") == said
            for lease in gpu.leases:
                await lease.release()

    run(main())


def test_an_explanation_says_what_would_have_to_be_freed_and_what_a_model_would_take() -> None:
    """For bytes and for a model by name."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            async with gpu.lease(12 * GIB) as lease:
                told = await gpu.explain(5 * GIB)
                assert (told.fits, [one.lease for one in told.free or []]) == (False, [lease.id])
                model = await gpu.what_if("qwen2.5-0.5b", context=2_048, choice={"hosts": ["h1"]})
                assert model.fits
                assert model.estimate is not None
                assert model.estimate.kv_per_token == 12 * 1024
            assert (await gpu.explain(5 * GIB)).fits

    run(main())


def test_what_is_foretold_is_loaded_ahead() -> None:
    """After three times the second model is there before it is wanted; without a loader nothing happens."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            ahead: list[str] = []

            async def load(where: Loading) -> None:
                await asyncio.sleep(1.0)

            async def early(where: Loading) -> None:
                ahead.append(where.model)
                await asyncio.sleep(1.0)

            async def use(model: str) -> None:
                async with gpu.cache.weights(model, "h1", GIB, load, tier="ram"):
                    await asyncio.sleep(0.1)
                await gpu.cache.gone(model, "h1", "ram")

            for _ in range(3):
                await use("plan")
                await use("code")
            gpu.cache.load_ahead(early)
            async with gpu.cache.weights("plan", "h1", GIB, load, tier="ram"):
                await asyncio.sleep(3.0)
            assert ahead == ["code"]
            assert [copy.model for copy in (await gpu.cache.where()).copies] == ["plan", "code"]

    run(main())
