"""A TCP proxy that misbehaves on command: stalls (both ways or one), strands, cuts, delays, refuses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Between clients and ``port`` on this machine.

    ``stall_up`` and ``stall_down`` hold back what clients and the server send (TCP stays open: a black hole);
    ``delay`` is seconds that every piece waits; ``refuse`` closes new connections at once.
    """

    port: int
    delay: float = 0.0
    refuse: bool = False
    accepted: int = 0
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    _down: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self.heal()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stall(self, *, up: bool = True, down: bool = True) -> None:
        """Hold back from now on, on all connections, new ones included."""
        for gate, closed in ((self._up, up), (self._down, down)):
            if closed:
                gate.clear()

    def strand(self) -> None:
        """Hold back the present connections for ever; new ones work."""
        self.stall()
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self.heal()

    def heal(self) -> None:
        self.delay, self.refuse = 0.0, False
        self._up.set()
        self._down.set()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuse:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        self._pump(reader, far_writer, writer, self._up)
        self._pump(far_reader, writer, far_writer, self._down)

    def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, other: asyncio.StreamWriter,
        gate: asyncio.Event,
    ) -> None:  # fmt: skip
        async def run() -> None:
            try:
                while data := await reader.read(65_536):
                    await asyncio.sleep(self.delay)
                    await gate.wait()
                    writer.write(data)
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.transport.abort()
                other.transport.abort()
                self._writers.discard(writer)

        self._writers.add(writer)
        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
