"""Functions in processes of their own: ends, crashes, kills; with real processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bursar.client.scheduler_values import pack_value, unpack_value
from bursar.client.worker_process import Process, ProcessDied
from bursar.client.worker_run import run_of
from bursar.client.worker_task import FailedInProcess, TaskRefused, TaskYielded, WorkerTask, in_words
from bursar.client.worker_threads import shared_pool
from bursar.errors import CallerError
from tests.client import process_functions as functions


def task(payload: Any = None, **more: Any) -> WorkerTask:
    notice = {"task": "ann.t", "token": "1.1.7", "task_class": "work", "attempt": 3, "payload": payload, **more}
    said: list[tuple[float | None, str | None]] = []
    made = WorkerTask(notice, tell_soon=lambda told: said.append((told["part"], told["note"])))
    made.said = said  # type: ignore[attr-defined]
    return made


@asynccontextmanager
async def process(function: Callable[[WorkerTask], Any], kill_after: float = 10.0) -> AsyncIterator[Process]:
    made = Process(function, kill_after=kill_after)
    try:
        yield made
    finally:
        await made.close()


async def said(work: WorkerTask) -> int:
    """The process that has told of itself."""
    async with asyncio.timeout(30):
        while not work.said:  # type: ignore[attr-defined]  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.01)
    part, note = work.said[0]  # type: ignore[attr-defined]
    assert part == 0.5
    return int(note)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_one_process_does_one_task_after_the_other() -> None:
    """It is told the whole task; its result, its failures and its printing arrive as those of a function here."""
    async with process(functions.work) as run:
        first = await run(task({"do": "pid"}, deadline_in_ms=1_500))
        assert first == {"pid": first["pid"], "attempt": 3, "fence": "1.1.7", "deadline": 1.5}
        assert first["pid"] != os.getpid()
        assert await run(task({"do": "print"})) == "printed"
        with pytest.raises(FailedInProcess) as failed:
            await run(task({"do": "raise"}))
        assert in_words(failed.value) == "ValueError: not today"
        with pytest.raises(FailedInProcess, match="TaskExited: with status 7"):
            await run(task({"do": "leave"}))
        with pytest.raises(TaskRefused, match=r"^in vain$"):
            await run(task({"do": "refuse"}))
        with pytest.raises(TaskRefused, match="the result cannot be sent"):
            await run(task({"do": "large"}))
        assert (await run(task({"do": "pid"})))["pid"] == first["pid"]
    assert not is_there(first["pid"])


async def test_a_crash_is_a_failure_of_the_attempt_and_the_next_has_a_fresh_process() -> None:
    """Told with the signal, or with the status."""
    async with process(functions.work) as run:
        with pytest.raises(ProcessDied, match="ended by SIGKILL"):
            await run(task({"do": "killed"}))
        with pytest.raises(ProcessDied, match="ended with status 9"):
            await run(task({"do": "exit"}))
        assert (await run(task({"do": "pid"})))["attempt"] == 3


async def test_two_tasks_at_a_time_have_two_processes() -> None:
    """And a coroutine function may run in one."""
    async with process(functions.awaits) as run:
        works = [task(n) for n in (1, 2)]
        assert await asyncio.gather(*(run(work) for work in works)) == ["work 1", "work 2"]
        assert len(run._idle) == 2
        assert all(work.said == [(0.25, "begun")] for work in works)  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_void", [False, True])
async def test_a_function_that_looks_stops_by_itself(is_void: bool) -> None:
    """It is asked, what it gives counts unless the attempt is void, and its process is kept for the next task."""
    async with process(functions.until_asked) as run:
        work = task()
        running = asyncio.ensure_future(run(work))
        pid = await said(work)
        if is_void:
            work.stop(is_void=True)
        running.cancel()
        if is_void:
            with pytest.raises(asyncio.CancelledError):
                await running
        else:
            assert await running == "stopped by itself"
        assert is_there(pid)
        assert len(run._idle) == 1
    assert not is_there(pid)


async def test_a_function_in_chunks_gives_back_when_it_is_asked_to() -> None:
    """Not cancelled, asked; it tells what to go on from, and finds that and the inputs in its next attempt."""
    kept: list[Any] = []
    async with process(functions.in_chunks) as run:
        work = WorkerTask(task().notice, tell_soon=kept.append)
        running = asyncio.ensure_future(run(work))
        async with asyncio.timeout(30):
            while len(kept) < 2:  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(0.01)
        assert unpack_value(kept[0]["checkpoint"]) == {"step": 1}
        work.stop(is_void=False)
        with pytest.raises(TaskYielded) as given:
            await running
        assert given.value.checkpoint == {"step": 2}
        before = {"task": "ann.s", "state": "done", "kept": True, "result": pack_value([1, 2])}
        again = task(checkpoint=pack_value({"step": 2}), inputs=[before])
        assert await run(again) == [{"step": 2}, [[1, 2]]]


async def test_a_function_that_does_not_stop_is_killed() -> None:
    """After its moment; nothing of it runs any more when the cancelling is over."""
    async with process(functions.deaf, kill_after=0.05) as run:
        work = task()
        running = asyncio.ensure_future(run(work))
        pid = await said(work)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not is_there(pid)
        assert run._idle == []


async def test_a_process_ends_with_its_worker() -> None:
    """Its pipe is at its end, though it is busy."""
    async with process(functions.deaf) as run:
        work = task()
        running = asyncio.ensure_future(run(work))
        pid = await said(work)
        (child,) = run._busy
        assert child._process.stdin is not None
        child._process.stdin.close()
        with pytest.raises(ProcessDied, match="ended with status 1"):
            await running
        assert not is_there(pid)


SCRIPT = """
import asyncio, os, sys
from bursar.client.scheduler_values import pack_value, unpack_value
from bursar.client.worker_process import Process
from bursar.client.worker_task import WorkerTask

def where(task):
    return [__name__, os.getppid()]

async def main():
    run = Process(where)
    notice = {"task": "a.t", "token": "1.1.1", "task_class": "w", "attempt": 1, "payload": None}
    name, parent = await run(WorkerTask(notice))
    print(name, parent == os.getpid())
    await run.close()

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_function_of_a_script_is_found_by_its_file(tmp_path: Path) -> None:
    """Whose own name is ``__main__``; it does not run as one in the process."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=asyncio.subprocess.PIPE)
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert told == b"__bursar_child__ True\n"


async def test_a_function_that_cannot_be_loaded_says_so() -> None:
    """Its process ends before it begins."""

    def work(_: WorkerTask) -> None: ...

    work.__qualname__ = "gone"
    with pytest.raises(ProcessDied, match="before it began: its process ended with status 1"):
        await Process(work)(task())


def test_a_function_has_to_be_found_there() -> None:
    """At the top of a module; and no coroutine runs in a thread."""
    lane = shared_pool().lane
    with pytest.raises(CallerError, match="top of a module"):
        Process(lambda _: None)
    with pytest.raises(CallerError, match="no coroutine function"):
        run_of(functions.work, "coroutine", lane, 1.0)
    with pytest.raises(CallerError, match="runs in the event loop"):
        run_of(functions.awaits, "thread", lane, 1.0)
    with pytest.raises(CallerError, match="one of auto"):
        run_of(functions.work, "fibre", lane, 1.0)  # type: ignore[arg-type]
