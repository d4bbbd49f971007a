"""Redis and the peers as processes of this run.

Redis comes from the system's packages: when it is missing and this is root on a Debian-like machine it is installed,
otherwise `Missing` says what to do. Nothing is left out silently: a peer that cannot run here is named with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
NEEDS_NEWER = {"token_throttle": (3, 12)}
"""The oldest Python that a peer can be installed for."""


class Missing(Exception):
    """Something that this benchmark needs is not here; the text says how to get it."""


def redis_server() -> str:
    """The program, installed if need be."""
    found = shutil.which("redis-server")
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing("redis-server is missing. On Debian or Ubuntu: apt-get install redis-server")
    print("installing redis-server with apt-get", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "redis-server"]
    for command in (install, ["apt-get", "update", "-qq"], install):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0:
            found = shutil.which("redis-server")
            if found:
                return found
    raise Missing("apt-get could not install redis-server")


class Redis:
    """``with Redis() as redis``: a server of its own on a free port, that stores nothing."""

    def __init__(self) -> None:
        self.program = redis_server()
        self.port = 0

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="bursar-bench-redis-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [self.program, *options, "--dir", self._directory.name], stdout=subprocess.DEVNULL
        )
        for _ in range(500):
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                time.sleep(0.01)
            else:
                return self
        self._end()
        raise Missing("redis-server does not start")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()


class Peers:
    """The environment of the peers. ``python``: its interpreter."""

    def __init__(self, python: Path, redis: Redis) -> None:
        if not python.exists():
            raise Missing(f"{python} is missing: `make bench-limiter` makes it")
        self._python = python
        self._port = redis.port

    def cannot_run(self, peer: str) -> str | None:
        """Why a peer cannot be measured here; None when it can."""
        needed = NEEDS_NEWER.get(peer)
        if needed and sys.version_info < needed:
            here = ".".join(map(str, sys.version_info[:3]))
            return f"needs Python >= {needed[0]}.{needed[1]}, this is {here}"
        return None

    def version(self, package: str) -> str:
        program = f"from importlib.metadata import version; print(version({package!r}))"
        answer = subprocess.run([self._python, "-c", program], stdout=subprocess.PIPE, check=True)
        return answer.stdout.decode().strip()

    def speed(self, peer: str, seconds: float) -> dict[str, float]:
        """Acquires per second, p50 and p99 in µs."""
        return dict(self._play(peer, "speed", seconds))

    def judged(self, peer: str, seconds: float, limit: int, window: int, seed: int) -> list[tuple[int, int]]:
        """What it admits under `bench.limiter_shape.attempts`: when (µs) and how much."""
        return [(at, amount) for at, amount in self._play(peer, "judged", seconds, limit, window, seed)["admitted"]]

    def _play(self, peer: str, *arguments: object) -> Any:
        command = [str(self._python), "-m", "bench.peers.play", peer, str(self._port), *map(str, arguments)]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if answer.returncode:
            raise RuntimeError(f"{peer} failed: {answer.stderr.decode(errors='replace')[-800:]}")
        return json.loads(answer.stdout.splitlines()[-1])
