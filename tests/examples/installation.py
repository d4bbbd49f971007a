"""A whole installation as a person starts it: ``bursar up`` as a process, credentials by ``mint_agent``.

What an example prints is read from its process; nothing of Bursar runs in the process of the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bursar.bus.identity import load_home, mint_agent

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 40
ROLES = {"worker": "worker", "summariser": "worker", "node": "node"}


class Installation:
    """A running `bursar up`; made by `running`."""

    def __init__(self, home: Path, *more: str) -> None:
        self.home = home
        self.log = home.with_suffix(".log")
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "bursar.cli.main", "up", "--home", str(home), "--port", "0"]
            self.process = subprocess.Popen([*command, "--context", "", *more], stdout=log, stderr=log, cwd=home.parent)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while "Bursar is up" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it as a person would; everything has ended when this returns."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.log.read_text()[-2000:]

    @property
    def url(self) -> str:
        return str(json.loads((self.home / "run" / "lock").read_text())["url"])

    def creds(self, principal: str) -> Path:
        """The credentials of a principal; made when they are not there, with the role that its name begins with."""
        home = load_home(self.home)
        if home.creds(principal).exists():
            return home.creds(principal)
        return mint_agent(home, principal, role=ROLES.get(principal.partition("-")[0], "agent"))

    def env(self, principal: str) -> dict[str, str]:
        """What a program of this principal needs in its environment."""
        place = {"BURSAR_URL": self.url, "BURSAR_HOME": str(self.home), "BURSAR_CREDS": str(self.creds(principal))}
        return {**os.environ, **place}

    def run(self, principal: str, *command: str | Path, within: float = 30, **env: str) -> str:
        """What a program prints that must end well in so many seconds."""
        done = subprocess.run(
            list(map(str, command)),
            env={**self.env(principal), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=within,
            cwd=ROOT,
        )
        assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def started(self, principal: str, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
        """A program that runs while the block runs, from its first line on; it must end well on SIGINT."""
        words = list(map(str, command))
        with subprocess.Popen(words, env=self.env(principal), stdout=subprocess.PIPE, text=True, cwd=ROOT) as program:
            try:
                assert program.stdout is not None
                assert program.stdout.readline() == "ready\n"
                yield program
                program.send_signal(signal.SIGINT)
                assert program.wait(15) == 0
            finally:
                program.kill()

    def kill_service(self, service: str) -> int:
        """kill -9 the process of a service, which `bursar up` starts again; its former pid."""
        package = f"bursar_{service.replace('-', '_')}"
        [process] = [
            child for child in psutil.Process(self.process.pid).children(recursive=True) if package in child.cmdline()
        ]
        process.kill()
        return process.pid


@contextlib.contextmanager
def running(home: Path, *more: str) -> Iterator[Installation]:
    """An installation that serves while the block runs. ``more``: options of `bursar up`."""
    installation = Installation(home, *more)
    try:
        installation.wait_until_ready()
        yield installation
        installation.stop()
    finally:
        installation.process.kill()
        installation.process.wait()


def lines_of(output: str) -> list[dict[str, Any]]:
    """The lines of JSON in what a program has printed."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]
