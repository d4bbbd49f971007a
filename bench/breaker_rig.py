"""What the benchmark of the breaker runs on: a server, a registry with its journal fsynced, the fleet's processes, an
upstream that can be dead."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bursar.bus.connection import NatsBus, connect
from bursar.bus.server import NatsServer, provision
from bursar.bus.signing import Signer

RULES = """\
[default]
window = "5s"
minimum_calls = 6
consecutive = 0
open_for = "120s"
max_open = "120s"
jitter = "0%"

[targets.dead]
open_for = "5s"
max_open = "5m"

[targets.stuck]
open_for = "300ms"
probe_ttl = "1s"
successes = 1
"""
PROBE_TTL_S: Final = 1.0
DEAD_OPEN_S: Final = 5.0
"""As in the rules above."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Process:
    """A child that takes commands and says what it sees, line by line. ``went``: when its calls were let go."""

    def __init__(self, module: str, *told: str) -> None:
        self._command = [sys.executable, "-m", module, *told]
        self.said: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.went: list[float] = []
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def start(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, start_new_session=True
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if told[0] == "went":
                self.went.append(told[2])
            self.said.put_nowait(told)

    def tell(self, *told: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")

    async def until(self, word: str, *about: Any, within: float = 30.0) -> list[Any]:
        """What it says next that begins so; what else it says meanwhile is dropped."""
        async with asyncio.timeout(within):
            while True:
                told = await self.said.get()
                if told[: 1 + len(about)] == [word, *about]:
                    return told

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._reading.cancel()


class Fleet:
    """So many agents in so many processes."""

    def __init__(self, processes: list[Process]) -> None:
        self.processes = processes

    async def tell(self, *told: Any) -> None:
        for process in self.processes:
            process.tell(*told)
        await asyncio.gather(*(process.until("done") for process in self.processes))

    async def last(self, word: str, about: str, within: float = 10.0) -> float:
        """When the last of the processes has said so (s of the monotonic clock)."""
        said = await asyncio.gather(*(process.until(word, about, within=within) for process in self.processes))
        return max(float(told[2]) for told in said)

    def went_since(self, at: float) -> int:
        """Calls that were let go after that moment."""
        return sum(when > at for process in self.processes for when in process.went)

    async def sent(self) -> tuple[int, int]:
        """Messages and bytes that all agents have published since the start."""
        for process in self.processes:
            process.tell("sent")
        said = await asyncio.gather(*(process.until("sent") for process in self.processes))
        return sum(told[1] for told in said), sum(told[2] for told in said)


class Upstream:
    """An HTTP server that answers everything with ``status``, or (0) hangs up without a word; counts who comes."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.calls: list[float] = []

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0, backlog=4_096)
        return int(self._server.sockets[0].getsockname()[1])

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls.append(time.monotonic())
        if self.status:
            await reader.readline()
            writer.write(b"HTTP/1.1 %d .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
        writer.close()

    def close(self) -> None:
        self._server.close()


class Site:
    """``async with Site(directory, agents, processes) as site``: everything runs when it is entered."""

    def __init__(self, directory: Path, agents: int, processes: int) -> None:
        self._directory = directory
        self._server = NatsServer.plain(directory / "nats")
        self._registry: subprocess.Popen[bytes] | None = None
        each = [agents // processes + (number < agents % processes) for number in range(processes)]
        self._shares = [(sum(each[:number]), count) for number, count in enumerate(each)]
        self.trust = directory / "trust.json"
        self.agents = agents
        self.fleet = Fleet([])
        self.reporters: list[NatsBus] = []

    @property
    def url(self) -> str:
        return self._server.url

    async def __aenter__(self) -> Self:
        keys = self._directory / "keys"
        keys.mkdir()
        (keys / "fence.key").write_bytes(secrets.token_bytes(32))
        signer = Signer.load_or_create(keys / "signing.nk")
        self.trust.write_text(json.dumps({"breaker": signer.public_key}))
        circuits = self._directory / "circuits.toml"
        circuits.write_text(RULES)
        await self._server.start()
        self.reporters = [await connect(self.url, principal=f"reporter-{name}") for name in "ab"]
        await provision(self.reporters[0], "breaker")
        env = {**os.environ, "BURSAR_URL": self.url, "BURSAR_KEYS_DIR": str(keys), "BURSAR_CIRCUITS": str(circuits)}
        with (self._directory / "breaker.log").open("wb") as log:
            command = [sys.executable, "-m", "bursar_breaker"]
            self._registry = subprocess.Popen(  # noqa: ASYNC220 - at start
                command, env=env, stdout=log, stderr=log, start_new_session=True
            )
        parts = [(self.url, str(self.trust), str(first), str(count)) for first, count in self._shares]
        self.fleet = Fleet([await Process("bench.breaker_agents", *part).start() for part in parts])
        await asyncio.gather(*(process.until("ready", within=60.0) for process in self.fleet.processes))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.fleet.processes:
            await process.kill()
        for bus in self.reporters:
            await bus.close()
        if self._registry is not None:
            self._registry.kill()
            self._registry.wait()
        await self._server.stop()

    def registry_cpu(self) -> float:
        """Seconds of processor that the registry has used so far."""
        assert self._registry is not None
        fields = Path(f"/proc/{self._registry.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
