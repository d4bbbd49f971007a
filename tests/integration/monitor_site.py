"""A site for the monitor's tests: a home with real permissions, a server, processes of services and of a probe."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from bursar.bus.base import BusError
from bursar.bus.codec import decode_error, decode_reply, decode_value, encode
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import create_home, mint_agent
from bursar.bus.server import NatsServer, provision
from bursar.bus.signing import Verifier
from bursar.contracts.base import Message, admin_subject, event_subject, request_subject
from bursar.contracts.monitor import AlertChanged, IncidentChanged
from bursar.contracts.monitor_picture import Status, StatusReply
from bursar.errors import BursarError
from tests.bus.support import Awake
from tests.integration.support import ROOT, Instance

HOST = "host-a"

RULES = """
[rules.host-silent]
signal = "host_silence_ms"
at_least = "800ms"
hold = "500ms"
clear = "500ms"
severity = "critical"

[rules.no-owner]
signal = "owner_missing"
at_least = 1
hold = "500ms"
clear = "300ms"
"""


class Site:
    """Use with ``async with``; everything that was started is ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = create_home(directory / "home", ("limiter", "monitor"))
        mint_agent(self.home, "ann")
        mint_agent(self.home, HOST, role="node")
        self.server = NatsServer(self.home)
        self.instances: dict[str, Instance] = {}
        self.told: list[AlertChanged] = []
        self.notified: list[IncidentChanged] = []
        self._node: subprocess.Popen[bytes] | None = None
        self._buses: list[NatsBus] = []
        (directory / "rules.toml").write_text(RULES)

    async def __aenter__(self) -> Self:
        await self.server.start()
        for service in ("limiter", "monitor"):
            principal = f"svc-{service}-provisioner"
            bus = await self.bus(principal)
            await provision(bus, service)
        self.ops = await self.bus("ops")
        await self.ops.subscribe(event_subject("monitor", "alert", "*"), self._on_alert)
        await self.ops.subscribe(event_subject("monitor", "incident", "*"), self._on_incident)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_node()
        for instance in self.instances.values():
            if instance.is_running:
                instance.kill()
        for bus in self._buses:
            await bus.close()
        await self.server.stop()

    async def bus(self, principal: str) -> NatsBus:
        bus = await connect(self.server.url, self.home.creds(principal), principal=principal)
        self._buses.append(bus)
        return bus

    def _on_alert(self, msg: Any) -> None:
        self.told.append(AlertChanged(**self._opened(msg)))

    def _on_incident(self, msg: Any) -> None:
        self.notified.append(IncidentChanged(**self._opened(msg)))

    def _opened(self, msg: Any) -> dict[str, Any]:
        trust = json.loads(self.home.trust_file.read_text())
        return Verifier({"monitor": trust["monitor"]}).open(msg.subject, msg.data)

    # ---- processes

    async def start(self, service: str, name: str, **more: str) -> Instance:
        """``more``: further environment variables."""
        env = {
            **more,
            "BURSAR_URL": self.server.url,
            "BURSAR_CREDS": str(self.home.creds(f"svc-{service}")),
            "BURSAR_LOG_CREDS": str(self.home.creds(f"svc-{service}-log")),
            "BURSAR_KEYS_DIR": str(self.home.service_dir(service)),
            "BURSAR_RULES": str(self.directory / "rules.toml"),
            "BURSAR_SWEEP_MS": "300",
            "BURSAR_POLL_MS": "300",
            "BURSAR_METRICS_PORT": str(20_000 + secrets.randbelow(20_000)),
        }
        if name not in self.instances:
            self.instances[name] = Instance(name, f"bursar_{service}", self.directory, env)
        self.instances[name].start()
        await self.instances[name].is_up(("owner", "standby"))
        return self.instances[name]

    def start_node(self, **more: str) -> None:
        """The probe of the host, with its own credentials, five times as often as usual, of this test's processes.
        ``more``: other environment variables."""
        env = {
            "BURSAR_TREE": str(os.getpid()),
            "BURSAR_URL": self.server.url,
            "BURSAR_CREDS": str(self.home.creds(HOST)),
            "BURSAR_SAMPLE_MS": "200",
            "BURSAR_SAMPLE_MOST": "1",
            **more,
        }
        command = [sys.executable, "-m", "bursar_monitor.node"]
        with (self.directory / "node.log").open("wb") as log:
            self._node = subprocess.Popen(command, stderr=log, env={**os.environ, **env}, cwd=ROOT)

    def stop_node(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.kill()
            node.wait()

    # ---- asking

    async def ask(self, verb: str, body: Message, principal: str = "ops") -> dict[str, Any]:
        """An administrator's request; raises the service's error."""
        bus = self.ops if principal == "ops" else await self.bus(principal)
        msg = await bus.request(admin_subject("monitor", verb, principal), encode(body), 2.0)
        if (error := decode_error(msg.headers, msg.data)) is not None:
            raise error
        return decode_value(msg.data)[0]

    async def status(self) -> StatusReply | None:
        """The picture; None while nobody answers."""
        try:
            msg = await self.ops.request(request_subject("monitor", "status", "ops"), encode(Status()), 2.0)
            return decode_reply(StatusReply, msg.data, msg.headers)
        except (BusError, BursarError):
            return None

    async def sees(self, check: Any, within: float, what: str) -> StatusReply:
        """Wait until the picture satisfies ``check``."""
        awake = Awake(1.0)
        while awake.spent() < within:
            reply = await self.status()
            if reply is not None and check(reply):
                return reply
            await asyncio.sleep(0.05)
        raise AssertionError(what)

    async def page(self, instance: str, path: str) -> tuple[int, str]:
        """One page of an instance over HTTP."""
        ready = self.instances[instance].events("metrics_ready")[-1]
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{ready['port']}{path}")

    async def metrics(self, instance: str) -> dict[str, float]:
        """Samples by name and labels, read by Prometheus' own parser."""
        status, text = await self.page(instance, "/metrics")
        assert status == 200
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}"] = sample.value
        return found


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
