"""A function that runs in processes of its own: each does one task at a time and is kept for the next one.

What it does to its process it does to that attempt only: a crash, a kill by the system for want of memory, `os._exit`
is a failure of the attempt, told with the signal or the status, and the next task gets a fresh process. A process can
always be stopped: it is asked first (``task.should_stop``) and killed after ``kill_after`` seconds.

The function is imported there by its name, so it has to stand at the top of a module (`bursar.client.worker_child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from bursar.client.scheduler_values import unpack_value
from bursar.client.worker_child import LENGTH, frame
from bursar.client.worker_task import FailedInProcess, TaskRefused, TaskYielded, WorkerTask
from bursar.errors import CallerError
from bursar.telemetry import traces

KILL_AFTER: Final = 1.0
"""Seconds that a function in a process has to stop when it is asked to."""

SENT: Final = ("task", "token", "task_class", "attempt", "payload", "deadline_in_ms", "checkpoint", "inputs")
"""What of an assignment the process is told."""


class ProcessDied(Exception):
    """The process that ran the task has ended by itself, or could not begin."""


class Process:
    """One function in as many processes as it has tasks at a time."""

    def __init__(self, function: Callable[[WorkerTask], Any], *, kill_after: float = KILL_AFTER) -> None:
        self._begin = _begin(function)
        self._kill_after = kill_after
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()

    async def __call__(self, task: WorkerTask) -> Any:
        child = self._idle.pop() if self._idle else await _spawn(self._begin)
        self._busy.add(child)
        try:
            return await child.do(task, self._kill_after)
        finally:
            self._busy.discard(child)
            if child.is_ready:
                self._idle.append(child)
            else:
                await child.kill()

    async def close(self) -> None:
        """End the processes that wait for a task."""
        idle, self._idle = self._idle, []
        for child in idle:
            await child.kill()


class _Child:
    """``is_ready``: it waits for a task."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.is_ready = False

    async def begin(self, message: dict[str, Any]) -> None:
        await self._write(message)
        if await self._read() is None:
            raise ProcessDied(f"before it began: {await self._how()}")
        self.is_ready = True

    async def do(self, task: WorkerTask, kill_after: float) -> Any:
        """One task. Cancelled: ask the function to stop; what it has given by then counts, unless it is void."""
        self.is_ready = False
        trace = {} if traces.tracing is None else {"trace": traces.tracing.written()}
        await self._write({name: task.notice.get(name) for name in SENT} | trace)
        task.when_stopped(lambda: self._send({"stop": task.fence, "is_void": task.is_void}))
        ending = asyncio.ensure_future(self._end(task))
        try:
            end = await asyncio.shield(ending)
        except asyncio.CancelledError:
            await self._stop(task, ending, kill_after)
            end = ending.result()
            if end is None or task.is_void:
                raise
        finally:
            task.when_stopped(None)
        if end is None:
            raise ProcessDied(await self._how())
        return _result(end)

    async def _stop(self, task: WorkerTask, ending: asyncio.Future[Any], kill_after: float) -> None:
        task.stop(is_void=False)
        with contextlib.suppress(asyncio.CancelledError):  # asked twice is killed at once
            await asyncio.wait([ending], timeout=kill_after)
        if not ending.done():
            await self.kill()
            await asyncio.wait([ending])

    async def _end(self, task: WorkerTask) -> dict[str, Any] | None:
        """The end that it tells, None when it is gone; on the way, what it tells of its progress."""
        while (message := await self._read()) is not None:
            if "end" in message:
                self.is_ready = True
                return message
            task.say_soon(message)
        return None

    async def _read(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        try:
            head = await self._process.stdout.readexactly(LENGTH.size)
            body = await self._process.stdout.readexactly(LENGTH.unpack(head)[0])
        except asyncio.IncompleteReadError:
            return None
        return dict(msgpack.unpackb(body, strict_map_key=False))

    async def _write(self, message: dict[str, Any]) -> None:
        self._send(message)
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the reader finds out
            await self._process.stdin.drain()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(frame(message))

    async def _how(self) -> str:
        """How it ended, in words."""
        status = await self._process.wait()
        if status >= 0:
            return f"its process ended with status {status}"
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process was ended by signal {-status}"

    async def kill(self) -> None:
        self.is_ready = False
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def _spawn(begin: dict[str, Any]) -> _Child:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bursar.client.worker_child", stdin=pipe, stdout=pipe
    )
    child = _Child(process)
    try:
        await child.begin(begin)
    except BaseException:
        await child.kill()
        raise
    return child


def _result(end: dict[str, Any]) -> Any:
    if end["end"] == "finish":
        return unpack_value(end["result"])
    if end["end"] == "yield":
        raise TaskYielded(unpack_value(end["checkpoint"]))
    raise (TaskRefused if end["end"] == "refuse" else FailedInProcess)(end["error"])


def _begin(function: Callable[[WorkerTask], Any]) -> dict[str, Any]:
    """How another process finds the function."""
    module = getattr(function, "__module__", "") or ""
    name = getattr(function, "__qualname__", "")
    if not module or not name or "<" in name:
        raise CallerError("bad_request", "a function that runs in a process stands at the top of a module")
    script = ""
    if module == "__main__":
        found = getattr(sys.modules["__main__"], "__file__", None)
        if found is None:
            raise CallerError("bad_request", "a function that runs in a process stands in a file")
        script = str(Path(found).resolve())
    return {"module": module, "name": name, "script": script, "path": [str(Path(part).resolve()) for part in sys.path]}
