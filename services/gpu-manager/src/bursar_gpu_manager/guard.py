"""The probe's side that acts: it asks the manager, hears its orders, answers processes of its host, and ends some.

Processes ask at a Unix socket; the kernel itself says who they are (``SO_PEERCRED``), so that none can speak for
another. One JSON object a line, ``{"op": "enter", "lease": "1.1.7", "fence": "1.1.7.0123456789abcdef"}``, answered by
one line with ``ok``, and ``code`` and ``text`` when it is false. Cards that are only simulated have simulated
processes, which say their ``pid`` and ``started`` themselves. The rules are those of `gate`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
from pydantic import ValidationError

from bursar.bus.base import Bus, BusError
from bursar.client.notices import Notices
from bursar.contracts.base import request_subject
from bursar.contracts.gpu import SERVICE, HoldingsReply, Kill
from bursar_gpu_manager.gate import WORDS, Gate, Pid
from bursar_gpu_manager.nvml import started_at

log = logging.getLogger("bursar.gpu-node")

ASK_EVERY_MS: Final = 1_000
ANSWER_WITHIN: Final = 1.0
MAX_LINE: Final = 4_096

End = Callable[[int, int], bool]
"""End a process by pid and start; whether it was there."""


def end_process(pid: int, started: int) -> bool:
    """SIGKILL to this process and no later one with its pid: what is killed is what was looked at."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if started_at(pid) != started:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


class Guard:
    """``kills``: whether processes are ended at all (otherwise what would be ended is logged). ``simulated``: processes
    say themselves who they are."""

    def __init__(
        self, bus: Bus, gate: Gate, end: End = end_process, *, kills: bool = False, simulated: bool = False
    ) -> None:
        self.bus = bus
        self.gate = gate
        self._end = end
        self._kills = kills
        self._simulated = simulated
        self._notices = Notices(bus)
        self._asked_ms = ASK_EVERY_MS
        self._server: asyncio.Server | None = None
        self._told: set[Pid] = set()

    async def start(self, path: str = "") -> None:
        """Hear orders; with a ``path``, answer processes at a socket there."""
        await self._notices.start()
        self._notices.listen("end_processes", self._on_order)
        if path:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE)

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()
        await self._notices.close()

    # ---- the manager

    async def look(self, ms: int, seen: Iterable[Pid]) -> None:
        """So much time has passed, and these processes are on the cards."""
        self.gate.tick(ms)
        self._asked_ms += ms
        if self._asked_ms >= ASK_EVERY_MS:
            await self.ask()
        late = self.gate.overdue(seen)
        if late:
            self._finish(late, "their lease has ended")

    async def ask(self) -> bool:
        """Ask which leases there are; whether there was an answer that counts."""
        self._asked_ms = 0
        subject = request_subject(SERVICE, "holdings", self.bus.principal)
        try:
            answer = await self.bus.request(subject, msgpack.packb({"v": 1}), ANSWER_WITHIN)
            told = HoldingsReply.model_validate(msgpack.unpackb(answer.data))
        except (BusError, ValueError, ValidationError):
            return False
        return self.gate.hear(told)

    def _on_order(self, body: dict[str, Any]) -> None:
        try:
            told = Kill.model_validate(body)
        except ValidationError:
            return
        meant = self.gate.order(told)
        if meant:
            self._finish(meant, "the manager has ordered it")

    def _finish(self, processes: list[Pid], why: str) -> None:
        fresh = [process for process in processes if process not in self._told]
        if fresh:
            log.warning("end_processes", extra={"processes": fresh, "why": why, "kills": self._kills})
            self._told = (self._told if len(self._told) < MAX_LINE else set()) | set(fresh)
        if self._kills:
            self.gate.note_ended(sum(self._end(pid, started) for pid, started in processes))

    # ---- processes

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self.answer(line, _peer(writer))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line without an end
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def answer(self, line: bytes, peer: int) -> dict[str, Any]:
        """What is said to a line of the process ``peer``. What is not known is asked for first."""
        try:
            asked = json.loads(line)
            if asked["op"] != "enter":
                raise ValueError("no such operation")
            lease, fence = str(asked["lease"]), str(asked["fence"])
            pid = int(asked["pid"]) if self._simulated else peer
            started = int(asked["started"]) if self._simulated else started_at(peer)
        except (ValueError, LookupError, TypeError):
            return {"ok": False, "code": "bad_request", "text": "this cannot be understood"}
        process = (pid, -1 if started is None else started)
        if self.gate.leases.get(lease) is None or process not in self.gate.leases[lease].processes:
            await self.ask()
        why = self.gate.enter(lease, fence, process)
        return {"ok": True} if not why else {"ok": False, "code": why, "text": WORDS[why]}


def _peer(writer: asyncio.StreamWriter) -> int:
    """The pid of who has connected, as the kernel knows it."""
    connection: socket.socket = writer.get_extra_info("socket")
    pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return pid
