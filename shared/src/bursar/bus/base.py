"""The network as the rest of Bursar sees it: seven methods, with a NATS connection and an in-memory twin behind them.

Handlers are plain synchronous callables: they queue or start work and return at once, so that no message waits for
another's handling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


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


Handler = Callable[[Msg], None]


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

    def publish(
        self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
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


class BusError(Exception):
    """The network failed; what that means for the request is in the subclass."""


class NotConnected(BusError):
    """There is no connection: nothing was sent. Retry when connected."""


class RequestTimeout(BusError):
    """No answer in time: the request may or may not have been handled. Retry with the same request id."""


class NoResponders(BusError):
    """Nobody listens on that subject right now (a service is starting or being taken over). Retry shortly."""
