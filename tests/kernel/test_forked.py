"""A dump in a forked child: the same bytes, and nothing left behind however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import zlib
from pathlib import Path

import pytest

from bursar.kernel.errors import CorruptSnapshot
from bursar.kernel.fold import Folded
from bursar.kernel.forked import start_dump
from bursar.kernel.snapshot import CHUNK_BYTES, digest_of
from tests.bus.support import eventually
from tests.simulation.toy import Bank, BankDecider


def _large() -> Folded:
    """A state of several chunks."""
    folded = Folded(BankDecider())
    state: Bank = folded.state
    state.accounts = {f"account-{number}": number for number in range(50_000)}
    return folded


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_child_dumps_the_state_as_it_was_at_the_fork() -> None:
    """What is decided meanwhile is not in it; the child is waited for, and its pipe closed."""
    folded, before = _large(), _descriptors()
    expected = folded.dump()
    dump = start_dump(folded)
    folded.state.accounts.clear()
    data = b"".join([zlib.decompress(chunk) async for chunk in dump.chunks()])
    assert len(data) > 2 * CHUNK_BYTES
    assert data == expected
    assert (dump.size, dump.digest) == (len(data), digest_of(data))
    await eventually(lambda: _is_gone(dump._pid) and _descriptors() <= before)


async def test_a_child_that_is_killed_makes_no_snapshot() -> None:
    """The kernel takes it when memory is short."""
    dump = start_dump(_large())
    os.kill(dump._pid, signal.SIGKILL)
    with pytest.raises(CorruptSnapshot, match="ended early"):
        assert [chunk async for chunk in dump.chunks()] == []
    await eventually(lambda: _is_gone(dump._pid))


async def test_a_dump_that_nobody_can_read_leaves_no_child_and_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred attempts that fail so, a hundred children would wait for ever."""

    async def fail(*_: object) -> None:
        raise OSError("no more descriptors")

    before = _descriptors()
    dump = start_dump(_large())
    monkeypatch.setattr(asyncio.get_running_loop(), "connect_read_pipe", fail)
    with pytest.raises(OSError, match="descriptors"):
        assert [chunk async for chunk in dump.chunks()] == []
    await eventually(lambda: _is_gone(dump._pid) and _descriptors() <= before)
