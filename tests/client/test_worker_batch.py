"""Tasks that are done together: when the function gets them, how each ends, who may leave; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bursar.batching import DEFAULTS, BatchRule
from bursar.client.worker_batch import BadBatch, Batch
from bursar.client.worker_run import Coroutine
from bursar.client.worker_task import WorkerTask
from tests.client.virtual import LoopClock, run


def task(payload: Any, deadline_in_ms: int | None = None) -> WorkerTask:
    notice = {"task": f"ann.{payload}", "token": "1.1.1", "task_class": "work", "attempt": 1, "payload": payload}
    return WorkerTask({**notice, "deadline_in_ms": deadline_in_ms})


class Kitchen:
    """A batch whose function takes ``seconds``, and notes when it got what."""

    def __init__(self, rule: BatchRule, seconds: float = 1.0, room: int = 256, target: float | None = None) -> None:
        self.clock = LoopClock(0.0)
        self.seconds = seconds
        self.log: list[tuple[float, list[Any]]] = []
        self.answer: Callable[[list[WorkerTask]], Any] = lambda tasks: [each.payload for each in tasks]
        self.cancelled = 0
        self.batch = Batch(Coroutine(self.cook), rule, target, self.clock.now, lambda: room)

    async def cook(self, tasks: list[WorkerTask]) -> Any:
        self.log.append((round(self.clock.now(), 3), [each.payload for each in tasks]))
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answer(tasks)

    def give(self, payload: Any, deadline_in_ms: int | None = None) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.batch(task(payload, deadline_in_ms)))


def play(test: Callable[[Kitchen], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        kitchen = Kitchen(options.pop("rule", DEFAULTS["model"]), **options)
        await test(kitchen)
        await kitchen.batch.close()

    run(main())


def test_a_full_batch_begins_at_once_and_a_small_one_after_its_time() -> None:
    """Ten of a model's tasks, or 100 ms; each gets its own result."""

    async def test(kitchen: Kitchen) -> None:
        given = [kitchen.give(n) for n in range(12)]
        assert await asyncio.gather(*given) == list(range(12))
        assert kitchen.log == [(0.0, list(range(10))), (100.0, [10, 11])]

    play(test)


def test_it_waits_for_no_more_than_the_worker_has_slots() -> None:
    """Nobody else can come."""

    async def test(kitchen: Kitchen) -> None:
        await asyncio.gather(*(kitchen.give(n) for n in range(3)))
        assert kitchen.log == [(0.0, [0, 1, 2])]

    play(test, room=3)


def test_a_deadline_is_not_waited_into() -> None:
    """By what a batch has been seen to take."""

    async def test(kitchen: Kitchen) -> None:
        await kitchen.give("first")
        begins = kitchen.clock.now()
        await kitchen.give("urgent", deadline_in_ms=1_040)
        assert kitchen.log[1] == (begins + 40.0, ["urgent"])

    play(test)


def test_one_failure_is_its_tasks_own_and_an_error_is_everybodys() -> None:
    """An exception in the list; one that is raised; a list that does not fit."""

    async def test(kitchen: Kitchen) -> None:
        async def ends() -> list[Any]:
            return await asyncio.gather(*(kitchen.give(n) for n in range(3)), return_exceptions=True)

        odd = ValueError("odd")
        kitchen.answer = lambda tasks: ["a", odd, "c"]
        assert await ends() == ["a", odd, "c"]

        def fail(tasks: list[WorkerTask]) -> Any:
            raise OSError("no more")

        kitchen.answer = fail
        assert [type(end) for end in await ends()] == [OSError] * 3
        for wrong in (["a"], "abc", None):
            kitchen.answer = lambda tasks, wrong=wrong: wrong  # type: ignore[misc]
            assert [type(end) for end in await ends()] == [BadBatch] * 3

    play(test)


def test_who_is_cancelled_while_it_waits_leaves() -> None:
    """The others do not notice, and a batch of nobody does not begin."""

    async def test(kitchen: Kitchen) -> None:
        leaves, stays = kitchen.give("leaves"), kitchen.give("stays")
        await asyncio.sleep(0.05)
        leaves.cancel()
        assert await stays == "stays"
        alone = kitchen.give("alone")
        await asyncio.sleep(0.05)
        alone.cancel()
        await asyncio.sleep(1)
        assert kitchen.log == [(100.0, ["stays"])]

    play(test)


def test_who_is_cancelled_in_a_batch_is_waited_for_and_the_last_one_ends_it() -> None:
    """Its slot stays taken as long as the function has it."""

    async def test(kitchen: Kitchen) -> None:
        one, other = kitchen.give("one"), kitchen.give("other")
        await asyncio.sleep(0.2)
        one.cancel()
        await asyncio.sleep(0.1)
        assert not one.done()
        assert await other == "other"
        assert one.done()
        assert kitchen.cancelled == 0
        pair = [kitchen.give(n) for n in range(2)]
        await asyncio.sleep(0.2)
        for each in pair:
            each.cancel()
        await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await pair[0]
        assert kitchen.cancelled == 1

    play(test)


def test_size_and_time_out_follow_the_target() -> None:
    """The 95th percentile is too high at first: batches become smaller and begin earlier."""

    async def test(kitchen: Kitchen) -> None:
        for _ in range(40):
            await asyncio.gather(*(kitchen.give(n) for n in range(8)))
        assert kitchen.batch.tuner is not None
        assert kitchen.batch.tuner.p95_ms == pytest.approx(60.0, rel=0.2)
        assert kitchen.batch.rule.wait_ms < 60.0

    play(test, seconds=0.02, target=60.0)
