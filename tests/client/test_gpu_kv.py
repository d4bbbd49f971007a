"""Pages of KV cache as engines see them, against the real rules on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bursar.client.errors import BadReply
from bursar.client.gpu import Gpu
from bursar.client.gpu_errors import GpuUnavailable, LeaseLost
from bursar.client.gpu_kv import KvEngine
from bursar.contracts.gpu_kv import KvJoin, KvPages, KvReply, KvStatus
from bursar.errors import CallerError, ServiceError
from bursar.kernel.decider import Accept, Refuse
from tests.client.gpu_manager import Manager, fleet_and_manager
from tests.client.virtual import run
from tests.gpu_manager.desk import MAC, Desk

MIB = 1 << 20


async def pool(gpu: Gpu) -> str:
    """100 pages."""
    lease = await gpu.lease(6400 * MIB, purpose="kv_cache", ttl=60.0)
    assert await gpu.kv.open(lease, page=64 * MIB, engines=["other"]) == 100
    return lease.id


def test_an_engine_takes_pages_and_is_asked_for_what_it_was_lent() -> None:
    """It hears of it, gives them, and the other one gets what it wanted."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            lease = await pool(gpu)
            engine = await gpu.kv.join(lease, promised=20, limit=90, per_page=10)
            heard: list[int] = []
            engine.on_wanted(heard.append)
            other = KvOther(there.desk, lease)
            other.join(20, 40)
            assert (await engine.tell(0, take=80)).taken
            assert not other.takes(40)
            await asyncio.sleep(0.2)
            assert heard == [20]
            told = await engine.tell(300, held=[{"page": 7, "blocks": 0}, {"page": 8, "blocks": 3, "busy": 1}])
            assert (told.wanted, told.empty) == (20, [7])
            assert (await engine.tell(300, give=20)).pages == engine.pages == 60
            assert other.takes(40)
            assert (await gpu.kv.status(lease)).free == 0
            with pytest.raises(CallerError):
                await engine.tell(300, give=31)
            await engine.leave()
            assert (await gpu.kv.status(lease)).free == 60

    run(main())


async def there_status(there: Manager, lease: str) -> KvReply:
    """As the manager sees it, whatever the network does."""
    outcome = there.desk.ask(KvStatus(lease=lease), "ops")
    assert isinstance(outcome, Refuse)
    return KvReply.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})


class KvOther:
    """Another principal's engine, at the manager's desk."""

    def __init__(self, desk: Desk, lease: str) -> None:
        self.desk, self.lease = desk, lease

    def ask(self, body: Any) -> dict[str, Any]:
        outcome = self.desk.ask(body, "other")
        assert isinstance(outcome, Accept | Refuse)
        return outcome.reply

    def join(self, promised: int, limit: int) -> None:
        body = KvJoin(id="o-1", lease=self.lease, promised=promised, limit=limit, per_page=10)
        assert self.ask(body)["ok"]

    def takes(self, pages: int) -> bool:
        return bool(self.ask(KvPages(id="o-2", lease=self.lease, blocks=0, take=pages))["taken"])


def test_an_engine_stays_while_it_is_there_and_knows_when_it_is_not() -> None:
    """What it said last is said again; cut off for too long, it has left."""

    async def main() -> None:
        async with fleet_and_manager(patience=0.5) as (gpu, there, _):
            there.desk.configure(cache_use_ms=6_000)
            lease = await pool(gpu)
            engine = await gpu.kv.join(lease, promised=20, limit=90, per_page=10)
            await engine.tell(0, take=5)
            await engine.tell(10)
            await asyncio.sleep(30.0)
            [row] = (await gpu.kv.status(lease)).engines
            assert (row.pages, row.blocks, engine.lost.is_set()) == (5, 10, False)
            engine.check()
            there.deaf, cut = True, there.now
            assert await asyncio.wait_for(engine.lost.wait(), 10) == "out_of_reach"
            assert 3_500 < there.now - cut < 6_000
            with pytest.raises(LeaseLost):
                engine.check()
            with pytest.raises(LeaseLost):
                await engine.tell(10)
            [row] = (await there_status(there, lease)).engines
            assert row.pages == 5
            await asyncio.sleep(10.0)
            there.deaf = False
            again = await gpu.kv.join(lease, promised=20, limit=90, per_page=10)
            assert isinstance(again, KvEngine)
            with pytest.raises(ServiceError) as error:
                await gpu.kv.join(await pool(gpu), promised=101, limit=101, per_page=10)
            assert error.value.code == "no_pages"
            gpu.kv.hear({"what": "kv_wanted"})

    run(main())


def test_pages_are_lost_here_before_they_are_lent_to_others() -> None:
    """By the engine's own clock, though it is cut off while it waits for an answer, or its answer comes too late; and
    with the lease, when its holder is gone."""

    async def main() -> None:
        async with fleet_and_manager(patience=60.0) as (gpu, there, _):
            there.desk.configure(cache_use_ms=6_000)
            lease = await pool(gpu)
            engine = await gpu.kv.join(lease, promised=0, limit=90, per_page=10)
            assert (await engine.tell(0, take=90)).taken
            other = KvOther(there.desk, lease)
            other.join(0, 90)
            there.deaf = True
            waiting = asyncio.create_task(engine.tell(300))
            lent_at = None
            while lent_at is None:
                await asyncio.sleep(0.05)
                assert other.ask(KvPages(id="o-0", lease=lease, blocks=0))["ok"]
                if other.takes(20):
                    lent_at = there.now
                    assert engine.lost
            there.deaf = False
            with pytest.raises(CallerError):
                await waiting
            assert not engine.held

    run(main())


def test_pages_that_were_given_back_are_not_its_own_though_no_answer_came() -> None:
    """Another may have them already; what is refused has changed nothing."""

    async def main() -> None:
        async with fleet_and_manager(patience=0.5) as (gpu, there, _):
            lease = await pool(gpu)
            engine = await gpu.kv.join(lease, promised=0, limit=90, per_page=10)
            await engine.tell(0, take=90)
            with pytest.raises(CallerError):
                await engine.tell(900, give=1)
            assert engine.pages == 90
            there.lose_answers = True
            with pytest.raises(GpuUnavailable):
                await engine.tell(300, give=50)
            assert engine.pages == 40
            other = KvOther(there.desk, lease)
            other.join(0, 90)
            assert other.takes(60)
            there.lose_answers = False
            assert (await engine.tell(300)).pages == engine.pages == 40

    run(main())


def test_an_engine_hears_that_its_pool_is_over() -> None:
    """At once, and not when it says something next."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            lease = await pool(gpu)
            engine = await gpu.kv.join(lease, promised=0, limit=90, per_page=10)
            await gpu.leases[0].release()
            assert await asyncio.wait_for(engine.lost.wait(), 0.5) == "released"
            assert not engine.held

    run(main())


def test_an_answer_that_cannot_be_read_has_its_own_error() -> None:
    """Whatever another version says: nothing but `BadReply`, and no engine."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            lease = await gpu.lease(6400 * MIB, purpose="kv_cache", ttl=60.0)
            for body in ({}, {"ok": True}, {"ok": False}, {"ok": True, "pages": "many"}, {"ok": None, "lendable": 1}):
                there.says = body
                with pytest.raises(BadReply):
                    await gpu.kv.open(lease, page=64 * MIB)
                with pytest.raises(BadReply):
                    await gpu.kv.join(lease.id, promised=0, limit=1, per_page=1)
            there.says = None
            assert await gpu.kv.open(lease, page=64 * MIB) == 100

    run(main())


def test_a_pool_and_what_engines_hold_outlive_a_loss_of_data() -> None:
    """The holder opens it again, the engine joins again with what it holds; nobody else gets in between."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            lease = await pool(gpu)
            engine = await gpu.kv.join(lease, promised=20, limit=90, per_page=10)
            assert (await engine.tell(0, take=50)).taken
            await engine.tell(450)
            there.lose_log()
            other = KvOther(there.desk, lease)
            told = await engine.tell(460, take=1)
            assert (told.pages, told.taken, engine.pages, engine.lost.is_set()) == (50, False, 50, False)
            body = KvJoin(id="o-1", lease=lease, promised=1, limit=1, per_page=10)
            assert other.ask(body)["reason"] == "recovering"
            await asyncio.sleep(70.0)
            assert (await engine.tell(460, take=1)).taken
            other.join(20, 40)
            [mine, _] = (await gpu.kv.status(lease)).engines
            assert (mine.pages, mine.blocks, engine.lost.is_set()) == (51, 460, False)
            there.desk.check()

    run(main())


def test_an_engine_that_hears_of_a_loss_by_itself_joins_again() -> None:
    """Though it asks nothing: in the background, as soon as the holder is back."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            lease = await pool(gpu)
            engine = await gpu.kv.join(lease, promised=20, limit=90, per_page=10)
            await engine.tell(0, take=50)
            there.lose_log()
            await asyncio.sleep(25.0)
            [row] = (await gpu.kv.status(lease)).engines
            assert (row.pages, engine.pages, engine.lost.is_set()) == (50, 50, False)

    run(main())
