"""How a function is run: in the event loop, in a thread, in a process, or for many tasks at once.

Each way is an object that is called with a task and returns what the function returned. Cancelling that call stops the
function, and it ends when nothing of the function runs any more:

- a coroutine gets `asyncio.CancelledError`;
- a thread cannot be stopped: it is told by ``task.should_stop`` and waited for; one that has not begun does not begin;
- a process is told likewise, and killed after a moment (`bursar.client.worker_process`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, Protocol

from bursar.client.worker_task import TaskExited
from bursar.client.worker_threads import Lane
from bursar.errors import CallerError
from bursar.telemetry import traces

Function = Callable[[Any], Any]
Way = Literal["auto", "coroutine", "thread", "process"]
WAYS: Final = ("auto", "coroutine", "thread", "process")


class Stoppable(Protocol):
    """What a function is given: a task, or several (`bursar.client.worker_batch`)."""

    def stop(self, *, is_void: bool) -> None:
        """Ask the function to stop."""
        ...


class Run(Protocol):
    """One way to run one function."""

    async def __call__(self, task: Any, /) -> Any:
        """What the function returned; raises what it raised."""
        ...

    async def close(self) -> None:
        """The worker ends; nothing runs any more."""
        ...


class Coroutine:
    """In the event loop."""

    def __init__(self, function: Function) -> None:
        self._function = function

    async def __call__(self, task: Stoppable) -> Any:
        with exits_are_failures():
            return await self._function(task)

    async def close(self) -> None:
        """Nothing to do."""


class Thread:
    """In a thread of the worker's lane."""

    def __init__(self, function: Function, lane: Callable[[], Lane]) -> None:
        self._function = function
        self._lane = lane

    async def __call__(self, task: Stoppable) -> Any:
        if traces.tracing is None:
            job = self._lane().submit(self._work, task)
        else:
            job = self._lane().submit(contextvars.copy_context().run, self._work, task)
        done = asyncio.wrap_future(job)
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError:
                task.stop(is_void=False)
                if job.cancel():
                    raise
        return done.result()

    async def close(self) -> None:
        """Its lane is the worker's."""

    def _work(self, task: Stoppable) -> Any:
        with exits_are_failures():
            return self._function(task)


@contextlib.contextmanager
def exits_are_failures() -> Iterator[None]:
    """`sys.exit` ends a task and not the worker with all that it runs."""
    try:
        yield
    except SystemExit as error:
        raise TaskExited(f"with status {error.code!r}") from error


def is_coroutine(function: Function) -> bool:
    """Whether calling it gives something to await: a coroutine function, or an object with an asynchronous call."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def run_of(function: Function, way: Way, lane: Callable[[], Lane], kill_after: float) -> Run:
    """The way that was asked for. Raises `CallerError` when the function cannot be run so."""
    if way not in WAYS:
        raise CallerError("bad_request", f"a function runs in one of {', '.join(WAYS)}", run=str(way)[:40])
    if way == "process":
        from bursar.client.worker_process import Process  # noqa: PLC0415 - few workers need processes

        return Process(function, kill_after=kill_after)
    if way == "coroutine" and not is_coroutine(function):
        raise CallerError("bad_request", "this is no coroutine function: let it run in a thread")
    if way == "thread" and is_coroutine(function):
        raise CallerError("bad_request", "a coroutine function runs in the event loop, or in a process")
    return Coroutine(function) if is_coroutine(function) else Thread(function, lane)
