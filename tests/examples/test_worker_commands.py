"""`bursar worker run` and `bursar worker openai` as processes, against a whole installation and the demo's provider."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bursar
from tests.demo.conftest import Provider, start_provider
from tests.examples.installation import Installation

__all__ = ["start_provider"]
pytestmark = pytest.mark.integration

MODULE = '''
"""Workers of a test."""
import os
import signal
import threading

import bursar

worker = bursar.Worker(slots=8, grace=1.0)


@worker.task("count")
async def count(task):
    return len(task.payload)


@worker.task("where", run="process")
def where(task):
    if task.attempt == 1 and task.payload == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    return [os.getpid(), os.getppid(), task.attempt]


@worker.task("thread")
def thread(task):
    return threading.current_thread().name


@worker.batch("batch", like="model", size=4, wait=5.0)
async def batch(tasks):
    return [len(tasks)] * len(tasks)


def make(fleet):
    return worker
'''


@contextlib.contextmanager
def worker(
    installation: Installation, principal: str, *arguments: str, cwd: Path, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """``bursar worker``, from when it is registered on; it must end well, on SIGTERM if not before."""
    command = [sys.executable, "-m", "bursar.cli.main", "worker", *arguments]
    with subprocess.Popen(
        command, env=installation.env(principal) | env, stdout=subprocess.PIPE, text=True, cwd=cwd
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline().startswith(f"{principal} takes ")
            yield program
            program.send_signal(signal.SIGTERM)
            assert program.wait(30) == 0
        finally:
            program.kill()


async def test_a_module_is_run_with_every_way_of_running_a_function(installation: Installation, tmp_path: Path) -> None:
    """In the event loop, in a thread, in a process that crashes once, together; and it ends before its host."""
    (tmp_path / "some_workers.py").write_text(MODULE)
    with worker(
        installation, "worker-run", "run", "some_workers:make", "--reclaim-file", "notice", cwd=tmp_path
    ) as process:
        async with bursar.connect(installation.url, creds=installation.creds("writer")) as fleet:
            submit = fleet.scheduler.submit
            assert await (await submit("count", "four")).result(30) == 4
            assert (await (await submit("thread")).result(30)).startswith("bursar-task")
            _, parent, attempt = await (await submit("where", "crash", backoff=0.05)).result(60)
            assert (parent, attempt) == (process.pid, 2)
            together = [await submit("batch", n) for n in range(4)]
            assert await asyncio.gather(*(handle.result(30) for handle in together)) == [4] * 4
            (tmp_path / "notice").write_text("60")
            assert await asyncio.to_thread(process.wait, 30) == 0


async def test_a_provider_does_tasks_under_its_budget_and_its_circuit(
    installation: Installation, start_provider: Callable[..., Provider], tmp_path: Path
) -> None:
    """The whole way: agent, scheduler, worker, limiter, breaker, provider; a bad time of it is waited out."""
    provider = start_provider(keys={"sk-demo": {"requests": 1000}}, mean_output=1_000)
    command = ["openai", "--url", provider.base, "--model", "m", "--budget", "demo", "--circuit", "openai"]
    command += ["--api-key-env", "SOME_KEY"]
    with worker(installation, "worker-openai", *command, cwd=tmp_path, SOME_KEY="sk-demo"):
        async with bursar.connect(installation.url, creds=installation.creds("writer")) as fleet:
            ask = {"prompt": "tell me " * 50, "max_tokens": 20}
            result = await (await fleet.scheduler.submit("chat", ask)).result(60)
            assert result["usage"] == {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            with pytest.raises(bursar.TaskFailed, match="status 400"):
                await (await fleet.scheduler.submit("chat", ask | {"max_tokens": -1})).result(60)
            provider.episode("errors", 0.5)
            handle = await fleet.scheduler.submit("chat", ask, retries=20, backoff=0.1)
            assert (await handle.result(60))["finish_reason"] == "length"
