"""Runs a service's package as this process and makes it end when its supervisor does.

``python -m bursar.cli.child <supervisor's pid> bursar_limiter`` is ``python -m bursar_limiter``, except that the
process gets SIGTERM when its parent dies, even by kill -9: no service is left behind, working on a store that a new
start finds locked. On Linux the kernel does that; elsewhere a thread looks once a second.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Have this process get the signal ``number`` when its parent dies, whose process id is ``parent``; when that has
    died already this process ends at once."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(1)
    else:
        threading.Thread(target=watch, args=(parent, 1.0, number), daemon=True).start()


def watch(parent: int, every: float = 1.0, number: signal.Signals = signal.SIGTERM) -> None:
    """Send ``number`` to this process when its parent is another one; looks each ``every`` seconds."""
    while os.getppid() == parent:
        time.sleep(every)
    os.kill(os.getpid(), number)


def main() -> None:
    parent, module = int(sys.argv[1]), sys.argv[2]
    end_with_parent(parent)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
