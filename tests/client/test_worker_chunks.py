"""Tasks in chunks: what came before is there, checkpoints are kept, who should stop is told and gives back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bursar.client.scheduler_errors import TaskError, TaskFailed
from bursar.client.scheduler_graph import Stage
from bursar.client.worker_task import TaskRefused, TaskYielded, WorkerTask
from tests.client.worker_site import Site, play


def equip(site: Site, log: list[Any]) -> None:
    """``count`` counts to its payload, ten a second, and begins where it was stopped."""

    @site.worker.task("count")
    async def count(task: WorkerTask) -> int:
        n: int = task.saved or 0
        log.append(("begins", n))
        while n < task.payload:
            await asyncio.sleep(0.1)
            n += 1
            if task.should_stop:
                log.append(("yields", n))
                raise TaskYielded(n)
        return n

    @site.worker.task("urgent")
    async def urgent(task: WorkerTask) -> str:
        log.append("urgent")
        return "done"


def test_a_task_has_the_results_of_those_before_it() -> None:
    """In their order, more than one page of them; what has not ended well is an exception."""
    seen: list[list[Any]] = []

    async def test(site: Site) -> None:
        @site.worker.task("one")
        async def one(task: WorkerTask) -> Any:
            if task.payload == 3:
                raise TaskRefused("no threes")
            return {"n": task.payload}

        @site.worker.task("all")
        async def gather(task: WorkerTask) -> int:
            seen.append(task.inputs)
            return len(task.inputs)

        await site.work()
        submit = site.agent.scheduler.submit
        before = [await submit("one", n) for n in range(20)]
        assert await (await submit("all", after=before, after_failure="run")).result(20) == 20
        (inputs,) = seen
        assert isinstance(inputs[3], TaskError)
        assert [row for row in inputs if not isinstance(row, TaskError)] == [{"n": n} for n in range(20) if n != 3]
        assert await (await submit("all")).result(10) == 0

    play(test, slots=4)


def test_each_stage_of_a_pipeline_gets_what_the_one_before_has_given() -> None:
    """Items stream through it."""

    async def test(site: Site) -> None:
        @site.worker.task("double")
        async def double(task: WorkerTask) -> int:
            return 2 * int(task.payload)

        @site.worker.task("add")
        async def add(task: WorkerTask) -> int:
            return int(1 + sum(task.inputs))

        await site.work()
        line = site.agent.scheduler.pipeline("p", [Stage("double"), Stage("add")], window=4)
        assert [result async for result in line.run([1, 2, 3])] == [3, 5, 7]

    play(test, slots=4)


def test_a_more_urgent_task_has_the_slot_within_a_chunk() -> None:
    """100 ms: who counts gives back at the end of its chunk, and goes on where it was. Nothing counts as a failure."""
    log: list[Any] = []

    async def test(site: Site) -> None:
        equip(site, log)
        await site.work()
        slow = await site.agent.scheduler.submit("count", 50, priority="proactive", preemptible=True, retries=0)
        await asyncio.sleep(2.05)
        began = asyncio.get_running_loop().time()
        urgent = await site.agent.scheduler.submit("urgent", priority="reactive")
        assert await urgent.result(5) == "done"
        assert asyncio.get_running_loop().time() - began < 0.2
        assert await slow.result(20) == 50
        assert log == [("begins", 0), ("yields", 21), "urgent", ("begins", 21)]
        assert (await slow.status()).attempts == 2

    play(test, slots=1)


def test_who_may_not_be_preempted_is_not() -> None:
    """The urgent one waits."""
    log: list[Any] = []

    async def test(site: Site) -> None:
        equip(site, log)
        await site.work()
        await site.agent.scheduler.submit("count", 30, priority="proactive")
        await asyncio.sleep(2.0)
        urgent = await site.agent.scheduler.submit("urgent", priority="reactive")
        assert await urgent.result(5) == "done"
        assert log == [("begins", 0), "urgent"]

    play(test, slots=1)


def test_who_does_not_look_is_stopped_when_its_time_is_over() -> None:
    """The scheduler takes the attempt away, and the worker cancels it; the urgent one has the slot then."""
    log: list[Any] = []

    async def test(site: Site) -> None:
        equip(site, log)

        @site.worker.task("deaf")
        async def deaf(task: WorkerTask) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                log.append("stopped")

        await site.work()
        slow = await site.agent.scheduler.submit("deaf", priority="proactive", preemptible=True)
        await asyncio.sleep(2.0)
        urgent = await site.agent.scheduler.submit("urgent", priority="reactive")
        assert await urgent.result(5) == "done"
        assert log == ["stopped", "urgent"]
        await slow.cancel()

    play(test, slots=1)


def test_a_checkpoint_outlives_the_failure_of_its_attempt() -> None:
    """Kept by an awaited call, or in passing from anywhere; the newest counts."""
    log: list[Any] = []

    async def test(site: Site) -> None:
        @site.worker.task("steps")
        async def steps(task: WorkerTask) -> list[Any]:
            log.append(task.saved)
            if task.attempt == 1:
                await task.checkpoint({"step": 1})
                raise ValueError("after the first step")
            if task.attempt == 2:
                task.keep({"step": 2})
                task.keep({"step": 3})
                raise ValueError("after the third step")
            return list(log)

        await site.work()
        handle = await site.agent.scheduler.submit("steps", backoff=0.1)
        assert await handle.result(20) == [None, {"step": 1}, {"step": 3}]

    play(test)


def test_a_checkpoint_of_a_void_attempt_stops_it() -> None:
    """As progress does."""
    log: list[str] = []

    async def test(site: Site) -> None:
        site.there.lose = lambda body: body["what"] == "stop"

        @site.worker.task("work")
        async def work(task: WorkerTask) -> None:
            await asyncio.sleep(1)
            try:
                await task.checkpoint("half")
            except asyncio.CancelledError:
                log.append("cancelled")
                raise
            log.append("kept")

        await site.work()
        handle = await site.agent.scheduler.submit("work")
        await asyncio.sleep(0.5)
        await handle.cancel()
        await asyncio.sleep(1)
        assert log == ["cancelled"]
        await asyncio.sleep(1)
        assert not site.known.attempts

    play(test)


@pytest.mark.parametrize("what", ["result", "checkpoint"])
def test_what_is_too_large_to_be_kept_is_a_failure_that_is_told(what: str) -> None:
    """A checkpoint of more than 32 KB; a result that nothing can pack."""

    async def test(site: Site) -> None:
        @site.worker.task("work")
        async def work(task: WorkerTask) -> object:
            if what == "checkpoint":
                raise TaskYielded("x" * 40_000)
            return object()

        await site.work()
        with pytest.raises(TaskFailed, match=f"the {what} cannot be sent"):
            await (await site.agent.scheduler.submit("work")).result(10)

    play(test)


def test_a_host_that_goes_gets_back_what_can_go_on_elsewhere() -> None:
    """What counts gives back at once, with its checkpoint; the worker is gone long before its host."""
    log: list[Any] = []

    async def test(site: Site) -> None:
        equip(site, log)
        await site.work()
        handle = await site.agent.scheduler.submit("count", 100)
        await asyncio.sleep(1.05)
        began = asyncio.get_running_loop().time()
        site.worker.reclaim(30.0)
        assert site.running is not None
        await site.running
        assert asyncio.get_running_loop().time() - began < 1.0
        assert log == [("begins", 0), ("yields", 11)]
        assert (await handle.status()).state == "ready"
        assert site.there.state.counts["lost"] == 0

    play(test, slots=2, grace=3_600.0)
