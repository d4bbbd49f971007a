"""A small port through which other processes use simulated cards, as they would use real ones through a driver.

One JSON object per line, answered by one line: ``{"op": "start", "host": "gpu-1"}``. A simulated process belongs to the
connection that started it and ends with it, so that a worker that is killed loses its memory at once.

| op | fields | answer |
|---|---|---|
| ``start`` | host, foreign (optional) | pid, started |
| ``allocate`` ``free`` | host, pid, device, bytes | |
| ``exit`` | host, pid | |
| ``work`` | host, pid, device, sm (per cent), bandwidth (GB/s) | |
| ``is_alive`` | host, pid, started | alive |
| ``lose`` ``restore`` ``hide`` ``fail`` | host, device | |
| ``judge`` | | for each host: violations, out_of_memory, allocations, devices |

Every answer has ``ok``; when it is false, ``code`` and ``text``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from bursar.errors import BursarError, CallerError
from bursar_gpu_manager.simulated import SimulatedHost

MAX_LINE: Final = 65_536
Owned = set[tuple[str, int]]


class Control:
    """Serves the simulated hosts of this process, by name."""

    def __init__(self, hosts: Mapping[str, SimulatedHost]) -> None:
        self.hosts = dict(hosts)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._ops: dict[str, Callable[[dict[str, Any], Owned], dict[str, Any]]] = {
            "start": self._start,
            "allocate": self._allocate,
            "free": self._free,
            "exit": self._exit,
            "lose": lambda asked, _: self._card(asked, SimulatedHost.lose),
            "restore": lambda asked, _: self._card(asked, SimulatedHost.restore),
            "fail": lambda asked, _: self._card(asked, SimulatedHost.fail_next),
            "work": self._work,
            "is_alive": self._is_alive,
            "hide": lambda asked, _: self._card(asked, SimulatedHost.hide_processes),
            "judge": lambda _asked, _owned: {"hosts": {name: judged(host) for name, host in self.hosts.items()}},
        }

    async def start(self, address: str = "127.0.0.1:0") -> str:
        """Listen at ``HOST:PORT`` (port 0: any) or, if there is a slash in it, at a Unix socket; the real address."""
        if "/" in address:
            self._server = await asyncio.start_unix_server(self._serve, address, limit=MAX_LINE)
            return address
        host, _, port = address.rpartition(":")
        self._server = await asyncio.start_server(self._serve, host or "127.0.0.1", int(port), limit=MAX_LINE)
        name, number = self._server.sockets[0].getsockname()[:2]
        return f"{name}:{number}"

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in list(self._writers):
            writer.close()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        owned: Owned = set()
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(line, owned)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line without an end
        finally:
            for host, pid in owned:
                self.hosts[host].exit(pid)
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def answer(self, line: bytes, owned: Owned) -> dict[str, Any]:
        """What is said to one line; ``owned``: the processes of its connection, as (host, pid)."""
        try:
            asked = json.loads(line)
            op = self._ops[asked["op"]]
            return {"ok": True, **op(asked, owned)}
        except BursarError as error:
            return {"ok": False, "code": error.code, "text": error.text}
        except (ValueError, LookupError, TypeError):
            return {"ok": False, "code": "bad_request", "text": "this cannot be understood"}

    def _host(self, asked: dict[str, Any]) -> SimulatedHost:
        host = self.hosts.get(asked["host"])
        if host is None:
            raise CallerError("bad_request", f"there is no host {asked['host']!r} here")
        return host

    def _start(self, asked: dict[str, Any], owned: Owned) -> dict[str, Any]:
        host = self._host(asked)
        pid, started = host.start(foreign=bool(asked.get("foreign")))
        owned.add((host.name, pid))
        return {"pid": pid, "started": started}

    def _allocate(self, asked: dict[str, Any], owned: Owned) -> dict[str, Any]:
        self._host(asked).allocate(int(asked["pid"]), str(asked["device"]), int(asked["bytes"]))
        return {}

    def _free(self, asked: dict[str, Any], owned: Owned) -> dict[str, Any]:
        self._host(asked).free(int(asked["pid"]), str(asked["device"]), int(asked["bytes"]))
        return {}

    def _work(self, asked: dict[str, Any], owned: Owned) -> dict[str, Any]:
        load = (int(asked["sm"]), int(asked["bandwidth"]))
        self._host(asked).work(int(asked["pid"]), str(asked["device"]), *load)
        return {}

    def _is_alive(self, asked: dict[str, Any], owned: Owned) -> dict[str, Any]:
        return {"alive": self._host(asked).is_alive(int(asked["pid"]), int(asked["started"]))}

    def _exit(self, asked: dict[str, Any], owned: Owned) -> dict[str, Any]:
        host, pid = self._host(asked), int(asked["pid"])
        host.exit(pid)
        owned.discard((host.name, pid))
        return {}

    def _card(self, asked: dict[str, Any], change: Callable[[SimulatedHost, str], None]) -> dict[str, Any]:
        change(self._host(asked), str(asked["device"]))
        return {}


def judged(host: SimulatedHost) -> dict[str, Any]:
    """What the simulated driver has counted, whoever granted what."""
    return {
        "violations": len(host.violations),
        "out_of_memory": host.out_of_memory,
        "allocations": host.allocations,
        "devices": {
            uuid: {"total": device.total, "used": device.used, "most_used": device.most_used, "lost": device.lost}
            for uuid, device in host.devices.items()
        },
    }
