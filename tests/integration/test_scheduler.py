"""The scheduler on a real server with real workers: kills, pauses, posts while it is away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bursar.cli.journal_check import explained
from bursar.client.fleet import Fleet
from bursar.client.scheduler_errors import QueueFull, TaskCancelled, TaskExpired, TaskFailed
from bursar.client.worker import Worker
from bursar.contracts.scheduler import SERVICE
from bursar_scheduler import events
from bursar_scheduler.core import SchedulerDecider
from tests.integration.scheduler_worker import equip
from tests.integration.support import ROOT, Rig, until
from tests.scheduler.history import accepted_ends, check_history

pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(
        tmp_path, module="bursar_scheduler", service=SERVICE, decider=SchedulerDecider, inbox=True,
        env={"BURSAR_SCHEDULER_WORKER_TTL_MS": "1500", "BURSAR_SCHEDULER_START_WITHIN_MS": "2000"},
    ) as rig:  # fmt: skip
        await rig.start("a")
        yield rig


@asynccontextmanager
async def agent(rig: Rig, name: str = "ann") -> AsyncIterator[Fleet]:
    async with Fleet(None, bus=await rig.bus(name)) as fleet:
        yield fleet


@asynccontextmanager
async def workers(rig: Rig, *names: str, slots: int = 4) -> AsyncIterator[list[Worker]]:
    """Workers in this process, each on its own connection."""
    made: list[Worker] = []
    fleets: list[Fleet] = []
    running: list[asyncio.Task[None]] = []
    try:
        for name in names:
            fleet = Fleet(None, bus=await rig.bus(name))
            await fleet.__aenter__()
            fleets.append(fleet)
            made.append(equip(Worker(fleet, slots=slots, grace=1.0)))
            running.append(asyncio.create_task(made[-1].run(signals=False)))
        yield made
        for worker in made:
            worker.stop()
        await asyncio.wait_for(asyncio.gather(*running), 20)
    finally:
        for work in running:
            work.cancel()
        for fleet in fleets:
            await fleet.close(0.1)


class Process:
    """A worker as a process of its own."""

    def __init__(self, rig: Rig, name: str, slots: int) -> None:
        self.out = rig.directory / f"{name}.out"
        command = [sys.executable, "-m", "tests.integration.scheduler_worker", name, str(slots)]
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(command, env={**os.environ, "BURSAR_URL": rig.url}, stdout=out, cwd=ROOT)

    def said(self, what: str) -> bool:
        assert self.process.poll() is None, self.out.read_text()
        return what in self.out.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


async def journal(rig: Rig) -> list[Any]:
    _, entries = await rig.walk()
    return [event for entry in entries for row in entry.decisions for event in row.events]


async def count(fleet: Fleet, what: str) -> int:
    return int(getattr(await fleet.scheduler.status(), what))


async def when(fleet: Fleet, what: str, number: int) -> None:
    async with asyncio.timeout(10):
        while await count(fleet, what) != number:  # noqa: ASYNC110 - the scheduler tells when asked
            await asyncio.sleep(0.02)


async def test_results_failures_cancellation_and_deadlines_reach_the_submitter(rig: Rig) -> None:
    """Each end as its own kind of exception, and values of any shape."""
    async with agent(rig) as fleet, workers(rig, "w1"):
        submit = fleet.scheduler.submit
        value = {"list": list(range(1_000)), "deep": [[[[[[[[[[1]]]]]]]]]], "bytes": b"\x00" * 20_000, 7: None}
        assert await (await submit("echo", value)).result(10) == value
        assert await (await submit("flaky", 2, backoff=0.01)).result(10) == 3
        with pytest.raises(TaskFailed, match="in vain"):
            await (await submit("flaky", "refuse")).result(10)
        with pytest.raises(TaskFailed, match="attempt 2"):
            await (await submit("flaky", 5, retries=1, backoff=0.01)).result(10)
        napping = await submit("nap", {"s": 60})
        await when(fleet, "running", 1)
        assert await napping.cancel()
        assert not await napping.cancel()
        with pytest.raises(TaskCancelled):
            await napping.result(10)
        with pytest.raises(TaskExpired):
            await (await submit("nap", {"s": 60}, deadline=0.3)).result(10)
        again = [await submit("echo", 1, key="once") for _ in range(2)]
        assert again[0] is again[1]
        with pytest.raises(TimeoutError):
            await (await submit("nap", {"s": 60}, needs={"labels": {"no": "where"}})).result(0.05)


async def test_a_killed_scheduler_loses_no_task_and_ends_none_twice(rig: Rig) -> None:
    """kill -9 of the owner with 200 tasks in flight over 4 workers; the standby goes on."""
    await rig.start("b")
    async with agent(rig) as fleet, workers(rig, "w1", "w2", "w3", "w4"):
        handles = [await fleet.scheduler.submit("nap", {"s": 0.05, "n": n}) for n in range(200)]
        results = [asyncio.create_task(handle.result(40)) for handle in handles]
        await until(lambda: sum(result.done() for result in results) > 20, 20, "some have ended")
        rig.owner().kill()
        told = await asyncio.gather(*results)
        assert [answer["n"] for answer in told] == list(range(200))
        assert len({answer["fence"] for answer in told}) == 200
        assert (await fleet.scheduler.status()).counts["done"] == 200
    happened = await journal(rig)
    final = check_history(happened)
    assert all(final[handle.id] == "done" for handle in handles)
    placed = await explained(await rig.journal(), SchedulerDecider(), handles[0].id)
    assert placed[-1]["token"] == told[0]["fence"], "each placement can be worked out again from the journal"
    assert all(accepted_ends(happened)[handle.id] == 1 for handle in handles)


async def test_a_killed_workers_tasks_are_done_by_others(rig: Rig) -> None:
    """kill -9 of a worker's process: after its silence, with new fences."""
    async with agent(rig) as fleet:
        doomed = Process(rig, "w9", 4)
        try:
            handles = [await fleet.scheduler.submit("nap", {"s": 60 if n < 2 else 0.1}) for n in range(4)]
            await until(lambda: all(doomed.said(handle.id) for handle in handles[:2]), 15, "two have started")
            olds = [(await handle.status()).attempts for handle in handles[:2]]
            async with workers(rig, "w1"):
                doomed.kill()
                async with asyncio.timeout(15):
                    while {(await handle.status()).worker for handle in handles[:2]} != {"w1"}:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                assert [(await handle.status()).attempts for handle in handles[:2]] == [old + 1 for old in olds]
                for handle in handles[2:]:
                    assert (await handle.result(10))["who"] in {"w1", "w9"}
                for handle in handles[:2]:
                    await handle.cancel()
        finally:
            doomed.kill()
    assert max(accepted_ends(await journal(rig)).values()) == 1


async def test_a_gang_survives_the_scheduler_and_begins_again_without_a_member(rig: Rig) -> None:
    """kill -9 of the owner while three workers run it, then of one of their processes: the others are stopped, and all
    of it runs again on those that are there. One end, and no slot stays taken."""
    await rig.start("b")
    async with agent(rig) as fleet, workers(rig, "w1", "w2", slots=1):
        doomed = Process(rig, "w9", 1)
        try:
            payload = {"until_without": "w9"}
            handle = await fleet.scheduler.submit("together", payload, needs={"gang": 3}, lease=30)
            await until(lambda: doomed.said(handle.id), 15, "the gang has started")
            rig.owner().kill()
            await when(fleet, "running", 1)
            doomed.kill()
            async with workers(rig, "w3", slots=1):
                rank, members, attempt = await handle.result(30)
                assert (rank, sorted(members)) == (0, ["w1", "w2", "w3"])
                assert attempt > 1
                async with asyncio.timeout(10):
                    while any(worker.used for worker in (await fleet.scheduler.status()).workers):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
        finally:
            doomed.kill()
    assert accepted_ends(await journal(rig)) == {handle.id: 1}


async def test_the_late_end_of_a_paused_worker_does_not_count(rig: Rig) -> None:
    """SIGSTOP until its lease is lost: the other's end is accepted, the late one is not."""
    async with agent(rig) as fleet:
        slow = Process(rig, "w9", 1)
        try:
            handle = await fleet.scheduler.submit("nap", {"s": 0.3})
            await until(lambda: slow.said(handle.id), 15, "it has started")
            slow.process.send_signal(signal.SIGSTOP)
            async with workers(rig, "w1"):
                answer = await handle.result(15)
                assert answer["who"] == "w1"
                slow.process.send_signal(signal.SIGCONT)
                other = [await fleet.scheduler.submit("nap", {"s": 0.0}) for _ in range(3)]
                for task in other:
                    await task.result(15)
                assert (await handle.status()).worker == "w1"
            await (await fleet.scheduler.submit("nap", {"s": 0.0})).result(15)  # the one that was paused works again
            slow.process.terminate()
            assert await asyncio.to_thread(slow.process.wait, 10) == 0
        finally:
            slow.kill()
    assert max(accepted_ends(await journal(rig)).values()) == 1


async def test_what_is_posted_while_the_scheduler_is_away_is_done_once(rig: Rig) -> None:
    """A plain publish; each is decided once, also when the scheduler is killed while it reads them."""
    async with agent(rig) as fleet:
        rig["a"].kill()
        ids = [await fleet.scheduler.post("echo", n) for n in range(50)]
        ids.append(await fleet.scheduler.post("echo", "named", name="mine"))
        assert await fleet.scheduler.post("echo", "named", name="mine") == ids[-1]
        waiting = [asyncio.create_task(fleet.scheduler.handle(task).result(40)) for task in ids]
        rig.launch("a")
        await rig["a"].becomes("owner")
        rig["a"].kill()
        rig.launch("a")
        async with workers(rig, "w1", slots=8):
            assert await asyncio.gather(*waiting) == [*range(50), "named"]
    happened = await journal(rig)
    assert [event[2] for event in happened if event[0] == events.POSTED] == list(range(1, 53))
    assert len(accepted_ends(happened)) == 51
    assert max(accepted_ends(happened).values()) == 1


async def test_a_draining_worker_hands_back_what_it_cannot_finish(rig: Rig) -> None:
    """What ends within its grace is finished, the rest goes to another without counting as lost."""
    async with agent(rig) as fleet:
        async with workers(rig, "w1"):
            quick = await fleet.scheduler.submit("nap", {"s": 0.4})
            long = await fleet.scheduler.submit("nap", {"s": 60}, retries=0)
            await when(fleet, "running", 2)
        assert (await quick.result(5))["who"] == "w1"
        assert (await long.status()).state == "ready"
        told = await fleet.scheduler.status()
        assert (told.workers, told.counts.get("lost", 0), told.counts["workers_left"]) == ([], 0, 1)
        async with workers(rig, "w2"):
            await when(fleet, "running", 1)
            await long.cancel()


async def test_a_full_queue_says_so_and_waiting_for_room_works(rig: Rig) -> None:
    """An operator lowers the bound; the refusal is typed, and ``wait`` goes on asking."""
    async with agent(rig) as fleet:
        ops = await rig.bus("ops")
        body = b'{"id": "c-1", "max_tasks": 2}'
        await ops.request(f"bursar.adm.{SERVICE}.configure.ops", body, 5.0)
        for _ in range(2):
            await fleet.scheduler.submit("echo", 1)
        with pytest.raises(QueueFull) as full:
            await fleet.scheduler.submit("echo", 1)
        assert full.value.facts["limit"] == 2
        waiting = asyncio.create_task(fleet.scheduler.submit("echo", "later", wait=20))
        async with workers(rig, "w1"):
            assert await (await waiting).result(10) == "later"
        assert (await fleet.scheduler.tasks()).tasks == []
