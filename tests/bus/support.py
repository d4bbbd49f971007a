"""What the tests of the bus share: a bare nats-server process, and bounded waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

BINARY = Path(sys.executable).with_name("nats-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RealServer:
    """One nats-server process; ``stop`` and ``start`` keep the port."""

    def __init__(self, *args: str) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(BINARY), "-a", "127.0.0.1", "-p", str(self.port), *self._args]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError("nats-server did not open its port")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Awake:
    """Seconds that have passed here, of which one step counts at most ``step``: in a pause of the whole machine nobody
    could have noticed anything, and it is no reason to call a promise broken."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._at = time.monotonic()
        self._spent = 0.0

    def spent(self) -> float:
        """Up to now; to be asked once each step."""
        before, self._at = self._at, time.monotonic()
        self._spent += min(self._at - before, self._step)
        return self._spent


async def eventually(check: Callable[[], bool], within: float = 5.0) -> None:
    """Wait until ``check()`` is true; bounded, for what a real network does in its own time."""
    awake = Awake(0.1)
    while not check():
        if awake.spent() > within:
            raise TimeoutError(f"not within {within} s")
        await asyncio.sleep(0.01)
