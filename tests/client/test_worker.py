"""The worker: running, failing, stopping, losing notices and leases, draining; on virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bursar.bus.memory import MemoryBus, MemoryNetwork
from bursar.client.fleet import Fleet
from bursar.client.scheduler_errors import TaskFailed
from bursar.client.worker import Worker
from bursar.client.worker_task import TaskRefused, WorkerTask
from bursar.contracts.scheduler import Register
from bursar.errors import CallerError
from tests.client.fake_scheduler import FakeScheduler
from tests.client.virtual import LoopClock, run


class Site:
    """An agent, a scheduler, and a worker with its own connection. ``log``: what the worker's functions did."""

    def __init__(self, agent: Fleet, there: FakeScheduler, worker: Worker, bus: MemoryBus) -> None:
        self.agent = agent
        self.there = there
        self.worker = worker
        self.bus = bus
        self.log: list[str] = []

        @worker.task("work")
        async def work(task: WorkerTask) -> Any:
            self.log.append(f"begins {task.payload}")
            try:
                await asyncio.sleep(task.payload)
            except asyncio.CancelledError:
                self.log.append(f"cancelled {task.payload}")
                raise
            self.log.append(f"ends {task.payload}")
            return task.payload

    def used(self, name: str = "w1") -> int:
        return len(self.there.state.workers[name].attempts)


@asynccontextmanager
async def site(slots: int = 2, grace: float = 5.0) -> AsyncIterator[Site]:
    network, clock = MemoryNetwork(), LoopClock()
    there = FakeScheduler(network, clock.now)
    await there.start()
    bus = network.connect("w1")
    async with (
        Fleet(None, bus=network.connect("ann"), clock=clock) as agent,
        Fleet(None, bus=bus, clock=clock) as at_work,
    ):
        worker = Worker(at_work, "first", slots=slots, grace=grace, labels={"zone": "a"}, versions={"app": "1"})
        made = Site(agent, there, worker, bus)
        running = asyncio.ensure_future(worker.run(signals=False))
        await asyncio.sleep(0.1)
        yield made
        worker.stop()
        await running
    assert not network.connect("probe").handler_errors
    await there.stop()


def play(test: Callable[[Site], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with site(**options) as made:
            await test(made)

    run(main())


def test_a_worker_does_tasks_up_to_its_slots() -> None:
    """What it says of itself arrives; the third waits for a slot."""

    async def test(site: Site) -> None:
        handles = [await site.agent.scheduler.submit("work", n) for n in (2, 3, 4)]
        await asyncio.sleep(1)
        assert site.log == ["begins 2", "begins 3"]
        assert [await handle.result(20) for handle in handles] == [2, 3, 4]
        (worker,) = site.there.state.workers.values()
        assert (worker.slots, worker.labels["zone"], worker.versions) == (2, "a", {"name": "first", "app": "1"})
        await asyncio.sleep(0.1)
        assert site.worker.running == []

    play(test)


def test_a_failure_is_told_with_its_words() -> None:
    """Retried as the submitter said; a refusal is not."""

    async def test(site: Site) -> None:
        tried = []

        @site.worker.task("odd")
        async def odd(task: WorkerTask) -> int:
            tried.append(task.attempt)
            if task.payload == "refuse":
                raise TaskRefused("in vain")
            if task.payload == "large":
                return object()  # type: ignore[return-value]
            if task.attempt < 3:
                raise ValueError("not yet")
            return task.attempt

        site.worker.link.register_soon()
        await asyncio.sleep(0.1)
        submit = site.agent.scheduler.submit
        assert await (await submit("odd", backoff=0.1)).result(10) == 3
        assert tried == [1, 2, 3]
        with pytest.raises(TaskFailed, match="TaskRefused: in vain"):
            await (await submit("odd", "refuse", retries=9)).result(10)
        with pytest.raises(TaskFailed, match="cannot be sent"):
            await (await submit("odd", "large", retries=9)).result(10)
        with pytest.raises(TaskFailed, match="ValueError: not yet"):
            await (await submit("odd", retries=0)).result(10)

    play(test)


def test_a_function_that_exits_ends_its_task_and_not_the_worker() -> None:
    """`sys.exit`, in a coroutine: a failure with its status, and what runs beside it goes on."""

    async def test(site: Site) -> None:
        @site.worker.task("leave")
        async def leave(_: WorkerTask) -> None:
            raise SystemExit(3)

        site.worker.link.register_soon()
        await asyncio.sleep(0.1)
        beside = await site.agent.scheduler.submit("work", 2)
        with pytest.raises(TaskFailed, match="TaskExited: with status 3"):
            await (await site.agent.scheduler.submit("leave", retries=0)).result(10)
        assert await beside.result(10) == 2

    play(test)


def test_an_object_with_an_asynchronous_call_is_a_function_too() -> None:
    """It runs in the event loop, as a coroutine function does."""

    class Doubles:
        async def __call__(self, task: WorkerTask) -> int:
            await asyncio.sleep(1)
            return 2 * int(task.payload)

    async def test(site: Site) -> None:
        site.worker.task("double")(Doubles())
        site.worker.link.register_soon()
        await asyncio.sleep(0.1)
        assert await (await site.agent.scheduler.submit("double", 4)).result(10) == 8

    play(test)


def test_progress_is_seen_by_the_submitter() -> None:
    """Part and note."""

    async def test(site: Site) -> None:
        @site.worker.task("slow")
        async def slow(task: WorkerTask) -> None:
            assert task.deadline_in == 60
            await task.progress(0.25, "a quarter")
            await asyncio.sleep(5)

        site.worker.link.register_soon()
        await asyncio.sleep(0.1)
        handle = await site.agent.scheduler.submit("slow", deadline=60)
        await asyncio.sleep(1)
        told = await handle.status()
        assert (told.progress_permille, told.note, told.worker) == (250, "a quarter", "w1")
        await handle.result(10)

    play(test)


def test_a_cancelled_task_is_cancelled_in_its_worker() -> None:
    """The coroutine gets CancelledError, the slot is free afterwards."""

    async def test(site: Site) -> None:
        handle = await site.agent.scheduler.submit("work", 60)
        await asyncio.sleep(1)
        await handle.cancel()
        await asyncio.sleep(0.2)
        assert site.log == ["begins 60", "cancelled 60"]
        assert site.used() == 0

    play(test)


def test_long_tasks_keep_their_lease() -> None:
    """By heartbeats in the background."""

    async def test(site: Site) -> None:
        handle = await site.agent.scheduler.submit("work", 60, lease=2)
        assert await handle.result(100) == 60
        assert site.log == ["begins 60", "ends 60"]
        assert (await handle.status()).attempts == 1

    play(test)


def test_lost_notices_are_repaired() -> None:
    """Of assignments and of stops, by the next heartbeats."""

    async def test(site: Site) -> None:
        lost: list[str] = []

        def lose(body: dict[str, Any]) -> bool:
            if body["what"] in {"assign", "stop"} and body["what"] not in lost:
                lost.append(body["what"])
                return True
            return False

        site.there.lose = lose
        handle = await site.agent.scheduler.submit("work", 60)
        await asyncio.sleep(3)
        assert site.log == ["begins 60"]
        await handle.cancel()
        await asyncio.sleep(2)
        assert site.log == ["begins 60", "cancelled 60"]
        assert (lost, site.used()) == (["assign", "stop"], 0)

    play(test)


def test_a_worker_that_was_forgotten_registers_again() -> None:
    """And stops what does not count any more; the task is in doubt, which only a person can settle."""

    async def test(site: Site) -> None:
        await site.agent.scheduler.submit("work", 60)
        await asyncio.sleep(1)
        site.there.forget_everything()
        await asyncio.sleep(3)
        assert site.log == ["begins 60", "cancelled 60"]
        assert set(site.there.state.workers) == {"w1"}
        assert site.used() == 0
        assert await (await site.agent.scheduler.submit("work", 1)).result(10) == 1

    play(test)


def test_an_attempt_whose_lease_must_be_lost_is_stopped_without_a_word() -> None:
    """While the worker is cut off nobody can tell it."""

    async def test(site: Site) -> None:
        handle = await site.agent.scheduler.submit("work", 60, lease=4)
        await asyncio.sleep(1)
        site.bus.disconnect()
        await asyncio.sleep(3)
        assert site.log == ["begins 60"]
        await asyncio.sleep(3)
        assert site.log == ["begins 60", "cancelled 60"]
        await asyncio.sleep(20)
        site.bus.reconnect()
        await asyncio.sleep(5)
        assert site.log[2:] == ["begins 60"], "the worker has it again, as another attempt"
        await handle.cancel()

    play(test)


def test_an_end_is_told_until_it_is_heard() -> None:
    """The scheduler is away while the task ends: nothing is done twice."""

    async def test(site: Site) -> None:
        handle = await site.agent.scheduler.submit("work", 2)
        await asyncio.sleep(1)
        site.there.away = True
        await asyncio.sleep(8)
        site.there.away = False
        assert await handle.result(20) == 2
        assert site.log == ["begins 2", "ends 2"]

    play(test)


def test_a_second_process_takes_over() -> None:
    """Its session is the worker's now; the first one stops what it ran."""

    async def test(site: Site) -> None:
        await site.agent.scheduler.submit("work", 60)
        await asyncio.sleep(1)
        await site.worker.link.tell("register", Register(id="x", session="other", classes=("none",)).model_dump(
            exclude={"id", "acked", "seen", "v"}, exclude_none=True), 1_000)  # fmt: skip
        await asyncio.sleep(1.5)
        assert site.log == ["begins 60", "cancelled 60"]
        assert site.there.state.workers["w1"].session == "other"

    play(test)


def test_draining_finishes_what_is_short_and_hands_back_what_is_long() -> None:
    """Nothing new is taken, and nothing counts as lost."""

    async def main() -> None:
        async with site(slots=3, grace=5.0) as made:
            submit = made.agent.scheduler.submit
            quick, long = await submit("work", 3), await submit("work", 60)
            await asyncio.sleep(1)
            made.worker.stop()
            await asyncio.sleep(0.5)
            late = await submit("work", 1)
            assert await quick.result(10) == 3
            await asyncio.sleep(10)
            assert made.log == ["begins 3", "begins 60", "ends 3", "cancelled 60"]
            assert [(await h.status()).state for h in (long, late)] == ["ready", "ready"]
            assert made.there.state.workers == {}
            assert made.there.state.counts["lost"] == 0

    run(main())


def test_a_worker_ends_though_nobody_answers() -> None:
    """Its patience at the end is short, and registration goes on until it is told to stop."""

    async def main() -> None:
        network, clock = MemoryNetwork(), LoopClock()
        async with Fleet(None, bus=network.connect("w1"), clock=clock) as fleet:
            worker = Worker(fleet)
            worker.task("work")(lambda task: None)
            running = asyncio.ensure_future(worker.run(signals=False))
            await asyncio.sleep(60)
            assert not running.done()
            worker.stop()
            async with asyncio.timeout(30):
                await running

    run(main())


def test_a_worker_needs_functions_and_slots() -> None:
    """Said before anything is sent."""

    async def main() -> None:
        async with Fleet(None, bus=MemoryNetwork().connect("w1"), clock=LoopClock()) as fleet:
            with pytest.raises(CallerError, match="1 to 256"):
                Worker(fleet, slots=0)
            with pytest.raises(CallerError, match="at least one function"):
                await Worker(fleet).run()
            with pytest.raises(CallerError, match="does not run"):
                await Worker(fleet).link.tell("drain", {}, 1.0)

    run(main())


async def test_a_function_in_a_thread_is_waited_for() -> None:
    """It cannot be cancelled: its slot stays taken until it has ended, and it can look whether it is void. When it
    calls `sys.exit`, that is a failure."""
    network = MemoryNetwork()
    loop = asyncio.get_running_loop()
    there = FakeScheduler(network, lambda: loop.time() * 1000.0)
    await there.start()
    began, go = threading.Event(), threading.Event()
    saw: list[bool] = []
    async with Fleet(None, bus=network.connect("w1")) as fleet:
        worker = Worker(fleet)

        @worker.task("block")
        def block(task: WorkerTask) -> str:
            began.set()
            go.wait(10)
            saw.append(task.is_void)
            return "over"

        running = asyncio.ensure_future(worker.run())
        handle = await fleet.scheduler.submit("block")
        assert await asyncio.to_thread(began.wait, 10)
        await handle.cancel()
        await fleet.scheduler.status()
        assert len(there.state.workers["w1"].attempts) == 1
        go.set()
        async with asyncio.timeout(10):
            while there.state.workers["w1"].attempts:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert saw == [True]

        @worker.task("leave")
        def leave(_: WorkerTask) -> None:
            raise SystemExit("enough")

        worker.link.register_soon()
        with pytest.raises(TaskFailed, match="TaskExited: with status 'enough'"):
            await (await fleet.scheduler.submit("leave", retries=0)).result(10)
        worker.stop()
        await asyncio.wait_for(running, 10)
    await there.stop()
