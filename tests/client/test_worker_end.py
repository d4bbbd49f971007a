"""The end of a worker: short tasks end, those that look stop early, the rest is handed back, in the time there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bursar.client.scheduler_values import unpack_value
from bursar.client.worker_end import SHORT_NOTICE, file_notice
from bursar.client.worker_task import TaskYielded, WorkerTask
from tests.client.virtual import run
from tests.client.worker_site import Site, play


def equip(site: Site, log: list[str]) -> None:
    @site.worker.task("nap")
    async def nap(task: WorkerTask) -> str:
        await asyncio.sleep(task.payload)
        return "slept"

    @site.worker.task("looks")
    async def looks(task: WorkerTask) -> str:
        while not task.should_stop:  # noqa: ASYNC110 - that is what such a function does
            await asyncio.sleep(0.05)
        log.append("stops early")
        assert not task.is_void
        return "half"


def test_who_looks_stops_early_and_its_result_counts() -> None:
    """It is asked when the draining begins."""
    log: list[str] = []

    async def test(site: Site) -> None:
        equip(site, log)
        await site.work()
        handle = await site.agent.scheduler.submit("looks")
        await asyncio.sleep(1)
        assert log == []
        site.worker.stop()
        assert await handle.result(1) == "half"

    play(test, slots=2)


def test_what_is_stopped_at_the_end_of_the_grace_may_still_give_what_it_has() -> None:
    """A checkpoint, or a result; who only cleans up is handed back as it was."""
    kinds = ("yields", "returns", "cleans up")

    async def test(site: Site) -> None:
        @site.worker.task("stubborn")
        async def stubborn(task: WorkerTask) -> str:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                await asyncio.sleep(0.2)
                if task.payload == "yields":
                    raise TaskYielded("so far") from None
                if task.payload == "cleans up":
                    raise
            return "all the same"

        await site.work()
        handles = [await site.agent.scheduler.submit("stubborn", kind) for kind in kinds]
        await asyncio.sleep(0.5)
        site.worker.stop()
        assert site.running is not None
        await site.running
        found = [await handle.status() for handle in handles]
        assert [row.state for row in found] == ["ready", "done", "ready"]
        kept = [unpack_value(site.there.state.tasks[handles[n].id].checkpoint) for n in (0, 2)]
        assert kept == ["so far", None]
        assert site.there.state.counts["lost"] == 0

    play(test, slots=3, grace=2.0)


@pytest.mark.parametrize("seconds", [30.0, 2.0])
def test_a_host_that_is_taken_away_is_left_before(seconds: float) -> None:
    """What can end ends; the rest is handed back in time, and nothing counts as lost."""

    async def test(site: Site) -> None:
        equip(site, [])
        await site.work()
        short = await site.agent.scheduler.submit("nap", seconds / 3)
        long = await site.agent.scheduler.submit("nap", 600)
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        gone_at = loop.time() + seconds
        site.worker.reclaim(seconds)
        assert site.running is not None
        await site.running
        assert gone_at - seconds / 2 < loop.time() < gone_at
        assert await short.result(1) == "slept"
        assert (await long.status()).attempts == 1
        assert site.there.state.workers == {}
        assert site.there.state.counts["lost"] == 0

    play(test, slots=2, grace=3_600.0)


def test_a_notice_that_comes_while_the_worker_ends_shortens_that() -> None:
    """And a longer one does not make it longer again."""

    async def test(site: Site) -> None:
        equip(site, [])
        await site.work()
        await site.agent.scheduler.submit("nap", 600)
        await asyncio.sleep(0.1)
        site.worker.stop()
        await asyncio.sleep(5)
        began = asyncio.get_running_loop().time()
        site.worker.reclaim(8.0)
        site.worker.reclaim(100.0)
        assert site.running is not None
        await site.running
        assert asyncio.get_running_loop().time() - began < 8.0

    play(test, grace=3_600.0)


def test_the_notice_of_a_cloud_comes_by_file(tmp_path: Path) -> None:
    """The worker ends by itself when the file appears."""
    file = tmp_path / "reclaim"

    async def test(site: Site) -> None:
        equip(site, [])
        await site.work()
        await site.agent.scheduler.submit("nap", 600)
        await asyncio.sleep(3)
        assert site.running is not None
        assert not site.running.done()
        file.write_text("12\n")
        began = asyncio.get_running_loop().time()
        await site.running
        assert asyncio.get_running_loop().time() - began < 13.0

    play(test, grace=3_600.0, reclaim_notice=file_notice(file))


@pytest.mark.parametrize("text", ["", "soon", "-3", "inf", "nan"])
def test_a_notice_that_does_not_say_when_means_soon(tmp_path: Path, text: str) -> None:
    """The shortest that a large cloud gives."""
    file = tmp_path / "reclaim"
    file.write_text(text)
    assert run(_await(file)) == SHORT_NOTICE


async def _await(file: Path) -> float:
    return await file_notice(file)()
