"""Engines that follow the manager's advice, against the real rules on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from bursar.client.gpu import Gpu
from bursar.client.gpu_tuning import Window
from tests.client.gpu_manager import fleet_and_manager
from tests.client.test_gpu_moves import RUNS
from tests.client.virtual import run

CURVE = {"runs": RUNS}


class Engine:
    """``fails``: with the new batch; ``slow``: it brings nothing."""

    def __init__(self, fails: str = "") -> None:
        self.batch = 32
        self.applied: list[tuple[str, int]] = []
        self.fails = fails
        self.windows = 0

    async def apply(self, kind: str, number: int) -> None:
        self.applied.append((kind, number))
        self.batch = number
        if self.fails == "apply" and number == 96:
            raise OSError("the card is full")

    async def measure(self) -> Window:
        self.windows += 1
        await asyncio.sleep(5.0)
        if self.batch == 32:
            return Window(5_734_138, 7_510)
        if self.fails == "measure":
            raise OSError("the engine died")
        return Window(9_032_789, 13_894, 1 if self.fails == "preempted" else 0)

    async def follow(self, gpu: Gpu) -> str:
        return await gpu.moves.follow(CURVE, 32, apply=self.apply, measure=self.measure)


def test_a_change_that_proves_good_is_kept() -> None:
    """Agreed, measured before, applied, measured after; then it is not recommended again."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            engine = Engine()
            assert await engine.follow(gpu) == "kept"
            assert engine.applied == [("batch", 96)]
            assert engine.windows == 3 + 6
            assert await gpu.moves.follow(CURVE, 96, apply=engine.apply, measure=engine.measure) == "nothing"

    run(main())


def test_a_change_that_proves_bad_is_taken_back() -> None:
    """At the first preemption; and it is not tried again soon."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            engine = Engine("preempted")
            assert await engine.follow(gpu) == "rolled_back"
            assert engine.applied == [("batch", 96), ("batch", 32)]
            assert await engine.follow(gpu) == "nothing"

    run(main())


@pytest.mark.parametrize("fails", ["apply", "measure"])
def test_what_fails_on_the_way_leaves_the_engine_as_it_was(fails: str) -> None:
    """And the manager knows that the change was taken back."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            engine = Engine(fails)
            with pytest.raises(OSError, match=r"card|died"):
                await engine.follow(gpu)
            assert engine.applied == [("batch", 96), ("batch", 32)]
            assert there.desk.state.rollouts.done == {"rolled_back": 1}

    run(main())


def test_an_engine_has_its_number_back_before_the_manager_hears_of_it() -> None:
    """Also when the manager does not answer for a long time: nobody's engine waits for it with a number that failed."""

    async def main() -> None:
        async with fleet_and_manager(patience=60.0) as (gpu, there, _):
            engine = Engine("measure")
            following = asyncio.create_task(engine.follow(gpu))
            await asyncio.sleep(16.0)
            assert engine.batch == 96
            there.deaf = True
            await asyncio.sleep(10.0)
            assert engine.batch == 32
            assert there.desk.state.rollouts.done == {}
            there.deaf = False
            with pytest.raises(OSError, match="died"):
                await following
            assert there.desk.state.rollouts.done == {"rolled_back": 1}

    run(main())


def test_nothing_is_tried_that_the_worker_did_not_agree_to() -> None:
    """It may look at what is recommended."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, there, _):
            engine = Engine()
            told = await gpu.moves.follow(
                CURVE, 32, apply=engine.apply, measure=engine.measure, agree=lambda what: what.then < 64
            )
            assert (told, engine.applied, engine.windows) == ("declined", [], 0)
            assert there.desk.state.rollouts.done == {"declined": 1}

    run(main())


def test_a_change_that_lasts_too_long_is_taken_back() -> None:
    """The manager ends a canary by its time; the engine follows."""

    async def main() -> None:
        async with fleet_and_manager() as (gpu, _, _):
            engine = Engine()

            async def measure() -> Window:
                if engine.batch == 96:
                    await asyncio.sleep(601.0)
                return await engine.measure()

            assert await gpu.moves.follow(CURVE, 32, apply=engine.apply, measure=measure) == "rolled_back"
            assert engine.batch == 32

    run(main())


def test_a_pacer_lets_fewer_run_while_the_cpu_is_what_they_wait_for() -> None:
    """And more again when it is not; while the manager is deaf it stays as it is."""

    async def main() -> None:
        async with fleet_and_manager(patience=0.5) as (gpu, there, _):
            pacer = gpu.moves.pacer(10)
            most = 0
            cpu_us = 900_000

            async def request() -> None:
                nonlocal most
                async with pacer:
                    most = max(most, pacer.running)
                    await asyncio.sleep(0.1)
                    pacer.step(cpu_us, 400_000)

            async def work(seconds: float) -> int:
                nonlocal most
                most, until = 0, there.now + seconds * 1_000
                while there.now < until:
                    await asyncio.gather(*(request() for _ in range(20)))
                return most

            await work(12.0)
            assert 1 < pacer.limit < 6
            assert await work(1.0) <= pacer.most // 2
            there.deaf = True
            before = pacer.limit
            await work(4.0)
            assert pacer.limit == before
            there.deaf, cpu_us = False, 100_000
            await work(12.0)
            assert (pacer.limit, pacer.running) == (10, 0)

    run(main())
