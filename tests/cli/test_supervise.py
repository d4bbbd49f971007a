"""Children that are kept running: real processes, tiny ones."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from bursar.cli.child import watch
from bursar.cli.supervise import MAX_LINE, Backoff, ChildSpec, Supervisor

QUICK = Backoff(first=0.02, longest=0.1, stable=30.0)
SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class Watched:
    """A supervisor whose lines are kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.supervisor = Supervisor(self.lines.append, QUICK)

    def start(self, program: str, name: str = "child", **env: str) -> None:
        self.supervisor.start(ChildSpec(name, (sys.executable, "-c", program), env))

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not check():  # noqa: ASYNC110 - a process tells nobody
                await asyncio.sleep(0.01)

    async def line(self, text: str) -> None:
        await self.until(lambda: text in self.lines)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    await made.supervisor.stop(grace=0.5)


async def test_lines_of_a_child_carry_its_name(watched: Watched) -> None:
    """Output and errors of several children can be told apart."""
    watched.start("import sys; print('one'); sys.stderr.write('two')", name="limiter-1")
    await watched.line("limiter-1 | one")
    await watched.line("limiter-1 | two")


async def test_child_that_ends_is_started_again(watched: Watched) -> None:
    """Whatever its status: a service is meant to run."""
    watched.start("raise SystemExit(3)")
    (child,) = watched.supervisor.children
    await watched.until(lambda: child.starts >= 3)
    assert any(line.startswith("child ended with status 3; starting it again in 0.0") for line in watched.lines)


async def test_killed_child_is_started_again_with_another_process(watched: Watched) -> None:
    """kill -9 is reported by its name and repaired."""
    watched.start(SLEEPS)
    (child,) = watched.supervisor.children
    await watched.line("child | up")
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await watched.until(lambda: child.pid not in {None, first})
    assert any("was ended by SIGKILL" in line for line in watched.lines)


async def test_command_that_does_not_exist_is_reported_and_tried_again(watched: Watched) -> None:
    """A missing program ends neither the supervisor nor its other children."""
    watched.supervisor.start(ChildSpec("ghost", ("/nowhere/ghost",)))
    await watched.until(lambda: sum("cannot be started" in line for line in watched.lines) >= 2)


async def test_stop_lets_a_child_finish(watched: Watched) -> None:
    """SIGTERM first: what a child does on it is seen through to the end."""
    watched.start(
        "import signal, sys, time\n"
        "def end(*_):\n    print('draining', flush=True); time.sleep(0.1); print('drained', flush=True); sys.exit(0)\n"
        "signal.signal(15, end); print('up', flush=True); time.sleep(60)"
    )
    await watched.line("child | up")
    assert await watched.supervisor.stop(grace=10)
    assert watched.lines[-2:] == ["child | drained", "child stopped"]


async def test_stop_kills_what_does_not_end(watched: Watched) -> None:
    """After the grace period nothing is left."""
    watched.start(STUBBORN)
    await watched.line("child | up")
    pid = watched.supervisor.children[0].pid
    assert pid is not None
    assert not await watched.supervisor.stop(grace=0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_stop_during_the_pause_starts_nothing(watched: Watched) -> None:
    """A child that waits for its restart is simply not started."""
    patient = Supervisor(watched.lines.append, Backoff(first=60, longest=60))
    patient.start(ChildSpec("child", (sys.executable, "-c", "raise SystemExit(1)")))
    await watched.until(lambda: any("starting it again" in line for line in watched.lines))
    assert await asyncio.wait_for(patient.stop(), 5)
    assert patient.children == []


async def test_children_stop_at_the_same_time(watched: Watched) -> None:
    """The slowest child, not the sum of all, decides how long stopping takes."""
    for number in range(3):
        watched.start(STUBBORN, name=f"c{number}")
        await watched.line(f"c{number} | up")
    began = time.monotonic()
    await watched.supervisor.stop(grace=0.4)
    assert time.monotonic() - began < 1.1


async def test_environment_reaches_the_child(watched: Watched) -> None:
    """Settings come from the environment."""
    watched.start("import os; print(os.environ['BURSAR_INSTANCE'])", BURSAR_INSTANCE="limiter-7")
    await watched.line("child | limiter-7")


async def test_endless_line_is_cut(watched: Watched) -> None:
    """A child cannot fill the supervisor's memory by never ending a line."""
    watched.start(f"import sys, time; sys.stdout.write('x' * {MAX_LINE * 3}); sys.stdout.flush(); time.sleep(60)")
    await watched.until(lambda: sum(len(line) for line in watched.lines) >= MAX_LINE * 2)


async def test_undecodable_output_is_shown(watched: Watched) -> None:
    """Bytes that are no text do not end the reading."""
    watched.start("import os, time; os.write(1, b'\\xff\\n'); time.sleep(60)")
    await watched.line("child | \ufffd")


def test_pauses_double_up_to_the_longest() -> None:
    """Each pause lies between half and all of first * 2^n, and never above the longest."""
    backoff, rng = Backoff(first=1.0, longest=10.0), random.Random(1)
    for ends, full in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (500, 10.0)):
        pauses = [backoff.pause(ends, rng) for _ in range(50)]
        assert full * 0.5 <= min(pauses) < max(pauses) <= full


def test_long_run_forgives_earlier_ends() -> None:
    """The default trusts a child again after twenty seconds."""
    assert Backoff().stable == 20.0


async def test_service_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    """kill -9 of the supervisor leaves no service behind."""
    (tmp_path / "sleeper.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    program = (
        "import os, subprocess, sys\n"
        "command = [sys.executable, '-m', 'bursar.cli.child', str(os.getpid()), 'sleeper']\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    supervisor = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    pid = int(supervisor.stdout)
    async with asyncio.timeout(5):
        while _lives(pid):  # noqa: ASYNC110 - a process tells nobody
            await asyncio.sleep(0.02)


def test_watching_the_parent_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not tell, the thread sees another parent and asks this process to end."""
    parents, signals = iter([7, 7, 1]), []
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    watch(7, every=0.0)
    assert signals == [(os.getpid(), signal.SIGTERM)]


def _lives(pid: int) -> bool:
    """Does the process still run (a zombie that nobody has waited for does not)?"""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
