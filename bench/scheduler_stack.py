"""A NATS server and instances of the scheduler (owner and standby), as processes, and a client that costs little.

`Wire` speaks the NATS protocol over one socket and nothing else: with three processes on two cores a full client would
be what is measured. It waits for answers by the number at the end of their subject, and hands notices to a function.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import msgpack  # type: ignore[import-untyped]

from bench.figures import say
from bursar.bus.connection import connect
from bursar.bus.server import NatsServer, provision

HELLO = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"protocol":1,"lang":"bench","version":"1"}\r\n'

AGAIN = {"not_ready", "NATS/1.0 503"}
"""Errors after which clients ask again: no owner just now, or too much to do."""


class Refused(Exception):
    """The scheduler answered with an error; the text is its code."""


class Wire(asyncio.Protocol):
    """``notice``: is given the body of each notice to a worker or a submitter, with the principal."""

    def __init__(self) -> None:
        self.notice: Callable[[str, dict[str, Any]], None] = lambda _principal, _body: None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._heard: set[str] = set()
        self._in = b""
        self._out: list[bytes] = []
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, url: str) -> Self:
        address = urlsplit(url)
        _, wire = await asyncio.get_running_loop().create_connection(
            cls, address.hostname or "127.0.0.1", address.port or 4222
        )
        wire._send(HELLO + b"SUB bursar.assign.> 1\r\n")
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def close(self) -> None:
        self._transport.close()

    def ask_now(self, space: str, verb: str, principal: str, body: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Send a request; the answer comes by the future, which fails with `Refused`."""
        self._number += 1
        number = self._number
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        if principal not in self._heard:
            self._heard.add(principal)
            self._send(f"SUB _R.{principal}.* {len(self._heard) + 1}\r\n".encode())
        payload = msgpack.packb(body)
        head = f"PUB bursar.{space}.scheduler.{verb}.{principal} _R.{principal}.{number} {len(payload)}\r\n"
        self._send(b"%s%s\r\n" % (head.encode(), payload))
        return future

    async def ask(
        self, space: str, verb: str, principal: str, body: dict[str, Any], timeout: float = 10.0
    ) -> dict[str, Any]:
        return await asyncio.wait_for(self.ask_now(space, verb, principal, body), timeout)

    async def until_answered(
        self, space: str, verb: str, principal: str, body: dict[str, Any], within: float = 30.0, each: float = 1.0
    ) -> dict[str, Any]:
        """Ask with the same id until there is an answer, as clients do."""
        deadline = time.perf_counter() + within
        while True:
            try:
                return await self.ask(space, verb, principal, body, each)
            except TimeoutError:
                if time.perf_counter() > deadline:
                    raise TimeoutError(f"{verb} of {principal} was not answered within {within} s") from None
            except Refused as refused:
                if str(refused) not in AGAIN or time.perf_counter() > deadline:
                    raise
                await asyncio.sleep(0.02)

    def tell(self, subject: str, body: dict[str, Any]) -> None:
        """A plain publish."""
        payload = msgpack.packb(body)
        self._send(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(payload), payload))

    def _send(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        data = self._in + data
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            if line.startswith((b"MSG", b"HMSG")):
                words = line.split()
                size = int(words[-1])
                if len(data) < end + 2 + size + 2:
                    break
                heads = int(words[-2]) if line[:1] == b"H" else 0
                self._hear(words[1], data[end + 2 : end + 2 + heads], data[end + 2 + heads : end + 2 + size])
                at = end + 2 + size + 2
                continue
            if line == b"PING":
                self._send(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise RuntimeError(line.decode())
            at = end + 2
        self._in = data[at:]

    def _hear(self, subject: bytes, heads: bytes, body: bytes) -> None:
        if not subject.startswith(b"_R."):
            self.notice(subject.rpartition(b".")[2].decode(), msgpack.unpackb(body))
            return
        future = self._waiting.pop(int(subject.rpartition(b".")[2]), None)
        if future is None or future.done():
            return
        if heads:
            future.set_exception(Refused(_code(heads)))
        else:
            future.set_result(msgpack.unpackb(body))


def _code(heads: bytes) -> str:
    """The code of an ADR-32 error, or the first line of another one's headers."""
    lines = heads.decode(errors="replace").split("\r\n")
    told = [line.partition(": ")[2] for line in lines if line.startswith("Nats-Service-Error:")]
    return told[0].partition(":")[0] if told else lines[0]


class SchedulerStack:
    """``async with SchedulerStack(directory) as stack``: a server, and what `start` starts; ends all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.server = NatsServer.plain(directory / "nats")
        self.instances: dict[str, subprocess.Popen[bytes]] = {}
        self.log = directory / "scheduler.log"

    async def __aenter__(self) -> Self:
        await self.server.start()
        bus = await connect(self.server.url, principal="provisioner")
        await provision(bus, "scheduler", inbox=True)
        await bus.close()
        keys = self._directory / "keys"
        keys.mkdir()
        (keys / "fence.key").write_bytes(secrets.token_bytes(32))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for name in list(self.instances):
            self.kill(name)
        if error is not None and self.log.exists():
            say(self.log.read_text()[-2_000:])
        await self.server.stop()

    def start(self, name: str) -> None:
        environment = {
            **os.environ,
            "BURSAR_URL": self.server.url,
            "BURSAR_KEYS_DIR": str(self._directory / "keys"),
            "BURSAR_DATA_DIR": str(self._directory / name),
            "BURSAR_INSTANCE": name,
            "BURSAR_SCHEDULER_MAX_TASKS": "1000000",
            "BURSAR_SCHEDULER_MAX_TASKS_PER_PRINCIPAL": "1000000",
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "bursar_scheduler"]
            self.instances[name] = subprocess.Popen(command, env=environment, stderr=log)

    def kill(self, name: str) -> None:
        process = self.instances.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    async def until_standby(self, name: str, within: float = 20.0) -> None:
        """Wait until an instance has loaded the journal and stands by."""
        deadline = time.perf_counter() + within
        while time.perf_counter() < deadline:
            lines = self.log.read_bytes().splitlines()
            told = [line for line in lines if b'"role_changed"' in line and f'"instance":"{name}"'.encode() in line]
            if told and b'"role":"standby"' in told[-1]:
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{name} does not stand by; see {self.log}")
