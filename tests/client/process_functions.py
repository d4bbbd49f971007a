"""Functions that the tests let run in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

from bursar.client.worker_task import TaskRefused, TaskYielded, WorkerTask
from bursar.telemetry import traces

tick = threading.Event()


def work(task: WorkerTask) -> Any:
    """Does what its payload says."""
    what = task.payload["do"]
    if what == "pid":
        return {"pid": os.getpid(), "attempt": task.attempt, "fence": task.fence, "deadline": task.deadline_in}
    if what == "print":
        print("this is not a frame", flush=True)  # noqa: T201 - what a function prints must do no harm
        return "printed"
    if what == "raise":
        raise ValueError("not today")
    if what == "refuse":
        raise TaskRefused("in vain")
    if what == "leave":
        raise SystemExit(7)
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(9)
    if what == "large":
        return object()
    return "unknown"


def until_asked(task: WorkerTask) -> str:
    """Tells that it has begun, and goes on until it is to stop."""
    task.report(0.5, str(os.getpid()))
    while not task.should_stop:
        tick.wait(0.01)
    return "stopped by itself"


def in_chunks(task: WorkerTask) -> list[Any]:
    """Keeps how far it is, and gives back when it is asked to; goes on from there."""
    if task.saved is not None:
        return [task.saved, task.inputs]
    task.keep({"step": 1})
    task.report(0.5, str(os.getpid()))
    while not task.should_stop:
        tick.wait(0.01)
    raise TaskYielded({"step": 2})


def deaf(task: WorkerTask) -> None:
    """Does not stop."""
    task.report(0.5, str(os.getpid()))
    while True:
        tick.wait(1.0)


async def awaits(task: WorkerTask) -> str:
    """A coroutine function, in a process."""
    await task.progress(0.25, "begun")
    await asyncio.sleep(0)
    return f"{task.task_class} {task.payload}"


def traced(task: WorkerTask) -> bool:
    """Makes a span of its own; whether this process traces."""
    if traces.tracing is None:
        return False
    with traces.tracing.within("inside", "internal", {"pid": os.getpid()}):
        return True
