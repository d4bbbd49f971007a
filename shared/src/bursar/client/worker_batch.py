"""Tasks that are done together: collected by size and time-out, given to one function, ended one by one.

The function gets a list of tasks and returns as many results, in order; a result that is an exception is the failure
of its task. What it raises is the failure of all. A task that is cancelled while it waits leaves; once the function has
it, its slot stays taken until the function ends, which is cancelled when all of its tasks are.

Each task of a batch takes a slot of the worker, so that a worker needs as many slots as its batches are to be large; a
batch does not wait for more than there are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from bursar.batching import DEFAULTS, BatchRule, Collector, Tuner
from bursar.client.worker_run import Run
from bursar.client.worker_task import WorkerTask
from bursar.errors import CallerError

WEIGHT: Final = 0.2
"""Of the newest batch in the time that one is expected to take."""


class BadBatch(Exception):
    """The function returned something else than a result for each task."""


class Together(list[WorkerTask]):
    """The tasks of one batch, as the function gets them."""

    def stop(self, *, is_void: bool) -> None:
        """For the worker: ask the function to stop."""
        for task in self:
            task.stop(is_void=is_void)


class _Member:
    """One task in a batch. ``ended``: its result, or the exception that it failed with. ``batch``: the one that has
    it, when that has begun."""

    __slots__ = ("batch", "came", "ended", "is_wanted", "task")

    def __init__(self, task: WorkerTask, came: float) -> None:
        self.task = task
        self.came = came
        self.is_wanted = True
        self.batch: _Running | None = None
        self.ended: asyncio.Future[tuple[bool, Any]] = asyncio.get_running_loop().create_future()

    def end(self, result: Any) -> None:
        if isinstance(result, asyncio.CancelledError):
            self.ended.cancel()
        else:
            self.ended.set_result((isinstance(result, Exception), result))


class _Running:
    """A batch that has begun."""

    def __init__(self, run: Run, members: list[_Member]) -> None:
        self.members = members
        self._work = asyncio.ensure_future(run(Together(member.task for member in members)))
        for member in members:
            member.batch = self

    def stop_if_unwanted(self) -> None:
        if not any(member.is_wanted for member in self.members):
            self._work.cancel()

    async def results(self) -> list[Any]:
        """One for each member, when nothing of the function runs any more."""
        await asyncio.wait([self._work])
        count = len(self.members)
        if self._work.cancelled():
            return [asyncio.CancelledError()] * count
        failed = self._work.exception()
        if failed is not None:
            return [failed] * count
        results = self._work.result()
        if not isinstance(results, Sequence) or isinstance(results, str | bytes) or len(results) != count:
            return [
                BadBatch(f"a function of batches returns a list with a result for each of its {count} tasks")
            ] * count
        return list(results)


class Batch:
    """A way to run a function (`bursar.client.worker_run`) for many tasks at once. ``room``: how many tasks the worker
    may have now. ``target``: ms that the 95th percentile of the latency is steered to; None: the rule stays."""

    def __init__(
        self, run: Run, rule: BatchRule, target: float | None, now: Callable[[], float], room: Callable[[], int]
    ) -> None:
        self.tuner = None if target is None else Tuner(rule, target)
        self._run = run
        self._waiting: Collector[_Member] = Collector(rule)
        self._now = now
        self._room = room
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def rule(self) -> BatchRule:
        """Size and time-out as they are now."""
        return self._waiting.rule

    async def __call__(self, task: WorkerTask) -> Any:
        now = self._now()
        member = _Member(task, now)
        deadline = math.inf if task.deadline_in is None else now + task.deadline_in * 1000.0
        self._waiting.add(member, now, deadline)
        self._begin_what_is_due()
        while not member.ended.done():
            try:
                await asyncio.wait([member.ended])
            except asyncio.CancelledError:
                if self._waiting.drop(member):
                    self._set_timer()
                    raise
                self._give_up(member)
        failed, result = member.ended.result()
        if failed:
            raise result
        return result

    def _give_up(self, member: _Member) -> None:
        member.is_wanted = False
        member.task.stop(is_void=False)
        if member.batch is not None:
            member.batch.stop_if_unwanted()

    async def close(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._run.close()

    def _begin_what_is_due(self) -> None:
        while len(self._waiting) and self._waiting.is_due(self._now(), self._room()):
            work = asyncio.get_running_loop().create_task(self._do(self._waiting.take()))
            self._running.add(work)
            work.add_done_callback(self._running.discard)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self._waiting):
            wait = max(0.0, self._waiting.due_at - self._now()) / 1000.0
            self._timer = asyncio.get_running_loop().call_later(wait, self._begin_what_is_due)

    async def _do(self, members: list[_Member]) -> None:
        began = self._now()
        results = await _Running(self._run, members).results()
        self._learn(members, began, self._now())
        for member, result in zip(members, results, strict=True):
            member.end(result)

    def _learn(self, members: list[_Member], began: float, now: float) -> None:
        waiting = self._waiting
        waiting.run_ms += WEIGHT * (now - began - waiting.run_ms) if waiting.run_ms else now - began
        for member in members:
            if self.tuner is not None and self.tuner.ended(member.came, now):
                waiting.rule = self.tuner.rule


def rule_of(like: str, size: int | None, wait: float | None, target: float | None) -> tuple[BatchRule, float | None]:
    """The rule and the target in ms, from what a worker was told in seconds. Raises `CallerError`."""
    if like not in DEFAULTS:
        raise CallerError("bad_request", f"a batch is like one of {', '.join(DEFAULTS)}", like=like[:40])
    base = DEFAULTS[like]
    target_ms = None if target is None else target * 1000.0
    try:
        rule = BatchRule(base.size if size is None else size, base.wait_ms if wait is None else wait * 1000.0)
        if target_ms is not None:
            Tuner(rule, target_ms)
    except ValueError as error:
        raise CallerError("bad_request", str(error)) from None
    return rule, target_ms
