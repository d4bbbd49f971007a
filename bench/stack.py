"""A NATS server, two instances of the limiter (owner and standby) and the echo, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bursar.bus.base import BusError
from bursar.bus.codec import encode
from bursar.bus.connection import NatsBus, connect
from bursar.bus.server import NatsServer, provision
from bursar.bus.signing import Signer
from bursar.contracts.limiter import BudgetSpec, Reload

BUDGET = "bench"
BUDGETS = """\
[budgets.bench]
utilisation = "100%"
burst = "100%"
jitter = "100ms"
send_within = "100ms"
limits.requests = { limit = 1_000_000_000_000, window = "1s" }
limits.input_tokens = { limit = 1_000_000_000_000, window = "1s" }
limits.output_tokens = { limit = 1_000_000_000_000, window = "1s", charge = "production" }
limits.concurrent = 1_000_000_000
"""


class Stack:
    """``async with Stack(directory) as stack``: everything runs when it is entered, nothing when it is left.
    ``trust``: the file with the public key of its broadcasts; ``owner``: the instance that is taken to decide."""

    def __init__(self, directory: Path, budgets: str = BUDGETS) -> None:
        self._directory = directory
        self._budgets = budgets
        self.trust = directory / "trust.json"
        self.owner = "a"
        self.server = NatsServer.plain(directory / "nats")
        self.instances: dict[str, subprocess.Popen[bytes]] = {}
        self._echo: subprocess.Popen[bytes] | None = None
        self._log = (directory / "services.log").open("wb")
        self.bus: NatsBus

    async def __aenter__(self) -> Self:
        await self.server.start()
        self.bus = await connect(self.server.url, principal="provisioner")
        await provision(self.bus, "limiter")
        keys = self._directory / "keys"
        keys.mkdir()
        (keys / "fence.key").write_bytes(secrets.token_bytes(32))
        signer = Signer.load_or_create(keys / "signing.nk")
        self.trust.write_text(json.dumps({"limiter": signer.public_key}))
        (self._directory / "budgets.toml").write_text(self._budgets)
        command = [sys.executable, "-m", "bench.echo", self.server.url]
        self._echo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log)  # noqa: ASYNC220 - at start
        assert self._echo.stdout is not None
        await asyncio.to_thread(self._echo.stdout.readline)
        self.start("a")
        await self.until_answered(20.0)
        self.start("b")
        await self.until_present("b")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.bus.close()
        for process in [*self.instances.values(), *([self._echo] if self._echo else [])]:
            process.kill()
            process.wait()
        await self.server.stop()
        self._log.close()

    def start(self, name: str) -> None:
        """Start an instance of the limiter."""
        environment = {
            **os.environ,
            "BURSAR_URL": self.server.url,
            "BURSAR_KEYS_DIR": str(self._directory / "keys"),
            "BURSAR_DATA_DIR": str(self._directory / name),
            "BURSAR_INSTANCE": name,
            "BURSAR_BUDGETS": str(self._directory / "budgets.toml"),
        }
        self.instances[name] = subprocess.Popen(
            [sys.executable, "-m", "bursar_limiter"], env=environment, stderr=self._log
        )

    def kill(self, name: str) -> None:
        process = self.instances.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    async def reload(self, budgets: Sequence[BudgetSpec]) -> None:
        """Replace the set of budgets."""
        body = Reload(id=f"reload{secrets.token_hex(6)}", budgets=tuple(budgets)).model_dump(mode="json")
        answer = await self.bus.request("bursar.adm.limiter.reload.provisioner", encode(body), 5.0)
        if answer.headers:
            raise RuntimeError(f"the budgets were refused: {answer.data!r}")

    async def until_answered(self, seconds: float) -> float:
        """Ask until a reservation is granted; the time that took (s)."""
        began = time.perf_counter()
        request = {"id": f"probe{secrets.token_hex(6)}", "budget": BUDGET, "amounts": {"input_tokens": 1}}
        payload = encode(request)
        while time.perf_counter() - began < seconds:
            try:
                answer = await self.bus.request("bursar.req.limiter.reserve.provisioner", payload, 0.25)
                if not answer.headers:
                    return time.perf_counter() - began
            except BusError:
                pass
            await asyncio.sleep(0.01)
        raise TimeoutError(f"the limiter did not answer; see {self._log.name}")

    async def until_present(self, name: str) -> None:
        """Wait until an instance answers as such (a standby does, too), and has had time to catch up."""
        for _ in range(400):
            try:
                await self.bus.request(f"$SRV.PING.limiter.{name}", b"", 0.25)
            except BusError:
                await asyncio.sleep(0.025)
            else:
                await asyncio.sleep(0.3)
                return
        raise TimeoutError(f"instance {name} did not start; see {self._log.name}")
