"""Many connections in a few processes, which say when the last of them has heard something.

    async with Crowd(url, 1000, 4, "bench.crowd:plain") as crowd:
        publish(...)
        at = await crowd.heard("key")      # ns of the monotonic clock, which all processes of a machine share

Each process opens its share of the connections and hands them to an *ear*: ``async def ear(buses, told, extra)``. The
ear has every connection call ``told(key)`` when it has heard what ``key`` names; when all of a process have, it says
so, with the time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Self

from bursar.bus.base import BusError, Msg
from bursar.bus.connection import NatsBus, connect

PLAIN = "bursar.evt.bench.plain.x"
AT_ONCE = 10
"""Connections that one process opens at a time."""

PATIENCE_S = 60.0
"""A machine that has much else to do is tried again for so long."""

READY = "ready"

Told = Callable[[str], None]


async def plain(buses: list[NatsBus], told: Told, extra: str) -> None:
    """Hears bare unsigned messages on `PLAIN`; the key is the first word."""

    def hear(msg: Msg) -> None:
        told(msg.data.split(b" ", 1)[0].decode())

    for bus in buses:
        await bus.subscribe(PLAIN, hear)


class Crowd:
    """``connections`` in so many ``processes``, all with the ear "module:function"; ``extra`` is handed to it."""

    def __init__(self, url: str, connections: int, processes: int, ear: str, extra: str = "") -> None:
        share, left = divmod(connections, processes)
        self._commands = [
            [sys.executable, "-m", "bench.crowd", url, str(share + (number < left)), ear, extra, f"crowd{number}"]
            for number in range(processes)
        ]
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []
        self._heard: dict[str, list[int]] = {}
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        for command in self._commands:
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            self._processes.append(process)
            self._readers.append(asyncio.create_task(self._read(process)))
        try:
            await self.heard(READY, 2 * PATIENCE_S)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            key, at = line.split()
            self._heard.setdefault(key.decode(), []).append(int(at))
            self._news.set()

    async def heard(self, key: str, within: float = 10.0) -> int:
        """When the last connection of the last process had heard it (ns). Raises TimeoutError."""
        async with asyncio.timeout(within):
            while len(self._heard.get(key, ())) < len(self._processes):
                for process in self._processes:
                    if process.returncode is not None:
                        raise RuntimeError(f"a process of the crowd has ended with status {process.returncode}")
                self._news.clear()
                await self._news.wait()
        return max(self._heard.pop(key))


async def _join(url: str, principal: str) -> NatsBus:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await connect(url, principal=principal)
        except BusError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.2)


async def main(url: str, count: int, ear: str, extra: str, name: str) -> None:
    """One process of the crowd."""
    buses: list[NatsBus] = []
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(count, first + AT_ONCE))
        buses += await asyncio.gather(*(_join(url, f"{name}-{number}") for number in numbers))
    heard: Counter[str] = Counter()

    def told(key: str) -> None:
        heard[key] += 1
        if heard[key] == count:
            print(key, time.monotonic_ns(), flush=True)

    module, _, function = ear.partition(":")
    keep = await getattr(import_module(module), function)(buses, told, extra)
    for bus in buses:
        await bus.flush()
    print(READY, time.monotonic_ns(), flush=True)
    await asyncio.Event().wait()
    del keep


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]))
