"""A connection that is cut while it is written to: on both event loops nothing raises where nobody expects it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop
from nats import errors as nats_errors

from bursar.bus.base import NotConnected
from bursar.bus.wire import WireClient

INFO = b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"headers":true,"host":"h","port":1,"proto":1}'


class Stub:
    """Greets, answers PINGs, and cuts all connections when told to."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(INFO + b"\r\n")
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Stub, WireClient]]:
    stub = Stub()
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = WireClient(lambda: None, lambda _: None)
    await client.connect(f"nats://127.0.0.1:{port}", error_cb=_ignored, max_reconnect_attempts=-1)
    yield stub, client
    server.close()
    await client.close()


async def _ignored(_: Exception) -> None:
    """What nats-py tells is not the subject here."""


async def cut_while_writing() -> tuple[list[Any], list[BaseException]]:
    """What reached the event loop's handler, and what flushes between the end and the notice of it raised."""
    loop, raised, flushed = asyncio.get_running_loop(), list[Any](), list[BaseException]()
    loop.set_exception_handler(lambda _, context: raised.append(context))
    async with connected() as (stub, client):
        async with asyncio.timeout(5):
            stub.cut()
            while client.is_connected:
                with contextlib.suppress(NotConnected):
                    client.publish_now("t.x", b"x", "", None)
                if client._has_ended() and client.is_reading:
                    try:
                        await client.flush(1)
                    except Exception as error:  # noqa: BLE001 - the kind of error is what is asked
                        flushed.append(error)
                await asyncio.sleep(0)
    return raised, flushed


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_write_to_a_socket_that_has_just_ended_fails_nobody(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A service ends when its event loop is told of an error: the cut of a connection must not be one."""
    with asyncio.Runner(loop_factory=loop) as runner:
        raised, flushed = runner.run(cut_while_writing())
    assert raised == []
    assert {isinstance(error, nats_errors.Error) for error in flushed} <= {True}


class Forgetful:
    """What Python 3.11.2 has in the place of an encrypted socket that has ended."""

    def abort(self) -> None:
        raise AttributeError("'NoneType' object has no attribute '_abort'")


class Held:
    """The part of nats-py's transport that holds a writer, which holds the socket."""

    def __init__(self) -> None:
        self._io_writer = self
        self.transport = Forgetful()


async def test_an_encrypted_socket_that_has_ended_is_dropped_in_silence() -> None:
    """An error there would end each attempt to reconnect."""
    client = WireClient(lambda: None, lambda _: None)
    client._transport = Held()  # type: ignore[assignment]
    client.abort()
