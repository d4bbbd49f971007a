"""Runs a service's package as this process and makes it end when its supervisor does.

``python -m bursar.cli.child <supervisor's pid> bursar_limiter`` is ``python -m bursar_limiter``, except that on Linux
the kernel sends SIGTERM when the parent dies, even by kill -9: no service is left behind, working on a store that a
new start finds locked. (Elsewhere a service that is left behind is harmless, since its appends are fenced, but must
be stopped by hand.)
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Ask for SIGTERM at the parent's death; end at once when it has died already. ``parent`` is its process id."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(1)


def main() -> None:
    parent, module = int(sys.argv[1]), sys.argv[2]
    end_with_parent(parent)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
