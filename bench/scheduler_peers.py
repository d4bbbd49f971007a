"""Other schedulers beside this one: tasks per second for empty tasks, and what each loses by kill -9.

Two workers each, with what they do by default. *Speed*: from the first submission to the last of so many marks that
tasks leave. *Loss*: tasks of 20 ms are accepted; when a tenth has run, the process that holds the others is killed with
-9 and started again at once (Dask: the scheduler; Ray: the raylet with its workers, which cannot be started again under
a driver; Celery and taskiq: the worker, with what it has fetched). ``lost`` are those that have not run when nothing
has moved for `STILL_S`. A task that a broker would give out again after that (Celery on Redis: an hour) counts as lost.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.figures import say
from bench.peers.runner import ROOT, Missing, Redis
from bench.peers.schedulers import marks

STILL_S = 10.0
SENT = 300
NAP_S = 0.02
COUNTS = {"celery": 2_000, "taskiq_nats": 3_000, "dask": 3_000, "ray": 3_000}
PACKAGES = {"celery": "celery", "taskiq_nats": "taskiq-nats", "dask": "distributed", "ray": "ray"}


class Peer:
    """The processes of one peer; ``victim``: the one that is killed."""

    def __init__(self, python: Path, name: str, address: str, directory: Path) -> None:
        self._python = python
        self.name = name
        self.address = address
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        self.victim: list[str] = []

    def start(self, *arguments: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "BENCH_ADDRESS": self.address, "PYTHONPATH": str(ROOT)}
        with (self._directory / "peer.log").open("ab") as log:
            process = subprocess.Popen(
                [str(self._python), "-m", *arguments], cwd=ROOT, env=environment, stdout=stdout, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        return process

    def serve(self) -> None:
        """Whatever has to run beside the submitter."""
        if self.name == "celery":
            self.victim = ["celery", "-A", "bench.peers.schedulers", "worker", "-c", "2", "-l", "ERROR"]
        elif self.name == "taskiq_nats":
            self.victim = [
                "taskiq",
                "worker",
                "bench.peers.schedulers:broker",
                "--workers",
                "2",
                "--log-level",
                "ERROR",
            ]
        elif self.name == "dask":
            port = self.address.rpartition(":")[2]
            self.victim = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
        if self.victim:
            self.start(*self.victim)
        if self.name == "dask":
            workers = ["--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--local-directory"]
            self.start("distributed.cli.dask_worker", self.address, *workers, str(self._directory))

    def submit(self, count: int, nap: float, path: Path) -> subprocess.Popen[bytes]:
        arguments = [self.name, self.address, str(count), str(nap), str(path)]
        return self.start("bench.peers.schedulers", *arguments, stdout=subprocess.PIPE)

    def strike(self, submitter: subprocess.Popen[bytes]) -> None:
        """Kill -9 whoever holds the tasks, with what it has started, and start it again."""
        if self.victim:
            end(self._running[0])
            self.start(*self.victim)
            return
        for child in _descendants(submitter.pid):
            if b"raylet" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0]:
                os.kill(child, signal.SIGKILL)

    def close(self) -> None:
        for process in reversed(self._running):
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was started here, with its session."""
    for child in _descendants(process.pid):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    """All processes below one (Linux)."""
    found = []
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    for child in children:
        found += [child, *_descendants(child)]
    return found


@contextmanager
def peer(python: Path, name: str, directory: Path, nats: str) -> Iterator[Peer]:
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        address = nats
        if name == "celery":
            address = f"redis://127.0.0.1:{stack.enter_context(Redis()).port}/0"
        elif name == "dask":
            address = f"tcp://127.0.0.1:{_free_port()}"
        one = Peer(python, name, address, directory)
        stack.callback(one.close)
        one.serve()
        yield one


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def measure(python: Path, directory: Path, nats: str) -> dict[str, Any]:
    """Flat figures of all peers; one that does not run here is named with the reason."""
    if not python.exists():
        raise Missing(f"{python} is missing: `make bench-scheduler` makes it")
    figures: dict[str, Any] = {}
    for name, count in COUNTS.items():
        try:
            figures[f"peer_{name}_version"] = _version(python, PACKAGES[name])
            with peer(python, name, directory / name / "speed", nats) as one:
                figures[f"peer_{name}_tasks_per_s"] = round(speed(one, count, directory / name / "speed" / "marks"))
            with peer(python, name, directory / name / "loss", nats) as one:
                sent, lost = loss(one, directory / name / "loss" / "marks")
            figures |= {f"peer_{name}_sent": sent, f"peer_{name}_lost": lost}
            say(f"{name}: {figures[f'peer_{name}_tasks_per_s']} tasks/s, loses {lost} of {sent} by kill -9")
        except (Missing, OSError, RuntimeError, subprocess.SubprocessError) as error:
            figures[f"peer_{name}_cannot_run"] = str(error)[-300:]
    return figures


def _version(python: Path, package: str) -> str:
    program = f"from importlib.metadata import version; print(version({package!r}))"
    answer = subprocess.run([python, "-c", program], capture_output=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"{package} is not installed")
    return answer.stdout.decode().strip()


def speed(one: Peer, count: int, path: Path) -> float:
    told, _ = one.submit(count, 0.0, path).communicate(timeout=120)
    lines = told.decode().splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"{one.name} did not run its tasks: {told.decode()[-200:]}")
    return float(count / json.loads(lines[-1])["seconds"])


def loss(one: Peer, path: Path) -> tuple[int, int]:
    """How many were accepted, and how many of them never ran."""
    submitter = one.submit(SENT, NAP_S, path)
    assert submitter.stdout is not None
    if submitter.stdout.readline().strip() != b"accepted":
        raise RuntimeError(f"{one.name} did not accept its tasks")
    while marks(str(path)) < SENT // 10:
        time.sleep(0.005)
    one.strike(submitter)
    seen, since = marks(str(path)), time.monotonic()
    while seen < SENT and time.monotonic() - since < STILL_S:
        time.sleep(0.1)
        if marks(str(path)) > seen:
            seen, since = marks(str(path)), time.monotonic()
    return SENT, SENT - seen
