"""A connection to NATS as one principal, which comes back by itself and never pretends.

- *Never buffers.* Publishing without a connection raises `NotConnected`; what was accepted in the moment of the break
  is lost or sent, never sent late on the next connection.
- *Never hangs.* Once a second a message goes to the own inbox and must come back within two seconds; if it does not,
  if the reading task has ended, or if any flush times out, the socket is dropped and a new connection made. (nats-py
  itself notices a silent peer only by its pings, after six seconds, and some states never.) A principal that may not
  publish to its own inbox is watched by PING alone.
- *Never gives up*: attempts go on for ever. Only the server can end it (credentials revoked, protocol error); then
  ``on_closed`` is called, and a service ends with a non-zero status so that its supervisor sees it.
- *Answers in time.* Requests share one inbox subscription, `_R.<principal>.<session>.*`; a break ends the waiting
  ones with `ConnectionLost`, since their answers are gone.

Reading clocks is fine here: nothing in this file decides anything about limits or leases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nats import errors as nats_errors
from nats.aio.subscription import Subscription as NatsSubscription

from bursar.bus.answers import Answers
from bursar.bus.base import (
    ConnectFailed,
    Handler,
    Msg,
    NotConnected,
    PermissionDenied,
    RequestTimeout,
    Then,
)
from bursar.bus.counters import BusCounters
from bursar.bus.login import login
from bursar.bus.tls import context_for
from bursar.bus.wire import WireClient
from bursar.contracts.base import PRINCIPAL

log = logging.getLogger("bursar.bus")

WATCH_EVERY = 1.0
"""Seconds between two echoes to oneself."""
ECHO_WITHIN = 2.0
"""Seconds in which an echo, and any flush, must be back."""
CLOSE_WITHIN = 2.0
QUIET = 5.0
"""Seconds between two log lines about asynchronous errors; those between are counted."""

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')


class NatsSub:
    """A subscription of a `NatsBus`."""

    def __init__(self, bus: NatsBus, sub: NatsSubscription) -> None:
        self._bus = bus
        self._sub = sub

    async def unsubscribe(self) -> None:
        """Stop at once; nothing is delivered after this call began."""
        await self._bus.client.unsubscribe_direct(self._sub)

    async def drain(self) -> None:
        """Stop new deliveries and return when all that the server had sent has been handled."""
        client = self._bus.client
        try:
            await client.unsubscribe_direct(self._sub, keep=True)
            await self._bus.flush()  # the PONG comes after the last message
        except (NotConnected, RequestTimeout):
            pass  # the server has forgotten the subscription, or will
        finally:
            client.forget(self._sub)


class NatsBus:
    """The `Bus` over a real NATS server; made by `connect`."""

    def __init__(self, principal: str, jitter: float = 0.1, gather_s: float = 0) -> None:
        if not re.match(PRINCIPAL, principal):
            raise ConnectFailed("a principal has small letters, digits and dashes, 64 at most")
        self._principal = principal
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._inbox = f"_R.{principal}.{secrets.token_hex(6)}."
        self._echo_subject = self._inbox + "echo"
        self._answers = Answers(self._inbox)
        self._echoed: asyncio.Future[None] | None = None
        self._may_echo = True
        self._denied_subscriptions: set[str] = set()
        self._watch: asyncio.Task[None] | None = None
        self._closing = False
        self._last_log = float("-inf")
        self._unlogged = 0
        self._first_error: BaseException | None = None
        self._reconnected: list[Callable[[], None]] = []
        self._disconnected: list[Callable[[], None]] = []
        self._on_closed: Callable[[], None] | None = None
        self.on_trouble: Callable[[str, str], None] | None = None
        """Hook: kind (``slow_consumer``, ``denied_publish``, ``denied_subscription``, ``handler_error``) and subject
        or error type."""
        self.counters = BusCounters()
        self.client = WireClient(self._on_lost, self._handler_failed, gather_s)

    # -- the Bus protocol

    @property
    def principal(self) -> str:
        return self._principal

    @property
    def is_connected(self) -> bool:
        return self.client._status == WireClient.CONNECTED

    def new_inbox(self) -> str:
        return self._answers.new_inbox()

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.client.publish_now(subject, payload, reply, headers)

    async def request(
        self, subject: str, payload: bytes, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        reply, answer = self._answers.expect_future(timeout)
        try:
            self.client.publish_now(subject, payload, reply, headers)
            return await answer
        finally:
            self._answers.forget(reply)

    def ask(
        self, subject: str, payload: bytes, timeout: float, then: Then, headers: Mapping[str, str] | None = None
    ) -> None:
        reply = self._answers.expect(timeout, then)
        self.client.cork()
        try:
            self.client.publish_now(subject, payload, reply, headers)
        except BaseException:
            self._answers.forget(reply)
            raise
        finally:
            self.client.write_out()

    def cork(self) -> None:
        self.client.cork()

    def write_out(self) -> None:
        self.client.write_out()

    def on_read(self, hook: Callable[[], None]) -> None:
        self.client.after_read.append(hook)

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> NatsSub:
        """Returns when the subscription is live. Raises `PermissionDenied` when the server refuses it."""
        if not self.is_connected:
            raise NotConnected("there is no connection")
        self._denied_subscriptions.discard(subject.lower())
        sub = NatsSub(self, await self.client.subscribe_direct(subject, queue, handler))
        try:
            await self.flush()
        except (NotConnected, RequestTimeout):
            self.client.forget(sub._sub)
            raise
        if subject.lower() in self._denied_subscriptions:
            self.client.forget(sub._sub)
            raise PermissionDenied(f"{self._principal} may not subscribe there", subject=subject)
        return sub

    async def flush(self, timeout: float = ECHO_WITHIN) -> None:
        if not self.is_connected:
            raise NotConnected("there is no connection")
        try:
            await self.client.flush(timeout)  # type: ignore[arg-type]
        except nats_errors.FlushTimeoutError:
            await self._force_reconnect()
            raise RequestTimeout("the server did not confirm in time") from None
        except nats_errors.Error:
            raise NotConnected("the connection broke") from None
        if not self.is_connected:
            raise NotConnected("the connection broke")

    async def close(self) -> None:
        """Send what is queued and close; never takes longer than two seconds."""
        self._closing = True
        if self._watch is not None:
            self._watch.cancel()
        self._answers.fail("the connection was closed")
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self.client.close()
        except (TimeoutError, OSError):
            self.client.abort()

    # -- what else services and clients need

    @property
    def counts(self) -> dict[str, int]:
        """Counters for metrics, with nats-py's message and byte counts."""
        return {**asdict(self.counters), "late_pongs": self.client.late_pongs, **self.client.stats}

    @property
    def is_closed(self) -> bool:
        return self.client.is_closed

    def on_reconnect(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` after each reconnection, when all subscriptions are live again."""
        self._reconnected.append(hook)

    def on_disconnect(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` as soon as the connection is known to be broken."""
        self._disconnected.append(hook)

    # -- making the connection

    async def _start(self, options: dict[str, Any], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self.client.connect(
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_client_closed,
                    inbox_prefix=self._inbox.rstrip("."),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,  # type: ignore[arg-type]  # only ever slept
                    ping_interval=2,
                    max_outstanding_pings=2,
                    connect_timeout=2,
                    flush_timeout=ECHO_WITHIN,
                    **options,
                )
                await self.subscribe(self._inbox + "*", self._on_answer)
        except (TimeoutError, nats_errors.Error, OSError) as error:
            await self.close()
            raise ConnectFailed(self._why_not(error, timeout)) from None
        except BaseException:
            await self.close()
            raise
        self._watch = self._loop.create_task(self._watchdog(), name=f"bus-watchdog-{self._principal}")

    def _why_not(self, error: BaseException, timeout: float) -> str:
        cause = self._first_error or error
        if isinstance(cause, ConnectionRefusedError):
            return f"nobody listens there (tried for {timeout:g} s)"
        if "authorization" in str(cause).lower() or "authentication" in str(cause).lower():
            return "the server refuses these credentials"
        return f"no connection within {timeout:g} s ({type(cause).__name__})"

    # -- answers

    def _on_answer(self, msg: Msg) -> None:
        if not self._answers.arrived(msg):
            self._on_own(msg.subject[len(self._inbox) :])

    def _on_own(self, token: str) -> None:
        if token != "echo":  # noqa: S105 - the last token of a subject
            self.counters.late_answers += 1
        elif self._echoed is not None and not self._echoed.done():
            self._echoed.set_result(None)

    # -- watching

    async def _watchdog(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            if not self.is_connected:
                self.client.revive()
            elif not await self._is_alive():
                await self._force_reconnect()

    async def _is_alive(self) -> bool:
        if not self.client.is_reading:
            return False
        try:
            if self._may_echo:
                self._echoed = self._loop.create_future()
                self.publish(self._echo_subject, b".")
                async with asyncio.timeout(ECHO_WITHIN):
                    await self._echoed
            else:
                await self.client.flush(ECHO_WITHIN)  # type: ignore[arg-type]
        except (TimeoutError, nats_errors.Error, NotConnected):
            return False
        return True

    async def _force_reconnect(self) -> None:
        if not self._closing and self.is_connected:
            self.counters.forced_reconnects += 1
            log.warning("bus_forced_reconnect", extra={"principal": self._principal})
            await self.client.force_reconnect()

    # -- what nats-py tells

    def _on_lost(self) -> None:
        self.counters.disconnects += 1
        self._answers.fail("the connection broke before the answer")
        _call_all(self._disconnected)

    async def _on_disconnected(self) -> None:
        if not self._closing and not self.client.is_closed:
            await asyncio.sleep(random.uniform(0, self._jitter))  # spreads a reconnect storm

    async def _on_reconnected(self) -> None:
        self.counters.reconnects += 1
        _call_all(self._reconnected)

    async def _on_client_closed(self) -> None:
        self._answers.fail("the connection was closed")
        if not self._closing:
            log.error("bus_closed", extra={"principal": self._principal})
            if self._on_closed is not None:
                self._on_closed()

    async def _on_error(self, error: Exception) -> None:
        """nats-py's asynchronous errors: counted, told to the hook, logged at most every five seconds by type."""
        self.counters.errors += 1
        if self._first_error is None:
            self._first_error = error
        if isinstance(error, nats_errors.SlowConsumerError):
            self.counters.slow_consumers += 1
            self._trouble("slow_consumer", error.subject)
        elif denied := _DENIED.search(str(error)):
            self._on_denied(denied[1], denied[2])
        elif self._watch is None and "authorization violation" in str(error).lower():
            raise ConnectFailed("the server refuses these credentials")
        self._log_error(error)

    def _on_denied(self, what: str, subject: str) -> None:
        if subject == self._echo_subject.lower():
            self._may_echo = False
            self._on_own("echo")  # the refusal has come back: the connection lives
            return
        self.counters.denied += 1
        if what == "subscription":
            self._denied_subscriptions.add(subject)
        self._trouble("denied_publish" if what == "publish" else "denied_subscription", subject)

    def _handler_failed(self, error: BaseException) -> None:
        self.counters.handler_errors += 1
        self._trouble("handler_error", type(error).__name__)
        self._log_error(error)

    def _trouble(self, kind: str, what: str) -> None:
        if self.on_trouble is not None:
            self.on_trouble(kind, what)

    def _log_error(self, error: BaseException) -> None:
        now = self._loop.time()
        self._unlogged += 1
        if self._watch is not None and now - self._last_log >= QUIET:
            log.warning("bus_errors", extra={"error": type(error).__name__, "count": self._unlogged})
            self._last_log, self._unlogged = now, 0


def _call_all(hooks: list[Callable[[], None]]) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception as error:  # noqa: BLE001 - one hook must not stop the others, or the reconnection
            log.warning("bus_hook_failed", extra={"error": type(error).__name__})


async def connect(
    url: str | list[str],
    creds: str | Path | None = None,
    *,
    principal: str,
    name: str | None = None,
    on_closed: Callable[[], None] | None = None,
    tls: ssl.SSLContext | None = None,
    jitter: float = 0.1,
    gather_s: float = 0,
    timeout: float = 10.0,
) -> NatsBus:
    """Connect as ``principal``.

    ``creds``: path of a credentials file. ``tls``: None is what `bursar.bus.tls` finds. ``jitter``: reconnects start
    after a random time up to so many seconds (2 for clients, of which there are many). ``gather_s``: a busy connection
    is read at most so often (s), 0 at once (`bursar.bus.gather`). ``on_closed``: called when the connection has ended
    for ever without `NatsBus.close`. Raises `ConnectFailed` after ``timeout`` seconds, or at once when the credentials
    are refused.
    """
    if creds is not None and not os.path.isfile(creds):  # noqa: PTH113, ASYNC240 - one look, before any work
        raise ConnectFailed("there is no credentials file at that path")
    bus = NatsBus(principal, jitter, gather_s)
    bus._on_closed = on_closed
    options: dict[str, Any] = {"servers": url, "name": name or principal, "tls": tls or context_for(url, creds=creds)}
    options |= login(creds)
    await bus._start(options, timeout)
    return bus
