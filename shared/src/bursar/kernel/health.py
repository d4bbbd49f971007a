"""``/healthz`` and ``/readyz`` over HTTP, for what runs containers: Docker's HEALTHCHECK and Kubernetes' probes.

``/healthz`` answers as long as the event loop turns: a process that does not should be started again. ``/readyz``
answers 200 as long as this instance owns the journal or follows it, and both connections live, and 503 otherwise: a
rolling update waits for it. A lost connection is no reason to restart (it comes back by itself), so ``/healthz`` does
not look at it. Both say in JSON what they saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from bursar.errors import ServiceError
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


async def open_health(host: str, port: int, facts: Facts) -> asyncio.Server | None:
    """Listen on the port; None when it is 0. ``facts`` has ``ready`` and what else is worth saying. Raises
    `BursarError` (``no_health_port``) when the port is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(response(head, facts()))
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
    return await open_health(settings.health_host, settings.health_port, lambda: health_facts(service, runner, buses))


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


def response(head: bytes, facts: Mapping[str, Any]) -> bytes:
    """The whole answer to a request with this head."""
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0]
    if method not in (b"GET", b"HEAD"):
        return _page(405, "Method Not Allowed", {})
    if path == b"/healthz":
        return _page(200, "OK", facts)
    if path == b"/readyz":
        return _page(200, "OK", facts) if facts["ready"] else _page(503, "Service Unavailable", facts)
    return _page(404, "Not Found", {})


def _page(status: int, reason: str, facts: Mapping[str, Any]) -> bytes:
    body = json.dumps(dict(facts)).encode() + b"\n"
    head = (f"HTTP/1.1 {status} {reason}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "Connection: close", "", "")).encode() + body
