"""An embedded nats-server: started, checked, killed and restarted by the program that needs it.

::

    async with NatsServer(home) as server:          # with identities, as `bursar up` runs it
        ...  server.url, server.pid

    async with NatsServer.plain(tmp_path) as server:  # no authentication: tests and benches
        ...

The server's port is free unless chosen, and stays the same over `restart`. `start` returns when JetStream is ready
and the *running* server says that it fsyncs each append: a mistake in a file cannot turn the promise off silently.
The server ends with the program that started it (`bursar.bus.server.spawn`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlsplit

from bursar.bus.identity import Home
from bursar.bus.identity.keys import write_private
from bursar.bus.server.binary import ServerError, check_version, usable_binary
from bursar.bus.server.budget import environment, machine_bytes, memory_store
from bursar.bus.server.config import ServerOptions, render, tls_of
from bursar.bus.server.lock import StoreInUse, StoreLock
from bursar.bus.server.spawn import spawn

ORPHAN_SECONDS = 3.0
"""How long a start waits for a server that its dead starter has left and that is ending."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NatsServer:
    """One nats-server process on one store. Every method may be called from any event loop."""

    def __init__(self, home: Home | None = None, *, options: ServerOptions | None = None, port: int = 0) -> None:
        if options is None:
            if home is None:
                raise ValueError("NatsServer needs a home, or options")
            options = ServerOptions(
                store=home.store_dir,
                run_dir=home.path / "run",
                port=port,
                tls=tls_of(home.path),
                max_memory_store=memory_store(machine_bytes()),
            )
        self._home = home
        self._options = options
        self._lock = StoreLock(options.run_dir / "lock", str(home.path if home else options.store))
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        self._changing = threading.Lock()  # a stop waits for a start under way, even one whose caller was cancelled

    @classmethod
    def plain(cls, directory: Path, *, port: int = 0, fsync: bool = True) -> NatsServer:
        """A server without authentication, with everything below ``directory``."""
        return cls(options=ServerOptions(directory / "jetstream", directory / "run", port=port, fsync=fsync))

    @property
    def url(self) -> str:
        scheme = "nats" if self._options.tls is None else "tls"
        return f"{scheme}://{self._options.host}:{self._ports['nats']}"

    @property
    def monitoring_url(self) -> str:
        return f"http://127.0.0.1:{self._ports['monitoring']}"

    @property
    def name(self) -> str:
        return self._options.name

    @property
    def store(self) -> Path:
        """The JetStream directory, for tests that damage or replace it."""
        return self._options.store

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("the server has not been started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self, timeout: float = 20.0) -> None:
        """Start and wait until JetStream is ready. Raises `StoreInUse` or `ServerError`."""
        await asyncio.to_thread(self._start, time.monotonic() + timeout)

    async def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM and wait; SIGKILL when that takes longer than ``timeout`` seconds. Releases the store."""
        await asyncio.to_thread(self._stop, timeout)

    async def wait(self) -> int:
        """Wait for the process to end; returns its exit status."""
        return await asyncio.to_thread(self.process.wait)

    def kill(self) -> None:
        """kill -9; the store stays locked, so that `start` can follow."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def restart(self, timeout: float = 20.0) -> None:
        """Start again on the same store and ports, whether it was killed, stopped or is running."""
        if self.running:
            await self.stop()
        await self.start(timeout)

    async def monitor(self, path: str) -> dict[str, Any]:
        """A page of the server's monitoring, for example ``jsz?streams=true``."""
        return await asyncio.to_thread(self._get, path)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _stop(self, timeout: float) -> None:
        with self._changing:
            if self.running:
                self.resume()
                self.process.terminate()
                try:
                    self.process.wait(timeout)
                except subprocess.TimeoutExpired:
                    self.kill()
            self._lock.release()

    def _start(self, deadline: float) -> None:
        with self._changing:
            self._start_alone(deadline)

    def _start_alone(self, deadline: float) -> None:
        binary = usable_binary()
        for directory in (self._options.run_dir, self._options.store):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold_lock()
        try:
            self._launch(binary)
            self._await_ports(deadline)
            self._await_ready(deadline)
            self._check_running_server()
        except BaseException:
            if self.running:
                self.kill()
            self._lock.release()
            raise
        self._lock.describe(self.pid, self.url)

    def _hold_lock(self) -> None:
        """Take the store; a server whose starter has died is about to end, and is given the time."""
        self._lock.release()
        until = time.monotonic() + ORPHAN_SECONDS
        while True:
            try:
                self._lock.acquire()
                return
            except StoreInUse:
                if not self._lock.is_orphaned or time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _launch(self, binary: Path) -> None:
        run_dir = self._options.run_dir
        for stale in run_dir.glob("*.ports"):
            stale.unlink()
        config = run_dir / "server.conf"
        trust = self._home.trust() if self._home else self._options.trust
        write_private(config, json.dumps(render(replace(self._options, trust=trust)), indent=2).encode())
        with (run_dir / "nats-server.err").open("wb") as output:
            self._process = spawn(
                [binary, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                env=environment(machine_bytes()),
                stdout=output,
                stderr=output,
                pass_fds=(self._lock.descriptor,),
                start_new_session=True,
            )

    def _await_ports(self, deadline: float) -> None:
        while True:
            self._check_alive(deadline, "it did not open its port in time")
            for path in self._options.run_dir.glob(f"*_{self.pid}.ports"):
                if ports := _read_ports(path):
                    self._ports = ports
                    self._options = replace(
                        self._options, port=ports["nats"], monitoring_port=ports["monitoring"]
                    )  # restarts keep the ports
                    return
            time.sleep(0.01)

    def _await_ready(self, deadline: float) -> None:
        while True:
            self._check_alive(deadline, "JetStream did not become ready in time")
            try:
                self._get("healthz")
                return
            except (OSError, URLError, ValueError):
                time.sleep(0.02)

    def _check_alive(self, deadline: float, late: str) -> None:
        if self.process.poll() is not None:
            raise ServerError(f"nats-server ended with status {self.process.returncode}: {self._last_words()}")
        if time.monotonic() > deadline:
            raise ServerError(f"nats-server does not start: {late}. {self._last_words()}")

    def _check_running_server(self) -> None:
        check_version(str(self._get("varz")["version"]), self.url)
        always = self._get("jsz").get("config", {}).get("sync_always", False)
        if always is not self._options.fsync:
            raise ServerError(f"{self.url} runs with sync_always {always}, not {self._options.fsync}")

    def _get(self, path: str) -> dict[str, Any]:
        with _OPENER.open(f"{self.monitoring_url}/{path}", timeout=2.0) as answer:
            return dict(json.loads(answer.read()))

    def _last_words(self) -> str:
        """The end of what the server wrote before it failed."""
        run_dir = self._options.run_dir
        texts = (p.read_text(errors="replace") for p in map(run_dir.joinpath, ("nats-server.err", "nats-server.log"))
                 if p.exists())  # fmt: skip
        lines = [line for text in texts for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if "[FTL]" in line or "[ERR]" in line or not line.startswith("[")]
        return (errors or lines or ["it said nothing"])[-1].strip()[:400] + os.linesep + f"(log: {run_dir})"


def _read_ports(path: Path) -> dict[str, int]:
    """The ports file; empty while the server is still writing it."""
    try:
        listed = json.loads(path.read_text())
        return {kind: urlsplit(listed[kind][0]).port or 0 for kind in ("nats", "monitoring")}
    except (OSError, ValueError, KeyError, IndexError):
        return {}
