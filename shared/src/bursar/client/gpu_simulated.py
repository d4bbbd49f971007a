"""A process on simulated cards, for demonstrations and tests without a GPU.

    async with SimulatedProcess.on("127.0.0.1:4711", "gpu-1") as process:
        await lease.bind(process.identity)
        await process.allocate(lease.device, 4 << 30)       # raises BursarError: out_of_memory, device_lost

It speaks to the control port of ``bursar-gpu-node --simulate ... --control ADDRESS`` (one JSON object per line). Its
memory is gone as soon as the connection is, as a real driver takes back what a dead process had.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bursar.errors import ServiceError


class SimulatedCards:
    """A connection to a control port; `ask` is one operation, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    @classmethod
    async def connect(cls, address: str) -> SimulatedCards:
        """``HOST:PORT``, or the path of a Unix socket."""
        if "/" in address:
            return cls(*await asyncio.open_unix_connection(address))
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Raises `ServiceError` with the code that the other side gave: out_of_memory, device_lost, bad_request, ...;
        ``not_connected`` when it is gone."""
        async with self._turn:
            try:
                self._writer.write(json.dumps({"op": op, **fields}).encode() + b"\n")
                await self._writer.drain()
                line = await self._reader.readline()
            except ConnectionError:
                line = b""
        if not line:
            raise ServiceError("not_connected", "the simulated cards are gone")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("ok") is not True:
            raise ServiceError(str(answer.get("code")), str(answer.get("text")))
        return answer

    async def judge(self) -> dict[str, dict[str, Any]]:
        """What the simulated drivers have counted, by host: ``violations`` (allocations that left less than the reserve
        free), ``out_of_memory`` (that failed), ``allocations``, and ``devices`` with total, used, most_used, lost."""
        hosts: dict[str, dict[str, Any]] = (await self.ask("judge"))["hosts"]
        return hosts

    async def lose(self, host: str, device: str) -> None:
        """The card falls off the bus."""
        await self.ask("lose", host=host, device=device)

    async def restore(self, host: str, device: str) -> None:
        await self.ask("restore", host=host, device=device)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class SimulatedProcess:
    """One process on one host. ``identity``: (pid, start), for `GpuLease.bind`."""

    def __init__(self, cards: SimulatedCards, host: str, identity: tuple[int, int]) -> None:
        self.cards = cards
        self.host = host
        self.identity = identity

    @classmethod
    @asynccontextmanager
    async def on(cls, address: str, host: str, *, foreign: bool = False) -> AsyncIterator[SimulatedProcess]:
        """Start one; it ends with the block, and its memory is free then. ``foreign``: the judge does not blame it."""
        cards = await SimulatedCards.connect(address)
        try:
            told = await cards.ask("start", host=host, foreign=foreign)
            process = cls(cards, host, (told["pid"], told["started"]))
            yield process
            with contextlib.suppress(ServiceError):
                await cards.ask("exit", host=host, pid=process.identity[0])
        finally:
            await cards.close()

    async def allocate(self, device: str, size: int) -> None:
        """``device``: the uuid, `GpuLease.device`. Raises `ServiceError`: out_of_memory, device_lost."""
        await self.cards.ask("allocate", host=self.host, pid=self.identity[0], device=device, bytes=size)

    async def free(self, device: str, size: int) -> None:
        await self.cards.ask("free", host=self.host, pid=self.identity[0], device=device, bytes=size)
