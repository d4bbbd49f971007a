"""What is told over HTTP to whatever runs containers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from bursar.errors import BursarError
from bursar.kernel.health import open_health, response

READY: Mapping[str, Any] = {"service": "limiter", "ready": True}
NOT_READY: Mapping[str, Any] = {"service": "limiter", "ready": False}


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("line", "facts", "expected"),
    [
        (b"GET /healthz HTTP/1.1", NOT_READY, 200),
        (b"GET /readyz HTTP/1.1", READY, 200),
        (b"HEAD /readyz HTTP/1.0", READY, 200),
        (b"GET /readyz HTTP/1.1", NOT_READY, 503),
        (b"GET /metrics HTTP/1.1", READY, 404),
        (b"POST /readyz HTTP/1.1", READY, 405),
        (b"\xff\x00", READY, 405),
        (b"", READY, 405),
    ],
)
def test_healthz_says_alive_and_readyz_says_serving(line: bytes, facts: Mapping[str, Any], expected: int) -> None:
    """Liveness does not look at the connection, readiness does; nothing else is answered."""
    assert status(response(line + b"\r\n\r\n", facts)) == expected


def test_metrics_are_served_where_there_are_some() -> None:
    """As text, in Prometheus' own format."""
    head, _, body = response(b"GET /metrics HTTP/1.1\r\n\r\n", NOT_READY, lambda: "a 1\n").partition(b"\r\n\r\n")
    assert status(head) == 200
    assert b"text/plain; version=0.0.4" in head
    assert body == b"a 1\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def test_it_answers_with_what_it_saw_at_that_moment_and_closes() -> None:
    """Each question looks again."""
    port, seen = free_port(), [READY, NOT_READY]
    server = await open_health("127.0.0.1", port, lambda: seen.pop(0))
    assert server is not None
    for expected in (200, 503):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.read()
        assert status(answer) == expected
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["service"] == "limiter"
        writer.close()
    server.close()


async def test_who_asks_too_much_or_goes_is_let_go() -> None:
    """And the next one is answered."""
    port = free_port()
    server = await open_health("127.0.0.1", port, lambda: READY)
    assert server is not None
    for said in (b"GET /" + b"x" * 100_000, b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert status(await reader.read()) == 200
    writer.close()
    server.close()


async def test_a_port_that_is_taken_is_an_error_with_its_own_code_and_port_0_is_none() -> None:
    """The process ends and says why, rather than run unseen."""
    assert await open_health("127.0.0.1", 0, lambda: READY) is None
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BursarError) as refused:
        await open_health("127.0.0.1", taken.getsockname()[1], lambda: READY)
    assert refused.value.code == "no_health_port"
