"""A worker's ways with its tasks, end to end: batches, processes, late ends; and workers without a fleet."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from bursar.bus.memory import MemoryNetwork
from bursar.client.fleet import Fleet
from bursar.client.scheduler_errors import TaskFailed
from bursar.client.worker import Worker
from bursar.client.worker_batch import Batch
from bursar.client.worker_task import WorkerTask
from bursar.errors import CallerError
from tests.client import process_functions
from tests.client.fake_scheduler import FakeScheduler
from tests.client.worker_site import Site, play


def test_tasks_of_a_class_are_done_together_and_end_one_by_one() -> None:
    """Their results, their failures; each end may bring the next member."""
    sizes: list[int] = []

    async def test(site: Site) -> None:
        @site.worker.batch("embed", like="model", size=4)
        async def embed(tasks: list[WorkerTask]) -> list[Any]:
            sizes.append(len(tasks))
            await asyncio.sleep(0.05)
            return [ValueError("odd") if task.payload == 3 else task.payload * 10 for task in tasks]

        await site.work()
        handles = [await site.agent.scheduler.submit("embed", n, retries=0) for n in range(10)]
        results = await asyncio.gather(*(handle.result(20) for handle in handles), return_exceptions=True)
        assert isinstance(results.pop(3), TaskFailed)
        assert results == [n * 10 for n in range(10) if n != 3]
        assert sizes == [4, 4, 2]

    play(test, slots=4)


def test_a_batch_is_as_large_as_the_worker_has_slots() -> None:
    """With two of them, two is all that can come."""
    sizes: list[int] = []

    async def test(site: Site) -> None:
        @site.worker.batch("embed", like="database")
        def embed(tasks: list[WorkerTask]) -> list[Any]:
            return [0] * len(tasks)

        run = site.worker.runs["embed"]
        assert isinstance(run, Batch)
        assert (run.rule.size, run.rule.wait_ms) == (50, 50.0)

        @site.worker.batch("embed", wait=30.0)
        async def together(tasks: list[WorkerTask]) -> list[Any]:
            sizes.append(len(tasks))
            return [0] * len(tasks)

        await site.work()
        handles = [await site.agent.scheduler.submit("embed") for _ in range(4)]
        for handle in handles:
            await handle.result(5)
        assert sizes == [2, 2]

    play(test, slots=2)


def test_a_member_that_is_cancelled_does_not_stop_the_others() -> None:
    """Its slot is free when the batch is over."""

    async def test(site: Site) -> None:
        @site.worker.batch("embed", size=2)
        async def embed(tasks: list[WorkerTask]) -> list[Any]:
            await asyncio.sleep(5)
            return [task.should_stop for task in tasks]

        await site.work()
        one, other = [await site.agent.scheduler.submit("embed") for _ in range(2)]
        await asyncio.sleep(1)
        await one.cancel()
        await asyncio.sleep(1)
        assert len(site.known.attempts) == 2
        assert await other.result(10) is False
        await asyncio.sleep(1)
        assert not site.known.attempts

    play(test, slots=2)


@pytest.mark.parametrize(
    "wrong", [{"like": "soup"}, {"size": 0}, {"size": 300}, {"wait": -1.0}, {"wait": 61.0}, {"target": 0.0}]
)
def test_a_batch_that_cannot_be_is_refused_at_once(wrong: dict[str, Any]) -> None:
    """When the function is decorated."""
    with pytest.raises(CallerError):
        Worker().batch("embed", **wrong)(lambda tasks: [])


def test_a_late_end_does_not_count_and_frees_the_slot() -> None:
    """The attempt was void, and nothing that said so had come through."""

    async def test(site: Site) -> None:
        site.there.lose = lambda body: body["what"] == "stop"
        ended: list[str] = []

        @site.worker.task("work")
        async def work(_: WorkerTask) -> str:
            await asyncio.sleep(0.5)
            ended.append("late")
            return "late"

        await site.work()
        handle = await site.agent.scheduler.submit("work")
        await asyncio.sleep(0.2)
        await handle.cancel()
        await asyncio.sleep(1)
        assert ended == ["late"]
        assert (await handle.status()).state == "cancelled"
        assert not site.known.attempts
        assert site.worker.running == []

    play(test)


async def test_a_thread_keeps_what_it_has_and_gives_back_when_it_is_asked_to() -> None:
    """Its next attempt, with another worker, goes on from there. (Real time: a real thread.)"""
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    there = FakeScheduler(network, lambda: loop.time() * 1000.0)
    await there.start()
    first, second = Worker(), Worker()
    for worker in (first, second):
        worker.task("steps")(process_functions.in_chunks)
    async with (
        Fleet(None, bus=network.connect("ann")) as agent,
        Fleet(None, bus=network.connect("w1")) as one,
        Fleet(None, bus=network.connect("w2")) as other,
    ):
        running = asyncio.ensure_future(first.run(one, signals=False))
        handle = await agent.scheduler.submit("steps")
        async with asyncio.timeout(60):
            while (await handle.status()).progress_permille != 500:  # noqa: ASYNC110 - told when asked
                await asyncio.sleep(0.02)
        first.stop()
        await asyncio.wait_for(running, 60)
        running = asyncio.ensure_future(second.run(other, signals=False))
        assert await handle.result(60) == [{"step": 2}, []]
        second.stop()
        await asyncio.wait_for(running, 60)
    await there.stop()


async def test_a_crash_in_a_process_is_a_failure_that_is_tried_again() -> None:
    """The worker goes on; what it was told in passing reached the scheduler. (Real time: a real process.)"""
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    there = FakeScheduler(network, lambda: loop.time() * 1000.0)
    await there.start()
    worker = Worker()
    worker.task("work", run="process")(process_functions.work)
    worker.task("ask", run="process", kill_after=10.0)(process_functions.until_asked)
    with pytest.raises(CallerError, match="give the worker a fleet"):
        await worker.run()
    async with Fleet(None, bus=network.connect("ann")) as agent, Fleet(None, bus=network.connect("w1")) as at_work:
        running = asyncio.ensure_future(worker.run(at_work, signals=False))
        with pytest.raises(TaskFailed, match="ended by SIGKILL"):
            await (await agent.scheduler.submit("work", {"do": "killed"}, retries=0)).result(60)
        found = await (await agent.scheduler.submit("work", {"do": "pid"})).result(60)
        assert found["pid"] != os.getpid()
        asking = await agent.scheduler.submit("ask")
        async with asyncio.timeout(60):
            while (await asking.status()).progress_permille != 500:  # noqa: ASYNC110 - told when asked
                await asyncio.sleep(0.02)
        worker.stop()
        assert await asking.result(60) == "stopped by itself"
        await asyncio.wait_for(running, 60)
    await there.stop()
