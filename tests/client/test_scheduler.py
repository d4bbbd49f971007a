"""The client of the scheduler: submitting, awaiting, losing notices, posting; on virtual time."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import bursar
from bursar.bus.memory import MemoryNetwork
from bursar.client.fleet import Fleet
from bursar.client.scheduler_errors import (
    QueueFull,
    SchedulerUnavailable,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskForgotten,
    TaskInDoubt,
)
from bursar.client.scheduler_values import pack_value, unpack_value
from bursar.contracts.scheduler import Finish, Register, Start
from bursar.errors import CallerError
from bursar.kernel.decider import Accept, Command
from tests.client.fake_scheduler import FakeScheduler
from tests.client.virtual import LoopClock, run

Test = Callable[[Fleet, FakeScheduler], Awaitable[None]]


@asynccontextmanager
async def fleet_and_scheduler() -> AsyncIterator[tuple[Fleet, FakeScheduler]]:
    network, clock = MemoryNetwork(), LoopClock()
    there = FakeScheduler(network, clock.now)
    await there.start()
    async with Fleet(None, bus=network.connect("ann"), clock=clock) as fleet:
        yield fleet, there
    await there.stop()


def play(test: Test) -> None:
    async def main() -> None:
        async with fleet_and_scheduler() as (fleet, there):
            await test(fleet, there)

    run(main())


def do(there: FakeScheduler, body: Any) -> Any:
    """What a worker says, without a worker."""
    outcome = there._decide(Command("w1", getattr(body, "id", ""), body))
    assert isinstance(outcome, Accept), outcome
    return outcome


def finish(there: FakeScheduler, task: str, result: Any) -> None:
    """Some worker does it."""
    if "w1" not in there.state.workers:
        do(there, Register(id="r-1", session="s", slots=99, classes=("work",)))
        there._settle()
    token = there.state.tasks[task].token
    do(there, Start(id="s-1", task=task, token=token))
    do(there, Finish(id="f-1", task=task, token=token, result=pack_value(result)))


def test_the_result_comes_by_notice() -> None:
    """Without a single question."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        handle = await fleet.scheduler.submit("work", {"n": 1}, priority="reactive", deadline=60, needs={"kind": "cpu"})
        assert handle.id.startswith("ann.")
        waiting = asyncio.ensure_future(handle.result(10))
        await asyncio.sleep(0.1)
        finish(there, handle.id, [1, (2, 3)])
        assert await waiting == [1, [2, 3]]
        assert handle.is_over
        assert there.verbs() == ["submit"]

    play(test)


def test_a_lost_notice_costs_two_seconds_at_most() -> None:
    """The safety net: which of the awaited tasks have ended?"""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        there.lose = lambda body: body["what"] == "ended"
        handles = [await fleet.scheduler.submit("work") for _ in range(3)]
        waiting = [asyncio.ensure_future(handle.result(60)) for handle in handles]
        await asyncio.sleep(5)
        for handle in handles:
            finish(there, handle.id, handle.id)
        async with asyncio.timeout(2.1):
            assert await asyncio.gather(*waiting) == [handle.id for handle in handles]
        assert there.verbs().count("find") == 3

    play(test)


def test_questions_end_with_the_last_wait() -> None:
    """Nobody is asked for what nobody awaits."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        handle = await fleet.scheduler.submit("work")
        with pytest.raises(TimeoutError):
            await handle.result(3)
        assert not handle.is_awaited
        await asyncio.sleep(3)
        asked = len(there.heard)
        await asyncio.sleep(60)
        assert len(there.heard) <= asked + 1

    play(test)


def test_an_end_that_overtakes_the_answer_is_kept() -> None:
    """The notice is heard before the handle is made."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        await fleet.scheduler.open()
        fleet.scheduler._on_ended(
            {"task": "ann.k", "state": "done", "result": pack_value(7), "reason": "", "error": ""}
        )
        handle = await fleet.scheduler.submit("work", key="k")
        assert await handle.result(0.01) == 7

    play(test)


def test_each_end_is_its_own_exception() -> None:
    """With what is known in its facts; they can be copied."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        cancelled = await fleet.scheduler.submit("work")
        assert await cancelled.cancel() is True
        assert await cancelled.cancel() is False
        with pytest.raises(TaskCancelled) as caught:
            await cancelled.result(5)
        again = copy.copy(caught.value)
        assert (type(again), again.task, again.state, again.code) == (
            TaskCancelled,
            cancelled.id,
            "cancelled",
            "task_cancelled",
        )
        expired = await fleet.scheduler.submit("work", deadline=0.5)
        with pytest.raises(TaskExpired):
            await expired.result(5)

    play(test)


def test_a_result_that_is_not_kept_any_more_is_said_so() -> None:
    """The end is known, its result is forgotten."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        there.lose = lambda body: body["what"] == "ended"
        handle = await fleet.scheduler.submit("work")
        finish(there, handle.id, 1)
        there.state.remember(handle.id, there.state.ended.pop(handle.id).digest, "done", 0)
        with pytest.raises(TaskForgotten):
            await handle.result(5)

    play(test)


def test_after_a_loss_of_data_an_unknown_task_is_in_doubt() -> None:
    """It may have run."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        handle = await fleet.scheduler.submit("work")
        there.forget_everything()
        with pytest.raises(TaskInDoubt) as caught:
            await handle.result(5)
        assert isinstance(caught.value, TaskFailed)
        assert "may run twice" in caught.value.advice

    play(test)


def test_a_refusal_in_doubt_is_raised_as_such() -> None:
    """The request is from before the loss."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        there.incarnation, there.state.lost_at = 2, 0
        with pytest.raises(TaskInDoubt):
            await fleet.scheduler.submit("work")
        await fleet.scheduler.submit("work")  # asked anew, with the new fence

    play(test)


def test_a_full_queue_is_waited_for() -> None:
    """As long as the caller says; without that it is an error."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        there.state.config = there.state.config._replace(max_tasks=1)
        first = await fleet.scheduler.submit("work")
        with pytest.raises(QueueFull) as full:
            await fleet.scheduler.submit("work")
        assert (full.value.retry_in, full.value.facts["scope"]) == (1.0, "all")
        assert copy.copy(full.value).retry_in == 1.0
        waiting = asyncio.ensure_future(fleet.scheduler.submit("work", wait=30))
        await asyncio.sleep(5)
        assert not waiting.done()
        await first.cancel()
        await waiting

    play(test)


def test_silence_is_an_error_that_names_the_task() -> None:
    """It may have been accepted: with its name it can be asked for later."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        there.away = True
        with pytest.raises(SchedulerUnavailable) as caught:
            await fleet.scheduler.submit("work", key="k")
        assert caught.value.facts["task"] == "ann.k"
        there.away = False
        assert (await fleet.scheduler.submit("work", key="k")).id == "ann.k"

    play(test)


def test_a_posted_task_may_be_awaited_before_it_is_known() -> None:
    """It is accepted when the scheduler comes to it."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        there.away = True
        task = await fleet.scheduler.post("work", {"n": 1})
        waiting = asyncio.ensure_future(fleet.scheduler.handle(task).result(60))
        await asyncio.sleep(3)
        there.away = False
        await asyncio.sleep(3)
        finish(there, task, "done")
        assert await waiting == "done"
        assert await fleet.scheduler.post("work", name="mine") == "ann.mine"

    play(test)


def test_looking_at_tasks() -> None:
    """One, a page, the whole."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        handle = await fleet.scheduler.submit("work", priority="proactive")
        assert (await handle.status()).priority == "proactive"
        page = await fleet.scheduler.tasks()
        assert [row.task for row in page.tasks] == [handle.id]
        assert (await fleet.scheduler.tasks(dead=True)).tasks == []
        assert (await fleet.scheduler.status()).waiting == 1
        with pytest.raises(CallerError, match="not_yours"):
            await fleet.scheduler.find("bob.x")

    play(test)


def test_what_the_scheduler_would_not_take_is_not_posted() -> None:
    """Nobody could be told of it afterwards. A time that is no number is refused here as well."""

    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        wrong: list[dict[str, Any]] = [
            {"retries": -1}, {"priority": "urgent"}, {"needs": {"kind": "tpu"}}, {"lease": 0.1}, {"name": "with space"},
            {"deadline": float("nan")}, {"timeout": float("inf")}, {"backoff": "soon"},
        ]  # fmt: skip
        for options in wrong:
            with pytest.raises(CallerError, match="bad_request"):
                await fleet.scheduler.post("work", **options)
        with pytest.raises(CallerError, match="bad_request: deadline"):
            await fleet.scheduler.submit("work", deadline=float("nan"))
        assert await fleet.scheduler.post("work", b"x" * 32_000)
        await asyncio.sleep(3)
        assert len(there.state.tasks) == 1

    play(test)


def test_values_of_any_shape_come_back() -> None:
    """What msgpack holds, up to 32 KB; what is not msgpack is left as it is."""
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    for value in (None, b"", "text", 1.5, {1: {"a": [None]}}, deep, b"\xc1"):
        assert unpack_value(pack_value(value)) == value
    assert unpack_value("text") == "text"
    assert unpack_value({"a": 1}) == {"a": 1}
    assert unpack_value(b"\xc1") == b"\xc1"
    with pytest.raises(CallerError, match="too_large"):
        pack_value(b"x" * 32_768)
    with pytest.raises(CallerError, match="bad_request"):
        pack_value(object())


def test_the_names_are_exported() -> None:
    """From the package itself, loaded when they are used."""
    assert issubclass(bursar.TaskInDoubt, bursar.TaskFailed)
    assert issubclass(bursar.TaskError, bursar.ServiceError)
    assert TaskError("t", "failed", "why", "boom").advice
    assert bursar.Worker.__name__ == "Worker"
