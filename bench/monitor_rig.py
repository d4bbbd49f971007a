"""What the benchmark of the monitor runs on: a NATS server, a monitor, a limiter and a breaker, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bursar.bus.base import BusError, Msg
from bursar.bus.codec import decode_value, encode
from bursar.bus.connection import NatsBus, connect
from bursar.bus.server import NatsServer, provision
from bursar.bus.signing import Signer, Verifier
from bursar.contracts.base import event_subject, request_subject
from bursar.contracts.monitor import ALERT_KIND, INCIDENT_KIND

SERVICES = ("limiter", "breaker", "monitor")


class Rig:
    """``async with Rig(directory) as rig``. ``alerts``, ``incidents``: what was broadcast, with the time (s)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.server = NatsServer.plain(directory / "nats")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.alerts: list[tuple[float, dict[str, Any]]] = []
        self.incidents: list[tuple[float, dict[str, Any]]] = []
        self._log = (directory / "services.log").open("wb")
        self._trust: dict[str, str] = {}
        self.bus: NatsBus

    async def __aenter__(self) -> Self:
        await self.server.start()
        self.bus = await connect(self.server.url, principal="ops")
        for service in SERVICES:
            await provision(self.bus, service)
            keys = self._directory / service
            keys.mkdir()
            (keys / "fence.key").write_bytes(secrets.token_bytes(32))
            self._trust[service] = Signer.load_or_create(keys / "signing.nk").public_key
        for kind, heard in ((ALERT_KIND, self.alerts), (INCIDENT_KIND, self.incidents)):
            await self.bus.subscribe(event_subject("monitor", kind, "*"), self._hear(heard))
        for service in SERVICES:
            self.start(service)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.bus.close()
        for process in self.processes.values():
            process.kill()
            process.wait()
        await self.server.stop()
        self._log.close()

    def _hear(self, heard: list[tuple[float, dict[str, Any]]]) -> Callable[[Msg], None]:
        verifier = Verifier({"monitor": self._trust["monitor"]})
        return lambda msg: heard.append((time.monotonic(), verifier.open(msg.subject, msg.data)))

    def start(self, service: str) -> None:
        environment = {
            **os.environ,
            "BURSAR_URL": self.server.url,
            "BURSAR_KEYS_DIR": str(self._directory / service),
            "BURSAR_DATA_DIR": str(self._directory / service),
            "BURSAR_INSTANCE": f"{service}-1",
            "BURSAR_METRICS_PORT": "21964",
        }
        command = [sys.executable, "-m", f"bursar_{service.replace('-', '_')}"]
        self.processes[service] = subprocess.Popen(command, env=environment, stderr=self._log)

    def probe(self, host: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "BURSAR_URL": self.server.url,
            "BURSAR_HOST": host,
            "BURSAR_TREE": str(os.getpid()),
        }
        environment.pop("BURSAR_CREDS", None)
        command = [sys.executable, "-m", "bursar_monitor.node"]
        self.processes[host] = subprocess.Popen(command, env=environment, stderr=self._log)
        return self.processes[host]

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    async def ask(self, subject: str, **body: Any) -> dict[str, Any]:
        """A request as the operator; its answer."""
        answer = await self.bus.request(subject, encode({**body, "v": 1}), 5.0)
        if answer.headers:
            raise RuntimeError(f"{subject}: {answer.data!r}")
        return decode_value(answer.data)[0]

    async def status(self, **asked: Any) -> dict[str, Any]:
        return await self.ask(request_subject("monitor", "status", "ops"), **asked)

    async def until(self, what: str, check: Callable[[dict[str, Any]], bool], within: float = 30.0) -> dict[str, Any]:
        """Wait until the monitor's picture satisfies ``check``."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                status = await self.status()
                if check(status):
                    return status
            except (BusError, RuntimeError):
                pass
            await asyncio.sleep(0.1)
        log = (self._directory / "services.log").read_text()[-2_000:]
        raise RuntimeError(f"not within {within:.0f} s: {what}\n{json.dumps(log)}")
