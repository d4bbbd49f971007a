"""Provider calls under the limiter for code without asyncio: an httpx2 transport for the SDKs' synchronous clients.

::

    openai = OpenAI(http_client=fleet.http_client(budget="openai/gpt"))      # fleet: bursar.connect_sync()

The same as `bursar.client.http`: calls are made in the thread that asks for them, and planned, granted and settled in
that of the fleet's loop, where ``estimate``, ``price`` and ``on_headers`` are called, too. It has no circuit breaker;
ask ``fleet.breaker`` beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from bursar.client import http_bytes
from bursar.client.errors import BudgetFrozen, LimiterUnavailable, PermitVoid, Refused
from bursar.client.http_flight import DEFAULT_TIMEOUT, NETWORK, RESERVATIONS, THAW_S, Flight, Limited, is_leaving
from bursar.client.http_plan import Budget, Options, Plan
from bursar.client.http_traced import traced_sync
from bursar.client.limited import run_in
from bursar.client.limiter import Limiter
from bursar.client.permit import Ask
from bursar.client.usage import Reader


class SyncLimitedTransport(httpx2.BaseTransport):
    """Wraps ``inner``; see the module's text. ``budget``: a name, or a function of the request."""

    def __init__(
        self, limiter: Limiter, budget: Budget, inner: httpx2.BaseTransport, options: Options | None = None
    ) -> None:
        self._limiter = limiter
        self._inner = inner
        self._limited = Limited(limiter, budget, options)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        plan = run_in(self._limiter.loop, self._plan, request)
        until = self._limiter.clock.now() + plan.ask.wait * 1000.0
        voids, pause = 0, THAW_S
        while voids < RESERVATIONS:
            left = max(0.0, (until - self._limiter.clock.now()) / 1000.0)
            try:
                permit = run_in(self._limiter.loop, self._grant, plan.ask._replace(wait=left))
            except Refused as refused:
                return self._limited.refusal(request, refused)
            flight = self._limited.flight(permit, plan)
            try:
                return self._send(request, flight)
            except BudgetFrozen as frozen:
                voids += left <= 0.0
                time.sleep(min(frozen.left_ms / 1000.0, pause, max(left, THAW_S)))
                pause *= 2.0
            except PermitVoid:
                voids += 1
        raise LimiterUnavailable("no connection was ready before the permit was void", budget=plan.ask.budget)

    def close(self) -> None:
        self._inner.close()

    async def _plan(self, request: httpx2.Request) -> Plan:
        return self._limited.planner.plan(request)

    async def _grant(self, ask: Ask) -> Any:
        await self._limiter.background.room()
        return await self._limiter.grant(ask)

    async def _leave(self, flight: Flight) -> None:
        flight.leave(self._limiter.clock.now())

    def soon(self, method: Callable[..., None], *args: Any) -> None:
        """Have the fleet's loop do it; nothing, when the fleet is closed."""
        with contextlib.suppress(RuntimeError):
            self._limiter.loop.call_soon_threadsafe(method, *args)

    def _send(self, request: httpx2.Request, flight: Flight) -> httpx2.Response:
        given, loop = request.extensions, self._limiter.loop

        def leave() -> None:
            run_in(loop, self._leave, flight)

        if http_bytes.is_counted(request):
            assert isinstance(request.stream, httpx2.SyncByteStream)
            request.stream = _Counted(request.stream, flight.pass_by)
        request.extensions = {**given, "trace": _watch(leave, given.get("trace"))}
        try:
            if not isinstance(self._inner, httpx2.HTTPTransport):
                leave()  # no other transport says when it begins to send
            response = self._inner.handle_request(request)
        except BaseException as error:
            if isinstance(error, PermitVoid):
                flight.sent_at = None
            self.soon(flight.end)
            raise
        finally:
            request.extensions = given
        reader = flight.arrived(response)
        self.soon(self._limited.observe, response, flight)
        self._meter(response, flight, reader)
        return response

    def _meter(self, response: httpx2.Response, flight: Flight, reader: Reader) -> None:
        """Let the call end with the answer's body: now, when the transport has read it already."""
        if response.is_closed:
            reader.feed(response.content)
            flight.pass_by(len(response.content))
            self.soon(flight.end, reader)
            return
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Metered(response.stream, self, flight, reader)


class _Metered(httpx2.SyncByteStream):
    """The answer's body, unchanged; the call ends when it does."""

    def __init__(
        self, inner: httpx2.SyncByteStream, transport: SyncLimitedTransport, flight: Flight, reader: Reader
    ) -> None:
        self._inner = inner
        self._transport = transport
        self._flight = flight
        self._reader = reader
        self._is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        feed, pass_by = self._reader.feed, self._flight.pass_by
        for part in self._inner:
            pass_by(len(part))
            feed(part)
            yield part
        self._is_whole = True
        self._transport.soon(self._flight.end, self._reader)

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            if not self._is_whole:
                self._flight.broken_off()
                self._transport.soon(self._flight.end, self._reader)


class _Counted(httpx2.SyncByteStream):
    """As `bursar.client.http_bytes.Counted`."""

    def __init__(self, inner: httpx2.SyncByteStream, tell: Callable[[int], None]) -> None:
        self._inner = inner
        self._tell = tell

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._tell(len(part))
            yield part

    def close(self) -> None:
        self._inner.close()


def _watch(leave: Callable[[], None], other: Callable[[str, Any], None] | None) -> Callable[[str, Any], None]:
    """Hears from httpx2's connection what it is about to do; raises when the permit is void by then."""

    def trace(name: str, info: Any) -> None:
        if is_leaving(name, info):
            leave()
        if other is not None:
            other(name, info)

    return trace


def http_client(
    limiter: Limiter, budget: Budget, *, transport: httpx2.BaseTransport | None = None, **options: Any
) -> httpx2.Client:
    """An ``httpx2.Client`` under ``budget``; options as of `bursar.client.http.http_client`, but for the breaker's."""
    names = {field.name for field in dataclasses.fields(Options)}
    told = {name: options.pop(name) for name in names if name in options}
    network = {name: options.pop(name) for name in NETWORK if name in options}
    network.setdefault("limits", httpx2.Limits(max_connections=None, max_keepalive_connections=256))
    options.setdefault("timeout", DEFAULT_TIMEOUT)
    options.setdefault("follow_redirects", True)
    inner = transport or httpx2.HTTPTransport(**network)
    limited = SyncLimitedTransport(limiter, budget, inner, Options(**told))
    return httpx2.Client(transport=traced_sync(limited), **options)
