"""Nothing that the demo has started outlives it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from bursar.demo.stack import end
from tests.bus.support import eventually

STUBBORN = """
import os, signal, sys, time
from bursar.cli.child import end_with_parent
signal.signal(signal.SIGTERM, signal.SIG_IGN)
this = os.getpid()
child = os.fork()
if child == 0:
    end_with_parent(this, signal.SIGKILL)
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def is_there(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_who_is_interrupted_while_ending_a_process_leaves_neither_it_nor_its_children() -> None:
    """A second Ctrl-C does not wait for the grace: what ignores SIGTERM is killed, and its children with it."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STUBBORN, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    ending = asyncio.create_task(end(process, grace_s=60))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert process.returncode == -signal.SIGKILL
    await eventually(lambda: not is_there(child), 5)
