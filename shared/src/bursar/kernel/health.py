"""``/healthz``, ``/readyz`` and ``/metrics`` over HTTP, for what runs containers (Docker's HEALTHCHECK, Kubernetes'
probes) and for Prometheus.

``/healthz`` answers as long as the event loop turns: a process that does not should be started again. ``/readyz``
answers 200 as long as this instance owns the journal or follows it, and both connections live, and 503 otherwise: a
rolling update waits for it. A lost connection is no reason to restart (it comes back by itself), so ``/healthz`` does
not look at it. Both say in JSON what they saw. ``/metrics`` is for Prometheus (`bursar.kernel.exposition`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from bursar.errors import ServiceError
from bursar.kernel.exposition import KIND, metrics_of
from bursar.kernel.roles import Role

if TYPE_CHECKING:
    from bursar.bus.connection import NatsBus
    from bursar.bus.micro import Service
    from bursar.kernel.runner import ShardRunner
    from bursar.kernel.settings import ServiceSettings

READY: Final = frozenset({Role.OWNER, Role.STANDBY})
ASK_SECONDS: Final = 2.0
"""How long a caller may take to ask."""
_LONGEST: Final = 8_192

Facts = Callable[[], Mapping[str, Any]]
Metrics = Callable[[], str]


async def open_health(host: str, port: int, facts: Facts, metrics: Metrics | None = None) -> asyncio.Server | None:
    """Listen on the port; None when it is 0. ``facts`` has ``ready`` and what else is worth saying, ``metrics`` is the
    text for Prometheus. Raises `BursarError` (``no_health_port``) when the port is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(response(head, facts(), metrics))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it asked nothing, or has gone
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    if port == 0:
        return None
    try:
        return await asyncio.start_server(answer, host, port, limit=_LONGEST)
    except OSError as error:
        raise ServiceError("no_health_port", f"cannot listen on {host}:{port}: {error.strerror}") from None


async def serve_health(
    settings: ServiceSettings, service: Service, runner: ShardRunner, buses: Iterable[NatsBus]
) -> asyncio.Server | None:
    """As the settings say, for one instance."""
    return await open_health(
        settings.health_host, settings.health_port, lambda: health_facts(service, runner, buses),
        lambda: metrics_of(service),
    )  # fmt: skip


def health_facts(service: Service, runner: ShardRunner, buses: Iterable[NatsBus]) -> Mapping[str, Any]:
    """What is said of an instance."""
    role, is_connected = runner.replica.role, all(bus.is_connected for bus in buses)
    return {
        "service": service.name,
        "instance": service.id,
        "role": role.value,
        "connected": is_connected,
        "ready": is_connected and role in READY,
    }


def response(head: bytes, facts: Mapping[str, Any], metrics: Metrics | None = None) -> bytes:
    """The whole answer to a request with this head."""
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0]
    if method not in (b"GET", b"HEAD"):
        return _page(405, "Method Not Allowed", {})
    if path == b"/healthz":
        return _page(200, "OK", facts)
    if path == b"/readyz":
        return _page(200, "OK", facts) if facts["ready"] else _page(503, "Service Unavailable", facts)
    if path == b"/metrics" and metrics is not None:
        return _sent(200, "OK", KIND, metrics().encode())
    return _page(404, "Not Found", {})


def _page(status: int, reason: str, facts: Mapping[str, Any]) -> bytes:
    return _sent(status, reason, "application/json", json.dumps(dict(facts)).encode() + b"\n")


def _sent(status: int, reason: str, kind: str, body: bytes) -> bytes:
    head = (f"HTTP/1.1 {status} {reason}", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "Connection: close", "", "")).encode() + body
