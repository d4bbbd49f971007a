"""Dumping the state without stopping the loop: a forked child packs it, the parent reads compressed chunks.

The child has a copy of the process as it was at the fork, so the state cannot change under it, and the parent goes on
at once (a fork of a process with 200,000 remembered answers takes a few milliseconds). The child touches nothing but
its pipe and ends by ``os._exit``. Frames: 4 bytes of length and a compressed chunk; length 0 and a trailer (size and
digest of the whole) end it.
"""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import struct
import warnings
from collections.abc import AsyncIterator

from bursar.kernel.errors import CorruptSnapshot
from bursar.kernel.fold import Folded
from bursar.kernel.snapshot import digest_of, split

_LENGTH = struct.Struct(">I")
_TRAILER = struct.Struct(">Q16s")


class Dump:
    """A dump under way. ``size`` and ``digest`` are known when `chunks` has ended."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self._pid = pid
        self._descriptor = descriptor
        self.size = 0
        self.digest = b""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The compressed chunks in order. Raises `CorruptSnapshot` when the child ended early."""
        reader = asyncio.StreamReader(limit=1024 * 1024)
        pipe = os.fdopen(self._descriptor, "rb", buffering=0)
        loop = asyncio.get_running_loop()
        source: asyncio.ReadTransport | io.RawIOBase = pipe
        try:
            source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
            while length := _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]:
                yield await reader.readexactly(length)
            self.size, self.digest = _TRAILER.unpack(await reader.readexactly(_TRAILER.size))
        except asyncio.IncompleteReadError as error:
            raise CorruptSnapshot("the child that writes the snapshot ended early") from error
        finally:
            source.close()
            loop.run_in_executor(None, self._reap)

    def _reap(self) -> None:
        """Wait for the child's end, in another thread: giving back its memory takes it 20 ms."""
        try:
            done, _ = os.waitpid(self._pid, os.WNOHANG)
            if not done:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
        except (ChildProcessError, ProcessLookupError):
            return


def start_dump(folded: Folded) -> Dump:
    """Fork now; the child dumps the state as it is at this moment. Raises `OSError` when no process can be made."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads: the child uses none and takes no lock
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
    if pid == 0:
        _child(folded, reading, writing)
    os.close(writing)
    return Dump(pid, reading)


def _child(folded: Folded, reading: int, writing: int) -> None:
    status = 1
    try:
        gc.disable()
        os.nice(10)  # the parent decides meanwhile, and goes first
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(reading)
        data = folded.dump()
        for chunk in split(data):
            _write(writing, _LENGTH.pack(len(chunk)) + chunk)
        _write(writing, _LENGTH.pack(0) + _TRAILER.pack(len(data), digest_of(data)))
        status = 0
    finally:
        os._exit(status)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
