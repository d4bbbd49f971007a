"""Starts processes that end when this one does, even by kill -9.

On Linux the kernel sends a child the signal that it has asked for (PR_SET_PDEATHSIG) when its parent dies; "parent" is
the *thread* that made it. So one thread makes all children and lives as long as the process. The child sets its wish
and then becomes the program, under the same process id, by a Python that imports next to nothing. Elsewhere children
are started as usual and may be left behind.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

_BECOME: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has died")
os.execv(sys.argv[2], sys.argv[2:])
"""

Job = tuple[Callable[[], "subprocess.Popen[bytes]"], "Future[subprocess.Popen[bytes]]"]


class _Spawner:
    """The one thread that children are made by."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._pid = 0
        self._starting = threading.Lock()

    def run(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._starting:
            if self._pid != os.getpid():  # the first time, or after a fork, which copies no threads
                self._pid = os.getpid()
                self._jobs = queue.SimpleQueue()
                threading.Thread(target=self._work, args=(self._jobs,), name="spawner", daemon=True).start()
        done: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, done))
        return done.result()

    def _work(self, jobs: queue.SimpleQueue[Job]) -> None:
        while True:
            job, done = jobs.get()
            try:
                done.set_result(job())
            except BaseException as error:  # noqa: BLE001 - it is raised where the job was asked for
                done.set_exception(error)


_SPAWNER = _Spawner()


def spawn(command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[bytes]:
    """As `subprocess.Popen`; the process gets SIGTERM when this process dies. ``command[0]`` is a path."""
    words = [os.fspath(word) for word in command]
    if sys.platform == "linux":
        words = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *words]
    return _SPAWNER.run(lambda: subprocess.Popen(words, **options))
