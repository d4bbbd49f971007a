"""The network in one process: the same semantics as `NatsBus`, without a server, sockets or waiting.

Messages are delivered in order of publication, each in its own turn of the event loop (``call_soon``), never inside
`publish`; so a handler never runs inside its caller, as over a real network. Wildcards, queue groups, no-responders,
time-outs, disconnects and permissions behave as on the server. `MemoryNetwork.deliver` may be replaced by a test that
wants to delay, drop, repeat or reorder.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

from bursar.bus.answers import Answers
from bursar.bus.base import (
    ConnectFailed,
    Handler,
    Message,
    Msg,
    NotConnected,
    PermissionDenied,
    Then,
)
from bursar.bus.subjects import is_publishable, is_subscribable, matches
from bursar.errors import CallerError


class MemorySub:
    """One subscription; ended by `unsubscribe` or `drain`."""

    __slots__ = ("bus", "ended", "handler", "queue", "subject")

    def __init__(self, bus: MemoryBus, subject: str, handler: Handler, queue: str) -> None:
        self.bus = bus
        self.subject = subject
        self.handler = handler
        self.queue = queue
        self.ended = False

    async def unsubscribe(self) -> None:
        self.ended = True
        self.bus.network.remove(self)

    async def drain(self) -> None:
        self.bus.network.remove(self)
        if self.bus.is_connected:
            await self.bus.flush()  # what was published before is delivered by then
        self.ended = True


class MemoryNetwork:
    """The server: knows the subscriptions and routes. ``seed`` drives the choice within queue groups."""

    def __init__(self, seed: int = 0, max_payload: int = 1_048_576) -> None:
        self.max_payload = max_payload
        self.up = True
        self._subs: list[MemorySub] = []
        self._random = random.Random(seed)
        self.buses: list[MemoryBus] = []

    def connect(self, principal: str) -> MemoryBus:
        """A connection as ``principal``; raises `ConnectFailed` while the network is down."""
        if not self.up:
            raise ConnectFailed("nobody listens there")
        bus = MemoryBus(self, principal)
        self.buses.append(bus)
        return bus

    def stop(self) -> None:
        """The server is gone: every connection breaks."""
        self.up = False
        for bus in list(self.buses):
            bus.disconnect()

    def start(self) -> None:
        """The server is back: every connection that was not closed comes back with its subscriptions."""
        self.up = True
        for bus in list(self.buses):
            bus.reconnect()

    def add(self, sub: MemorySub) -> None:
        self._subs.append(sub)

    def remove(self, sub: MemorySub) -> None:
        if sub in self._subs:
            self._subs.remove(sub)

    def hears(self, subject: str) -> list[MemorySub]:
        """Who gets a message: every plain subscription, and one member of each queue group."""
        groups: dict[tuple[str, str], list[MemorySub]] = {}
        chosen = []
        for sub in self._subs:
            if sub.bus.is_connected and matches(sub.subject, subject):
                if sub.queue:
                    groups.setdefault((sub.queue, sub.subject), []).append(sub)
                else:
                    chosen.append(sub)
        chosen += [self._random.choice(members) for members in groups.values()]
        return chosen

    def route(self, sender: MemoryBus, message: Message) -> None:
        """One message at the server: to its hearers, or to nobody, which a requester is told."""
        hearers = self.hears(message.subject)
        for sub in hearers:
            self.deliver(sub, message)
        if not hearers and message.reply:
            nobody = Message(message.reply, "", b"", {"Status": "503"})
            for sub in self.hears(message.reply):
                if sub.bus is sender:
                    self.deliver(sub, nobody)

    def deliver(self, sub: MemorySub, message: Message) -> None:
        """Hand a message over in a later turn of the loop."""
        asyncio.get_running_loop().call_soon(_hand_over, sub, message)


def _hand_over(sub: MemorySub, message: Message) -> None:
    if sub.ended or not sub.bus.is_connected:
        return
    try:
        sub.handler(message)
    except Exception as error:  # noqa: BLE001 - as on the real bus, a handler cannot end the delivery
        sub.bus.handler_errors.append(type(error).__name__)
    for hook in sub.bus._read:
        hook()


class MemoryBus:
    """The `Bus` of one principal on a `MemoryNetwork`.

    ``may_publish`` and ``may_subscribe`` are allow-lists of subject patterns; None allows everything.
    """

    def __init__(self, network: MemoryNetwork, principal: str) -> None:
        self.network = network
        self.may_publish: list[str] | None = None
        self.may_subscribe: list[str] | None = None
        self.denied: list[str] = []
        self.handler_errors: list[str] = []
        self._principal = principal
        self._connected = True
        self._closed = False
        self._inbox = f"_R.{principal}.m{len(network.buses)}."
        self._answers = Answers(self._inbox)
        self._reconnected: list[Callable[[], None]] = []
        self._disconnected: list[Callable[[], None]] = []
        self._read: list[Callable[[], None]] = []
        network.add(MemorySub(self, self._inbox + "*", self._on_answer, ""))

    @property
    def principal(self) -> str:
        return self._principal

    @property
    def is_connected(self) -> bool:
        return self._connected

    @property
    def is_closed(self) -> bool:
        return self._closed

    def new_inbox(self) -> str:
        return self._answers.new_inbox()

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        if not self._connected:
            raise NotConnected("there is no connection")
        if len(payload) > self.network.max_payload:
            raise CallerError("too_large", f"the server takes at most {self.network.max_payload} bytes")
        if not is_publishable(subject) or (reply and not is_publishable(reply)):
            raise CallerError("bad_request", "a subject must not be empty or hold white space")
        if self.may_publish is not None and not any(matches(allowed, subject) for allowed in self.may_publish):
            self.denied.append(subject)
            return
        message = Message(subject, reply, bytes(payload), dict(headers) if headers else None)
        self.network.route(self, message)

    async def request(
        self, subject: str, payload: bytes, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        reply, answer = self._answers.expect_future(timeout)
        try:
            self.publish(subject, payload, reply, headers)
            return await answer
        finally:
            self._answers.forget(reply)

    def ask(
        self, subject: str, payload: bytes, timeout: float, then: Then, headers: Mapping[str, str] | None = None
    ) -> None:
        reply = self._answers.expect(timeout, then)
        try:
            self.publish(subject, payload, reply, headers)
        except BaseException:
            self._answers.forget(reply)
            raise

    def cork(self) -> None:
        """Nothing waits here for the end of a turn."""

    def write_out(self) -> None:
        """Nothing waits here for the end of a turn."""

    def on_read(self, hook: Callable[[], None]) -> None:
        self._read.append(hook)

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> MemorySub:
        if not self._connected:
            raise NotConnected("there is no connection")
        if not is_subscribable(subject):
            raise CallerError("bad_request", "not a subject that can be subscribed to")
        if self.may_subscribe is not None and not any(matches(allowed, subject) for allowed in self.may_subscribe):
            raise PermissionDenied(f"{self._principal} may not subscribe there", subject=subject)
        sub = MemorySub(self, subject, handler, queue)
        self.network.add(sub)
        return sub

    async def flush(self, timeout: float = 2.0) -> None:
        if not self._connected:
            raise NotConnected("there is no connection")
        await asyncio.sleep(0)
        if not self._connected:
            raise NotConnected("the connection broke")

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._break("the connection was closed")
            self.network.buses.remove(self)

    def on_reconnect(self, hook: Callable[[], None]) -> None:
        self._reconnected.append(hook)

    def on_disconnect(self, hook: Callable[[], None]) -> None:
        self._disconnected.append(hook)

    def disconnect(self) -> None:
        """Break this connection (a fault for tests); subscriptions come back with `reconnect`."""
        if self._connected:
            self._break("the connection broke before the answer")
            for hook in self._disconnected:
                hook()

    def reconnect(self) -> None:
        if not self._connected and not self._closed and self.network.up:
            self._connected = True
            for hook in self._reconnected:
                hook()

    def _break(self, why: str) -> None:
        self._connected = False
        self._answers.fail(why)

    def _on_answer(self, msg: Msg) -> None:
        self._answers.arrived(msg)
