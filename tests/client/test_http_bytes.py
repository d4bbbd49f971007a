"""Bytes on the network: reserved before a call, settled with what went over the socket of a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from bursar.client.limiter import ANSWER_BYTES
from tests.client.fakes import plain
from tests.client.test_http import BODY, URL, USAGE, Events, World, answer, streaming, world
from tests.client.virtual import run

ANSWER = json.dumps({"usage": USAGE, "text": "y" * 3_000}).encode()
Use = Callable[[World, httpx2.AsyncClient, str], Awaitable[None]]


class Wire:
    """A server that counts every byte of one call on its socket."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.moved = 0
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + head + b"\r\n" + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"content-length:" in head.lower():
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
        else:
            framed = await reader.readuntil(b"0\r\n\r\n")
            body = framed.split(b"\r\n")[1]
        writer.write(self._answer)
        self.moved += len(head) + len(body) + len(self._answer)
        await writer.drain()
        writer.close()


async def used_bytes(w: World) -> int | None:
    await w.fleet.limiter.background.drain(1.0)
    ((_, used),) = w.there.settled.values()
    return None if used is None else used["network_bytes"]


@asynccontextmanager
async def on_the_wire(wire: Wire) -> AsyncIterator[tuple[World, httpx2.AsyncClient, str]]:
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions?of=1"
    async with server, world() as w, w.fleet.http_client("team/gpt") as client:
        yield w, client, url


async def test_what_is_settled_is_what_went_over_the_socket() -> None:
    """Both start lines, all headers, both bodies."""
    wire = Wire(b"Content-Length: %d\r\n" % len(ANSWER), ANSWER)
    async with on_the_wire(wire) as (w, client, url):
        await client.post(url, json=BODY)
        assert await used_bytes(w) == wire.moved


async def test_a_body_without_a_length_is_counted_as_it_passes() -> None:
    """Without the frames of its chunks."""

    async def body() -> AsyncIterator[bytes]:
        yield b"z" * 5_000

    wire = Wire(b"Content-Length: %d\r\n" % len(ANSWER), ANSWER)
    async with on_the_wire(wire) as (w, client, url):
        await client.post(url, content=body())
        assert await used_bytes(w) == wire.moved


def reserved(w: World) -> int:
    return plain([request for verb, request in w.there.heard if verb == "reserve"][-1].amounts)["network_bytes"]


def test_an_answers_size_is_learned_by_model_and_whether_it_is_streamed() -> None:
    """The request's own bytes are known; the answer's are guessed until there were enough of its kind."""

    async def main() -> None:
        async with world() as w, w.client(answer(usage=USAGE, text="y" * 50_000)) as client:
            await client.post(URL, json=BODY)
            request = reserved(w) - ANSWER_BYTES
            assert 500 < request < 2_000
            for _ in range(20):
                await client.post(URL, json=BODY)
            await client.post(URL, json=BODY)
            assert 50_000 < reserved(w) - request < 52_500
            judged = {quality.model: quality for quality in w.fleet.limiter.sizes.report()}
            assert judged["m"].above_share > 0.9  # the first twenty were guessed too small
            await client.post(URL, json={**BODY, "stream": True})
            assert set(w.fleet.limiter.sizes._pairs) == {("agent-1", "m"), ("agent-1", "m streamed")}

    run(main())


@pytest.mark.parametrize(("parts", "is_more"), [(2, False), (400, True)])
def test_a_call_that_broke_off_counts_at_least_what_was_reserved(parts: int, is_more: bool) -> None:
    """The rest may be on its way; what had passed beyond that counts, too."""
    events: Any = [{"text": "y" * 100}] * parts

    async def main() -> None:
        async with world() as w, w.client(streaming(Events(*events, fail=True))) as client:
            with pytest.raises(httpx2.ReadError):
                await client.post(URL, json=BODY)
            used = await used_bytes(w)
            assert (used is not None and used > reserved(w)) if is_more else used is None

    run(main())
