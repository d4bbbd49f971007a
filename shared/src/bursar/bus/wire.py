"""A leaner nats-py client: the same protocol and reconnection, with synchronous publishing and delivery.

Four things of nats-py 2.16 are replaced, each because of something measured or read in its source:

- *Publishing* there is a coroutine that awaits two more, creates a future and wakes a flusher task. Here a command is
  appended to the same buffer (`_pending`, so that the order with nats-py's own SUB, UNSUB and PONG holds) and one
  callback per turn of the event loop writes the buffer out. The flusher task stays for nats-py's own commands; both
  swap the buffer without awaiting in between, so neither can lose or repeat a command.
- *Delivery* there goes through a queue and a task per subscription. Here a subscription with a plain callable is
  called straight from the parser (`bursar.bus.parser`), in the order of arrival across all subscriptions. There is
  no queue in between that could overflow: a process that is too slow is cut by the server and counts a disconnect.
- *Reading* there wakes a task, one turn of the loop after the bytes have come. Here plain frames are handled in the
  turn in which they come; only what is not plain goes through the stream and its task.
- *Failures*. A PONG that comes after its waiter gave up raises inside the read loop and ends it, while the client
  still says that it is connected. Closing a stalled connection waits until its unsent bytes are sent, which is for
  ever. A failed attempt leaves its socket open. What was buffered before a disconnect is sent after it. A flush
  writes its PING before the commands that it should confirm. A reconnection task that meets an unexpected exception
  ends and is not made again. A write between the end of a socket and the turn in which nats-py hears of it raises
  on uvloop (asyncio drops it), wherever it was made. All are overridden below.

Everything here relies on names inside nats-py that start with an underscore; the lock files pin the version, and
`tests/bus/test_connection.py` fails when one of them is gone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol import command

from bursar.bus.base import Message, NotConnected
from bursar.bus.gather import Gathering
from bursar.bus.parser import FastParser
from bursar.errors import CallerError

MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that the socket has not taken yet; beyond it the connection counts as gone for whoever wants to publish."""

_BAD_VALUE = str.maketrans({"\r": " ", "\n": " "})
_HEADER_KEY = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


Deliver = Callable[[Message], None]


class SocketEnded(nats_errors.Error, RuntimeError):
    """The socket is closed and the client does not know it yet. An error of nats-py for who waits for a flush; and a
    RuntimeError, by which nats-py's own task of PINGs ends quietly (the next connection has another)."""


class WireClient(Client):
    """nats-py's client with the overrides above. ``lost`` is called at once when the connection breaks. ``gather_s``:
    see `bursar.bus.gather`; 0 reads at once."""

    def __init__(self, lost: Callable[[], None], failed: Callable[[BaseException], None], gather_s: float = 0) -> None:
        super().__init__()
        self.gather_s = gather_s
        self._direct: dict[int, Deliver] = {}
        self._lost = lost
        self._failed = failed
        self._kicked = False
        self._allowed = 2**63
        self._loop = asyncio.get_running_loop()
        self.late_pongs = 0
        self.after_read: list[Callable[[], None]] = []
        """Called after each read; must not raise."""
        self._ps = self._parser = FastParser(self, self._frame, self.after_read)

    # -- publishing

    def publish_now(self, subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None) -> None:
        """Queue one message for this turn's write. Raises `NotConnected`, or `CallerError` (``too_large``)."""
        if self._status != Client.CONNECTED:
            raise NotConnected("there is no connection")
        if len(payload) > self._max_payload:
            raise CallerError("too_large", f"the server takes at most {self._max_payload} bytes", size=len(payload))
        if not subject or _has_space(subject) or (reply and _has_space(reply)):
            raise CallerError("bad_request", "a subject must not be empty or hold white space")
        if headers is None:
            data = f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"
        else:
            data = command.hpub_cmd(subject, reply, _header_block(headers), payload)
        if not self._pending and (unsent := self._unsent()) > MAX_UNSENT:
            raise NotConnected("the server does not take what is sent", unsent=unsent)
        self._pending.append(data)
        self._pending_data_size += len(data)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self.write_out)

    def cork(self) -> None:
        """Let `publish_now` queue only: the caller is going to `write_out` in this turn."""
        self._kicked = True

    def write_out(self) -> None:
        """Hand to the socket what was published; by itself at the end of the turn of the loop."""
        self._kicked = False
        if self._status != Client.CONNECTED or self._transport is None or not self._pending or self._has_ended():
            return  # what is left was dropped, or is dropped, when the connection broke
        pending, self._pending = self._pending, []
        self._pending_data_size = 0
        self._transport.writelines(pending)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self.write_out()  # so that the PONG says that all this has arrived
        if self._has_ended():
            raise SocketEnded("the connection broke")
        await super()._send_ping(future)

    def _socket(self) -> asyncio.Transport | None:
        writer = getattr(self._transport, "_io_writer", None)
        return None if writer is None else writer.transport

    def _has_ended(self) -> bool:
        socket = self._socket()
        return socket is not None and socket.is_closing()

    def _unsent(self) -> int:
        socket = self._socket()
        return 0 if socket is None else socket.get_write_buffer_size()

    # -- delivery

    async def subscribe_direct(self, subject: str, queue: str, deliver: Deliver) -> Subscription:
        """Subscribe with a plain callable; it must not raise and must return quickly."""
        waiter: asyncio.Future[Any] = self._loop.create_future()  # never resolved: keeps nats-py from making a queue
        self._direct[self._sid + 1] = deliver  # nats-py numbers subscriptions by one, before its first await
        return await self.subscribe(subject, queue=queue, future=waiter)

    async def unsubscribe_direct(self, sub: Subscription, *, keep: bool = False) -> None:
        """End interest at the server; with ``keep`` what is on its way is still delivered until `forget`."""
        if not keep:
            self.forget(sub)
        if self._status == Client.CONNECTED:
            await self._send_unsubscribe(sub._id)

    def forget(self, sub: Subscription) -> None:
        self._direct.pop(sub._id, None)
        self._remove_sub(sub._id)

    def _frame(self, sid: int, subject: str, reply: str, data: bytes) -> bool:
        deliver = self._direct.get(sid)
        if deliver is None:
            return False
        stats = self.stats
        stats["in_msgs"] += 1
        stats["in_bytes"] += len(data)
        try:
            deliver(Message(subject, reply, data))
        except Exception as error:  # noqa: BLE001 - nothing a handler does may end the read loop
            self._failed(error)
        return True

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        deliver = self._direct.get(sid)
        if deliver is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        stats = self.stats
        stats["in_msgs"] += 1
        stats["in_bytes"] += len(data)
        try:
            told = parse_headers(headers) if headers else None
            deliver(Message(subject.decode("utf-8", "replace"), reply.decode("utf-8", "replace"), data, told))
        except Exception as error:  # noqa: BLE001 - nothing a handler does may end the read loop
            self._failed(error)

    async def _read_loop(self) -> None:
        self._parser.begin()
        reader, socket = getattr(self._transport, "_io_reader", None), self._socket()
        if reader is not None:
            feed = reader.feed_data
            gathering = Gathering(socket, self._loop, self.gather_s) if socket is not None and self.gather_s else None

            def feed_data(data: bytes) -> None:
                rest = data if reader._buffer else self._parser.take(data)
                if rest:
                    feed(rest)
                if gathering is not None:
                    gathering.was_read()

            reader.feed_data = feed_data
        await super()._read_loop()

    # -- failures

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():  # its waiter gave up; nats-py would raise and end the read loop
            self._pongs.pop(0)
            self.late_pongs += 1
            self._pongs_received += 1
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        """A token that has come to its end is no end for who has another one by now; any other error is."""
        if "authentication expired" in err_msg.lower() and self.options.get("token") is not None:
            await self._process_op_err(nats_errors.StaleConnectionError())
            return
        await super()._process_err(err_msg)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await super()._process_info(info, initial_connection)
        if not initial_connection and "max_payload" in info:  # what this user may send, told after the login
            self._max_payload = self._allowed = info["max_payload"]

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        self._max_payload = min(self._max_payload, self._allowed)  # more would end the connection for ever

    async def _attempt_reconnect(self) -> None:
        self.abort()
        self._pending = []
        self._pending_data_size = 0
        self._lost()
        await super()._attempt_reconnect()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if self._has_ended():
            self._pending, self._pending_data_size = [], 0
        await super()._close(status, do_cbs)

    async def _connect_to_server(self, s: Any) -> None:
        self.abort()  # an attempt that got no further leaves its socket open
        await super()._connect_to_server(s)

    def revive(self) -> None:
        """Start a reconnection if none is under way although there should be."""
        task = self._reconnection_task
        if self._status == Client.RECONNECTING and (task is None or task.done()):
            self._reconnection_task = self._loop.create_task(self._attempt_reconnect())

    def abort(self) -> None:
        """Drop the socket without waiting for what could not be sent."""
        socket = self._socket()
        if socket is not None:
            with suppress(AttributeError):  # Python 3.11.2 raises it for an encrypted socket that has ended already
                socket.abort()

    @property
    def is_reading(self) -> bool:
        return self._reading_task is not None and not self._reading_task.done()


def _has_space(subject: str) -> bool:
    """White space would end a subject, and begin another field or line of the protocol. Half the price of a regular
    expression, for each answer."""
    return " " in subject or "\t" in subject or "\r" in subject or "\n" in subject


def parse_headers(raw: bytes) -> dict[str, str] | None:
    """A NATS header block; the status of an inline status line is under ``Status``, its words under ``Description``.

    Total: whatever cannot be read is left out.
    """
    lines = raw.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    status = lines[0][8:].strip()
    if status:
        headers["Status"] = status[:3]
        if len(status) > 4:
            headers["Description"] = status[4:]
    for line in lines[1:]:
        key, colon, value = line.partition(":")
        if colon and key:
            headers[key.strip()] = value.strip()
    return headers or None


def _header_block(headers: Mapping[str, str]) -> bytes:
    lines = ["NATS/1.0"]
    for key, value in headers.items():
        if not _HEADER_KEY.fullmatch(key):
            raise CallerError("bad_request", "a header name is not a token")
        lines.append(f"{key}: {value.strip().translate(_BAD_VALUE)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
