"""The judge as a process, for tests that talk to it over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest


@dataclass(frozen=True)
class Provider:
    """A running judge."""

    base: str

    def admin(self, page: str) -> dict[str, Any]:
        answer = httpx2.get(f"{self.base}/admin/{page}")
        answer.raise_for_status()
        value: dict[str, Any] = answer.json()
        return value

    def episode(self, kind: str, seconds: float) -> None:
        httpx2.post(f"{self.base}/admin/episode", json={"kind": kind, "seconds": seconds}).raise_for_status()


@pytest.fixture
def start_provider() -> Iterator[Callable[..., Provider]]:
    """Start judges with a configuration each; all are ended with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(**settings: Any) -> Provider:
        fast = {"first_token_ms": 5.0, "per_token_ms": 0.2, "window_ms": 2000, **settings}
        command = [sys.executable, "-m", "bursar.demo.provider", "--port", "0", "--config", json.dumps(fast)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return Provider(f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}")

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(10) == 0
        if process.stdout is not None:
            process.stdout.close()
