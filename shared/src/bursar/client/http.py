"""Provider calls under the limiter: an httpx2 transport, so that the official SDKs need one argument.

::

    openai = AsyncOpenAI(http_client=fleet.http_client(budget="openai/gpt"))

For each request: guess what it will use (`bursar.client.http_plan`; bytes on the network, too), reserve that (standing
in line up to ``wait``), and when the connection is ready, right before the first byte leaves, look at the permit's
deadline once more: one that is void by then is given back and another is reserved. Then read the usage from the answer
while it passes by, and settle when the answer's body is finished or closed. Until then the permit covers one concurrent
call. Settling goes on in the background; it is finished before the fleet closes.

A retry by the SDK is a new request here, with a permit of its own. The time in line counts against the request's
``pool`` time-out, which is httpx2's name for waiting until one may send.

When the limiter refuses, the SDK gets an answer that it understands: status 429 with the reason in the body, with
``x-should-retry: false``, since ``wait`` already said how long to try (``on_refused="raise"`` raises
`bursar.Refused` instead). When the limiter cannot be reached, `bursar.LimiterUnavailable` is raised and nothing is
sent.

Single requests are adjusted by headers, which are not sent on: ``X-Bursar-Budget``, ``X-Bursar-Wait`` (seconds),
``X-Bursar-Input-Tokens``, ``X-Bursar-Output-Tokens``, ``X-Bursar-Agent``.

What an answer's headers tell of the provider's limits goes to the limiter, and a 429 stops the whole fleet for as long
as the provider asks (`bursar.client.observe`): a call whose bytes have not left by then waits, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import httpx2

from bursar.client import http_bytes
from bursar.client.breaker import Breaker
from bursar.client.breaker_http import LEAVE, BreakerGate, BreakerTransport, Reroute
from bursar.client.charge_model import ChargeModel
from bursar.client.charges import Charges
from bursar.client.errors import BudgetFrozen, LimiterUnavailable, PermitVoid, Refused
from bursar.client.headers import RateLimitHeaders
from bursar.client.http_flight import DEFAULT_TIMEOUT, NETWORK, RESERVATIONS, THAW_S, Flight, Limited, is_leaving
from bursar.client.http_plan import DEFAULT_TTL, DEFAULT_WAIT, Budget, Estimator, Options, Price
from bursar.client.http_traced import traced
from bursar.client.limiter import Limiter
from bursar.client.usage import Reader


class LimitedTransport(httpx2.AsyncBaseTransport):
    """Wraps ``inner``; see the module's text. ``budget``: a name, or a function of the request."""

    def __init__(
        self, limiter: Limiter, budget: Budget, inner: httpx2.AsyncBaseTransport, options: Options | None = None
    ) -> None:
        self._limiter = limiter
        self._inner = inner
        self._limited = Limited(limiter, budget, options)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        plan = self._limited.planner.plan(request)
        await self._limiter.background.room()
        until = self._limiter.clock.now() + plan.ask.wait * 1000.0
        voids, pause = 0, THAW_S
        while voids < RESERVATIONS:
            left = max(0.0, (until - self._limiter.clock.now()) / 1000.0)
            try:
                permit = await self._limiter.grant(plan.ask._replace(wait=left))
            except Refused as refused:
                return self._limited.refusal(request, refused)
            flight = self._limited.flight(permit, plan)
            try:
                return await self._send(request, flight)
            except BudgetFrozen as frozen:
                voids += left <= 0.0  # who has no time left to wait does not try for ever
                await asyncio.sleep(min(frozen.left_ms / 1000.0, pause, max(left, THAW_S)))
                pause *= 2.0
            except PermitVoid:
                voids += 1
        raise LimiterUnavailable("no connection was ready before the permit was void", budget=plan.ask.budget)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _send(self, request: httpx2.Request, flight: Flight) -> httpx2.Response:
        given, clock = request.extensions, self._limiter.clock

        def leave() -> None:
            flight.leave(clock.now())

        if http_bytes.is_counted(request):
            assert isinstance(request.stream, httpx2.AsyncByteStream)
            request.stream = http_bytes.Counted(request.stream, flight.pass_by)
        request.extensions = {**given, "trace": _watch(leave, given.get("trace")), LEAVE: leave}
        try:
            if not isinstance(self._inner, httpx2.AsyncHTTPTransport | BreakerTransport):
                leave()  # no other transport says when it begins to send
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            if isinstance(error, PermitVoid):
                flight.sent_at = None
            flight.end()
            raise
        finally:
            request.extensions = given
        if "bursar" in response.extensions:  # refused by the breaker, before it was sent
            flight.end()
            return response
        reader = flight.arrived(response)
        self._limited.observe(response, flight)
        _meter(response, flight, reader)
        return response


def _meter(response: httpx2.Response, flight: Flight, reader: Reader) -> None:
    """Let the call end with the answer's body: now, when the transport has read it already."""
    if response.is_closed:
        reader.feed(response.content)
        flight.pass_by(len(response.content))
        flight.end(reader)
        return
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Metered(response.stream, flight, reader)


class _Metered(httpx2.AsyncByteStream):
    """The answer's body, unchanged; the call ends when it does."""

    def __init__(self, inner: httpx2.AsyncByteStream, flight: Flight, reader: Reader) -> None:
        self._inner = inner
        self._flight = flight
        self._reader = reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed, pass_by = self._reader.feed, self._flight.pass_by
        async for part in self._inner:
            pass_by(len(part))
            feed(part)
            yield part
        self._flight.end(self._reader)

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._flight.broken_off()
            self._flight.end(self._reader)


def _watch(
    leave: Callable[[], None], other: Callable[[str, Any], Awaitable[None]] | None
) -> Callable[[str, Any], Awaitable[None]]:
    """Hears from httpx2's connection what it is about to do; raises when the permit is void by then."""

    async def trace(name: str, info: Any) -> None:
        if is_leaving(name, info):
            leave()
        if other is not None:
            await other(name, info)

    return trace


def http_client(
    limiter: Limiter,
    budget: Budget,
    *,
    wait: float = DEFAULT_WAIT,
    ttl: float = DEFAULT_TTL,
    provider: Literal["auto", "openai", "anthropic"] = "auto",
    estimate: Estimator | None = None,
    price: Price | None = None,
    charges: Charges | None = None,
    on_headers: Callable[[str, RateLimitHeaders], None] | None = None,
    on_refused: Literal["answer", "raise"] = "answer",
    charge_model: str | Path | ChargeModel | None = None,
    agent: str = "",
    quantile: float | None = None,
    also: tuple[str, ...] = (),
    priority: Literal["reactive", "standard", "proactive"] = "standard",
    transport: httpx2.AsyncBaseTransport | None = None,
    breaker: Budget | None = None,
    slow_after: float | None = None,
    reroute: Reroute | None = None,
    circuits: Breaker | None = None,
    **client: Any,
) -> httpx2.AsyncClient:
    """An ``httpx2.AsyncClient`` under ``budget`` (a name, or a function of the request); ``{pool}`` in its name stands
    for the pool that the called model draws from.

    ``wait``: seconds to stand in line. ``ttl``: seconds after which a call counts as used in full and gives its place
    free; longer than the longest call. ``provider``: whose error shape a refusal has (auto: by the path).
    ``estimate``: improves the guess of a request's use. ``price``: for budgets in money. ``charges``: see
    `bursar.client.charges`. ``on_headers``: called with the budget and the rate-limit headers of each answer (the
    latest are in ``fleet.limiter.observed``). ``on_refused``: see the module's text. ``charge_model``: how the provider
    counts, see `bursar.client.charge_model` (None: by the host that is called). ``agent``: under which name the lengths
    of answers are learned (else the principal, or the request's ``X-Bursar-Agent``). ``quantile``: reserve what that
    part of the answers was not longer than, also where the charge model would reserve the stated maximum (None: as it
    says; where the maximum is charged in advance it is always reserved). ``also``: other objects to take from, such as
    ``("host/{host}", "machine/{machine}")``; these stand for the host that is called and for the one that calls, with
    dashes for dots. ``priority``: as in `Limiter.reserve`. ``transport``: does the sending.
    ``breaker``: the target whose circuit is asked before anything is reserved, and told how the call ended (a name, or
    a function of the request); see `bursar.client.breaker_http`. ``slow_after``: seconds to an answer's headers after
    which the breaker counts the call as slow. ``reroute``: follow the target's fallback chain; makes of a request the
    one to another target. ``circuits``: the fleet's breaker.

    All else goes to ``httpx2.AsyncClient``, with the official SDKs' defaults for time-outs (600 s, 5 s to connect) and
    redirects, and no bound on connections, since the budget bounds the calls; proxies only by ``proxy=``.
    """
    told = (provider, estimate, price, charges or {}, on_headers, on_refused, charge_model, agent, quantile)
    options = Options(wait, ttl, *told, also, priority)
    network = {name: client.pop(name) for name in NETWORK if name in client}
    network.setdefault("limits", httpx2.Limits(max_connections=None, max_keepalive_connections=256))
    inner = transport or httpx2.AsyncHTTPTransport(**network)
    client.setdefault("timeout", DEFAULT_TIMEOUT)
    client.setdefault("follow_redirects", True)
    if breaker is None or circuits is None:
        return httpx2.AsyncClient(transport=traced(LimitedTransport(limiter, budget, inner, options)), **client)
    inner = BreakerTransport(circuits, breaker, inner, on_refused, slow_after, reroute)
    limited = LimitedTransport(limiter, budget, inner, options)
    gate = BreakerGate(circuits, breaker, limited, on_refused, follow=reroute is not None)
    return httpx2.AsyncClient(transport=traced(gate), **client)
