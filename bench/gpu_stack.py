"""A NATS server, the GPU manager and probes of simulated hosts, as processes, on one machine."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import BusError
from bursar.bus.connection import NatsBus, connect
from bursar.bus.server import NatsServer, provision
from bursar.client.gpu_simulated import SimulatedCards

GIB = 1 << 30
LEASE = "bursar.req.gpu-manager.lease"
RELEASE = "bursar.req.gpu-manager.release"
STATUS = "bursar.req.gpu-manager.status"


class GpuStack:
    """``async with GpuStack(directory) as stack``: everything runs when it is entered, nothing when it is left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.server = NatsServer.plain(directory / "nats")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (directory / "services.log").open("wb")
        self.bus: NatsBus

    async def __aenter__(self) -> Self:
        await self.server.start()
        self.bus = await connect(self.server.url, principal="provisioner")
        await provision(self.bus, "gpu-manager")
        keys = self._directory / "keys"
        keys.mkdir()
        (keys / "fence.key").write_bytes(secrets.token_bytes(32))
        self._start("bursar_gpu_manager", BURSAR_URL=self.server.url, BURSAR_KEYS_DIR=str(keys),
                    BURSAR_DATA_DIR=str(self._directory / "manager"), BURSAR_INSTANCE="a")  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.bus.close()
        for process in self._processes:
            process.kill()
            process.wait()
        await self.server.stop()
        self._log.close()

    def _start(self, module: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, env={**os.environ, **env}, stderr=self._log)
        self._processes.append(process)
        return process

    def probe(self, host: str, cards: str, interval: float, control: str = "") -> subprocess.Popen[bytes]:
        """Start the probe of a simulated host; ``cards`` as in ``4x24GiB``."""
        arguments = ["--url", self.server.url, "--name", host, "--simulate", cards, "--interval", str(interval)]
        return self._start("bursar_gpu_manager.node", *arguments, *(["--control", control] if control else []))

    async def ask(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request of the benchmark itself; raises `BusError`."""
        answer = await self.bus.request(f"{subject}.{self.bus.principal}", msgpack.packb(body), 5.0)
        found: dict[str, Any] = msgpack.unpackb(answer.data)
        return found

    async def until_fresh(self, devices: int, within: float = 30.0) -> None:
        """Wait until the manager has a fresh report of so many devices."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                status = await self.ask(STATUS, {})
                if sum(bool(device["fresh"]) for device in status.get("devices", ())) >= devices:
                    return
            except BusError:
                pass
            await asyncio.sleep(0.05)
        raise TimeoutError(f"the manager knows fewer than {devices} devices; see {self._log.name}")


async def occupied(control: str, host: str, cards: int, processes: int, stack: list[SimulatedCards]) -> None:
    """Let so many processes use memory of each card of a simulated host, until ``stack`` is closed."""
    for _ in range(processes):
        connection = await connected(control)
        stack.append(connection)
        started = await connection.ask("start", host=host, foreign=True)
        for number in range(cards):
            await connection.ask("allocate", host=host, pid=started["pid"], device=f"SIM-{host}-{number}", bytes=GIB)


async def connected(control: str, within: float = 20.0) -> SimulatedCards:
    """A connection to a control port, as soon as there is one."""
    deadline = time.monotonic() + within
    while True:
        try:
            return await SimulatedCards.connect(control)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, to the nanosecond as the scheduler counts it."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9
