"""The network as the rest of Bursar sees it: seven methods, with a NATS connection and an in-memory twin behind them.

Handlers are plain synchronous callables: they queue or start work and return at once, so that no message waits for
another's handling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from bursar.errors import Fact, NetworkError


class Msg(Protocol):
    """One message. ``headers`` is None when there are none (nats-py's own messages fit)."""

    @property
    def subject(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str] | None: ...


class Message:
    """One message as it arrived: what both buses deliver."""

    __slots__ = ("data", "headers", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self.headers = headers


Handler = Callable[[Msg], None]
Then = Callable[["Msg | BusError"], None]


class Subscription(Protocol):
    async def unsubscribe(self) -> None:
        """Stop at once; what is queued is dropped."""
        ...

    async def drain(self) -> None:
        """Stop new deliveries, handle what has arrived, return when that is done."""
        ...


class Bus(Protocol):
    """A connection as one principal."""

    @property
    def principal(self) -> str: ...

    @property
    def is_connected(self) -> bool: ...

    def new_inbox(self) -> str:
        """A fresh reply subject below ``_R.<principal>.``"""
        ...

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Queue a message for sending; raises `NotConnected` while there is no connection, never buffers."""
        ...

    async def request(
        self, subject: str, payload: bytes, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Publish and await one answer. Raises `RequestTimeout` (outcome unknown), `NoResponders` (nobody heard
        it) or `NotConnected` (never sent)."""
        ...

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription: ...

    async def flush(self, timeout: float = 2.0) -> None:
        """Return when the server has everything sent so far (and every subscription made so far is live)."""
        ...

    async def close(self) -> None: ...


class HotBus(Bus, Protocol):
    """What an owner's hot path uses beside: it saves turns of the event loop."""

    def ask(
        self, subject: str, payload: bytes, timeout: float, then: Then, headers: Mapping[str, str] | None = None
    ) -> None:
        """As `request` for the hot path: sent at once, and ``then`` is called with the answer or the `BusError`, once,
        straight from the reading of the network. Raises `NotConnected` (never sent)."""
        ...

    def cork(self) -> None:
        """Let what is published next wait for `write_out`, which must follow in this turn of the loop."""
        ...

    def write_out(self) -> None:
        """Send what was published in this turn of the loop now, rather than at its end."""
        ...

    def on_read(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` whenever all that one read brought has been handed to the handlers; it must not raise."""
        ...


class BusError(NetworkError):
    """The network failed; what that means for the request is in the subclass."""

    CODE: ClassVar[str] = "not_connected"

    def __init__(self, text: str = "", /, **facts: Fact) -> None:
        super().__init__(self.CODE, text or (type(self).__doc__ or "").partition("\n")[0], **facts)


class NotConnected(BusError):
    """There is no connection: nothing was sent. Retry when connected."""


class RequestTimeout(BusError):
    """No answer in time: the request may or may not have been handled. Retry with the same request id."""

    CODE = "request_timeout"


class ConnectionLost(RequestTimeout):
    """The connection broke before the answer came: as after a time-out, the outcome is unknown."""


class NoResponders(BusError):
    """Nobody listens on that subject right now (a service is starting or being taken over). Retry shortly."""

    CODE = "no_responders"


class ConnectFailed(BusError):
    """The first connection could not be made in time."""

    CODE = "connect_failed"


class PermissionDenied(BusError):
    """The server does not let this principal publish or subscribe there."""

    CODE = "permission_denied"
