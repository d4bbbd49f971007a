"""Real processes for the integration tests: a nats-server, instances of a service, signals, and what they log.

::

    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")           # a owns, b follows
        rig["a"].kill()
        await rig["b"].becomes("owner")
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home
from bursar.bus.server import NatsCluster, NatsServer, provision
from bursar.bus.signing import Signer
from bursar.contracts.base import log_stream
from bursar.kernel.decider import Decider
from bursar.kernel.entry import Entry, decode
from bursar.kernel.errors import OutcomeUnknown
from bursar.kernel.fold import Folded, Follower
from bursar.kernel.journal.jetstream import JetStreamJournal
from bursar.kernel.loader import load, read_snapshot
from bursar.kernel.snapshot import Manifest
from tests.bus.support import Awake
from tests.integration.toy_service import SERVICE, Counter

ROOT = Path(__file__).resolve().parents[2]
TAKEOVER_SECONDS = 2.0
"""What the design promises between the death of an owner and the first answer of its successor."""


async def until(check: Callable[[], bool], within: float, what: str) -> None:
    """Wait until ``check`` is true; an `AssertionError` says what did not happen within so many seconds."""
    awake = Awake(0.5)
    while not check():
        assert awake.spent() < within, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.01)


async def settled_in(home: Home, url: str, service: str) -> dict[str, str]:
    """Make a service's streams with the credentials for it in a home; the environment in which it runs."""
    name = f"svc-{service}"
    bus = await connect(url, home.creds(f"{name}-provisioner"), principal=f"{name}-provisioner")
    await provision(bus, service)
    await bus.close()
    return {
        **os.environ,
        "BURSAR_URL": url,
        "BURSAR_CREDS": str(home.creds(name)),
        "BURSAR_LOG_CREDS": str(home.creds(f"{name}-log")),
        "BURSAR_KEYS_DIR": str(home.service_dir(service)),
    }


class Instance:
    """One process of a service, its environment and its log."""

    def __init__(self, name: str, module: str, directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.data_dir = directory / f"data-{name}"
        self.log_path = directory / f"{name}.log"
        self._command = [sys.executable, "-m", module]
        self._env = {**os.environ, **env, "BURSAR_INSTANCE": name, "BURSAR_DATA_DIR": str(self.data_dir)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process (again), with a fresh log."""
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(self._command, stderr=log, env=self._env, cwd=ROOT)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """kill -9, stopped or not."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def terminate(self, within: float = 10.0) -> int:
        """SIGTERM; the exit status, which must come within so many seconds."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, within)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Logged events of a name (all when empty), in order."""
        if not self.log_path.exists():
            return []
        lines = self.log_path.read_text(errors="replace").splitlines()
        rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [row for row in rows if not name or row["event"] == name]

    @property
    def roles(self) -> list[str]:
        return [str(row["role"]) for row in self.events("role_changed")]

    @property
    def role(self) -> str:
        return (self.roles or ["none"])[-1]

    async def is_up(self, roles: tuple[str, ...]) -> None:
        """Wait until it has one of these roles; fails at once, with its last words, when the process has ended."""

        def check() -> bool:
            assert self.is_running, f"{self.name} has ended: {self.log_path.read_text()[-600:]}"
            return self.role in roles

        await until(check, 15, f"{self.name} is one of {roles}")

    async def becomes(self, role: str, within: float = 10.0) -> None:
        await until(lambda: self.role == role, within, f"{self.name} becomes {role}, it is {self.roles}")


class Rig:
    """A server (or cluster) with the streams of one service, and instances of that service."""

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 1,
        module: str = "tests.integration.toy_service",
        service: str = SERVICE,
        decider: Callable[[], Decider[Any]] = Counter,
        env: Mapping[str, str] | None = None,
        inbox: bool = False,
    ) -> None:
        self.directory = directory
        self._inbox = inbox
        self.service = service
        self.decider = decider
        self.cluster = NatsCluster(directory) if replicas > 1 else None
        self.server = self.cluster.nodes[0] if self.cluster else NatsServer.plain(directory / "nats")
        self.keys_dir = directory / "keys"
        self._replicas = replicas
        self._module = module
        self._env = dict(env or {})
        self._instances: dict[str, Instance] = {}
        self._buses: list[NatsBus] = []

    @property
    def url(self) -> str:
        return self.cluster.url if self.cluster else self.server.url

    async def __aenter__(self) -> Self:
        self._make_keys()
        await (self.cluster or self.server).start()
        try:
            for node in self.cluster.nodes if self.cluster else [self.server]:
                assert (await node.monitor("jsz"))["config"]["sync_always"] is True, "the running server must fsync"
            await self.provision()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def provision(self) -> None:
        """Make the streams, or verify them."""
        await provision(await self.bus("provisioner"), self.service, self._replicas, inbox=self._inbox)

    def _make_keys(self) -> None:
        self.keys_dir.mkdir(parents=True, exist_ok=True)
        fence_key = self.keys_dir / "fence.key"
        fence_key.write_bytes(secrets.token_bytes(32))
        fence_key.chmod(0o600)
        Signer.load_or_create(self.keys_dir / "signing.nk")

    async def _close(self) -> None:
        for instance in self._instances.values():
            if instance.is_running:
                instance.kill()
        for bus in self._buses:
            await bus.close()
        await (self.cluster or self.server).stop()

    def __getitem__(self, name: str) -> Instance:
        return self._instances[name]

    async def start(self, *names: str, url: str = "") -> None:
        """Start instances one after the other: the first owns (if nobody does), the others follow."""
        for name in names:
            self.launch(name, url)
            roles = ("owner", "standby")
            if len(self._instances) == 1:
                roles = ("owner", "owner")
            await self[name].is_up(roles)

    def launch(self, name: str, url: str = "") -> Instance:
        """Start one instance without waiting; one that exists is started again with its data directory."""
        if name not in self._instances:
            env = {"BURSAR_URL": url or self.url, "BURSAR_KEYS_DIR": str(self.keys_dir), **self._env}
            self._instances[name] = Instance(name, self._module, self.directory, env)
        self._instances[name].start()
        return self._instances[name]

    def owner(self) -> Instance:
        """The instance that says it owns the shard (the last one that says so)."""
        owners = [i for i in self._instances.values() if i.is_running and i.role == "owner"]
        return max(owners, key=lambda i: i.events("role_changed")[-1]["ts"])

    def standby(self) -> Instance:
        owner = self.owner()
        return next(i for i in self._instances.values() if i.is_running and i is not owner)

    async def bus(self, principal: str, url: str = "") -> NatsBus:
        """A connection that the rig closes."""
        bus = await connect((url or self.url).split(","), principal=principal)
        self._buses.append(bus)
        return bus

    async def limit_journal(self, max_bytes: int) -> int:
        """Let the journal hold no more than so many bytes (-1: as many as come); returns how many it has."""
        admin = await self.bus("admin")
        name = log_stream(self.service)
        info = json.loads((await admin.request(f"$JS.API.STREAM.INFO.{name}", b"", 5.0)).data)
        config = json.dumps({**info["config"], "max_bytes": max_bytes}).encode()
        answer = json.loads((await admin.request(f"$JS.API.STREAM.UPDATE.{name}", config, 5.0)).data)
        assert "error" not in answer, answer
        return int(info["state"]["bytes"])

    async def journal(self) -> JetStreamJournal:
        return JetStreamJournal(await self.bus(f"reader-{len(self._buses)}"), self.service)

    async def replay(self) -> Folded:
        """The state as a cold start would rebuild it: newest snapshot and the entries after it."""
        loaded = await load(await self.journal(), self.decider())
        assert loaded.damage == ""
        return loaded.follower.folded

    async def walk(self, within: float = 15.0) -> tuple[Folded, list[Entry]]:
        """The state from the whole journal, every entry's chain checked; and the entries. Tried again for so many
        seconds where it cannot be read now, as by a cluster without a leader."""
        until = time.monotonic() + within
        while True:
            try:
                return await self._walk()
            except OutcomeUnknown:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)

    async def _walk(self) -> tuple[Folded, list[Entry]]:
        follower = Follower(Folded(self.decider()))
        entries = []
        journal = await self.journal()
        async for sequence, payload in journal.read(0):
            entry = decode(payload)
            manifest = None if entry.base is None else Manifest._make(entry.base)
            restored = None if manifest is None else await read_snapshot(journal, manifest, self.decider())
            follower.follow(sequence, payload, restored)
            entries.append(entry)
        return follower.folded, entries
