"""Provider calls under the limiter: an httpx2 transport, so that the official SDKs need one argument.

::

    openai = AsyncOpenAI(http_client=fleet.http_client(budget="openai/gpt"))

For each request: guess what it will use, reserve that (standing in line up to ``wait``), and when the connection is
ready, right before the first byte leaves, look at the permit's deadline once more: one that is void by then is given
back and another is reserved. Then read the usage from the answer while it passes by, and settle when the answer's
body is finished or closed. Until then the permit covers one concurrent call. Settling goes on in the background; it
is finished before the fleet closes.

A retry by the SDK is a new request here, with a permit of its own. The time in line counts against the request's
``pool`` time-out, which is httpx2's name for waiting until one may send.

When the limiter refuses, the SDK gets an answer that it understands: status 429 with the reason in the body, with
``x-should-retry: false``, since ``wait`` already said how long to try (``on_refused="raise"`` raises
`bursar.Refused` instead). When the limiter cannot be reached, `bursar.LimiterUnavailable` is raised and nothing is
sent.

Single requests are adjusted by headers, which are not sent on: ``X-Bursar-Budget``, ``X-Bursar-Wait`` (seconds),
``X-Bursar-Input-Tokens``, ``X-Bursar-Output-Tokens``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import httpx2

from bursar.client import headers as rate_limits
from bursar.client.breaker import Breaker
from bursar.client.breaker_http import LEAVE, BreakerGate, BreakerTransport
from bursar.client.charges import Charges, charge_of, settle
from bursar.client.errors import LimiterUnavailable, PermitVoid, Refused
from bursar.client.estimate import Estimate, OutputMemory, estimate_call, read_body
from bursar.client.headers import RateLimitHeaders
from bursar.client.limiter import Limiter
from bursar.client.permit import ENDED, Ask, Permit
from bursar.client.usage import Reader, reader_for

Estimator = Callable[[dict[str, Any], Estimate], Estimate]
"""(the request's JSON body, our guess) -> a better guess"""
Price = Callable[[str, int, int], int]
"""(model, input tokens, output tokens) -> millionths of a dollar"""
Budget = str | Callable[[httpx2.Request], str]

DEFAULT_WAIT: Final = 60.0
DEFAULT_TTL: Final = 600.0
DEFAULT_TIMEOUT: Final = httpx2.Timeout(600.0, connect=5.0)
RESERVATIONS: Final = 8
"""Permits that one request may let go void before it is given up."""
LEAVING: Final = "send_request_headers.started"
ENCODINGS: Final = "gzip, deflate"
OWN: Final = "x-bursar-"


@dataclass(frozen=True)
class Options:
    """How a transport treats its requests. Times in seconds."""

    wait: float = DEFAULT_WAIT
    ttl: float = DEFAULT_TTL
    provider: Literal["auto", "openai", "anthropic"] = "auto"
    estimate: Estimator | None = None
    price: Price | None = None
    charges: Charges = field(default_factory=dict)
    on_headers: Callable[[str, RateLimitHeaders], None] | None = None
    on_refused: Literal["answer", "raise"] = "answer"


class _Plan(NamedTuple):
    ask: Ask
    model: str


class _Flight:
    """One request on its way: from its permit to the settlement."""

    __slots__ = ("_memory", "_model", "_options", "permit", "status", "was_sent")

    def __init__(self, permit: Permit, model: str, options: Options, memory: OutputMemory) -> None:
        self.permit = permit
        self.status: int | None = None
        self.was_sent = False
        self._model = model
        self._options = options
        self._memory = memory

    def leave(self) -> None:
        """The next thing that happens is that bytes go out. Raises `PermitVoid`."""
        self.permit.check()
        self.permit.sent()
        self.was_sent = True

    def end(self, reader: Reader | None = None) -> None:
        """Settle, once: with the usage that the answer told, else by how the call ended."""
        if self.permit.state == ENDED:
            return
        if not self.was_sent:
            self.permit.cancel_soon()
            return
        if reader is not None and self._record(reader):
            self.permit.settle_soon()
        else:
            settle(self.permit, charge_of(self._options.charges, self.status))

    def _record(self, reader: Reader) -> bool:
        """Record the usage told; True when there was any."""
        reader.end()
        usage, price = reader.usage, self._options.price
        if usage.input_tokens is None:
            return False
        self.permit.used(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
        if usage.output_tokens is not None:
            self._memory.learn(self._model, usage.output_tokens)
            if price is not None:
                self.permit.used(usd_micros=price(self._model, usage.input_tokens, usage.output_tokens))
        return True


class LimitedTransport(httpx2.AsyncBaseTransport):
    """Wraps ``inner``; see the module's text. ``budget``: a name, or a function of the request."""

    def __init__(
        self, limiter: Limiter, budget: Budget, inner: httpx2.AsyncBaseTransport, options: Options | None = None
    ) -> None:
        self._limiter = limiter
        self._budget = budget
        self._inner = inner
        self._options = options or Options()
        self._memory = OutputMemory()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        plan = self._plan(request)
        await self._limiter.background.room()
        until = self._limiter.clock.now() + plan.ask.wait * 1000.0
        for _ in range(RESERVATIONS):
            left = max(0.0, (until - self._limiter.clock.now()) / 1000.0)
            try:
                permit = await self._limiter.grant(plan.ask._replace(wait=left))
            except Refused as refused:
                if self._options.on_refused == "raise":
                    raise
                return self._answer(request, refused)
            flight = _Flight(permit, plan.model, self._options, self._memory)
            try:
                return await self._send(request, flight, plan.ask.budget)
            except PermitVoid:
                continue
        raise LimiterUnavailable("no connection was ready before the permit was void", budget=plan.ask.budget)

    async def aclose(self) -> None:
        await self._inner.aclose()

    # -- before

    def _plan(self, request: httpx2.Request) -> _Plan:
        """What to reserve for this request; takes our own headers out of it."""
        own = {name[len(OWN) :]: value for name, value in request.headers.items() if name.startswith(OWN)}
        for name in own:
            del request.headers[OWN + name]
        accepted = request.headers.get("accept-encoding", "")
        if "zstd" in accepted or "br" in accepted:
            request.headers["accept-encoding"] = ENCODINGS
        body = _body_of(request)
        guess = self._estimate(body, request, own)
        amounts = {
            "requests": 1,
            "input_tokens": guess.input_tokens,
            "output_tokens": guess.output_tokens,
            "concurrent": 1,
            "usd_micros": guess.usd_micros,
        }
        budget = own.get("budget") or (self._budget if isinstance(self._budget, str) else self._budget(request))
        wait = _seconds(own.get("wait"), self._options.wait)
        pool = request.extensions.get("timeout", {}).get("pool")
        ask = Ask(budget, amounts, wait if pool is None else min(wait, pool), self._options.ttl)
        return _Plan(ask, str(body.get("model", "")))

    def _estimate(self, body: dict[str, Any], request: httpx2.Request, own: dict[str, str]) -> Estimate:
        guess = estimate_call(body, request.url.path, self._memory)
        if self._options.estimate is not None:
            guess = self._options.estimate(body, guess)
        guess = guess._replace(
            input_tokens=_tokens(own.get("input-tokens"), guess.input_tokens),
            output_tokens=_tokens(own.get("output-tokens"), guess.output_tokens),
        )
        if self._options.price is not None and not guess.usd_micros:
            dollars = self._options.price(str(body.get("model", "")), guess.input_tokens, guess.output_tokens)
            guess = guess._replace(usd_micros=dollars)
        return guess

    # -- during

    async def _send(self, request: httpx2.Request, flight: _Flight, budget: str) -> httpx2.Response:
        given = request.extensions
        request.extensions = {**given, "trace": _watch(flight, given.get("trace")), LEAVE: flight.leave}
        try:
            if not isinstance(self._inner, httpx2.AsyncHTTPTransport | BreakerTransport):
                flight.leave()  # no other transport says when it begins to send
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            if isinstance(error, PermitVoid):
                flight.was_sent = False
            flight.end()
            raise
        finally:
            request.extensions = given
        if "bursar" in response.extensions:  # refused by the breaker, before it was sent
            flight.end()
            return response
        flight.status = response.status_code
        self._observe(response, budget)
        _meter(response, flight)
        return response

    def _observe(self, response: httpx2.Response, budget: str) -> None:
        told = rate_limits.read(response.status_code, response.headers.items())
        if told.is_empty:
            return
        self._limiter.observed[budget] = told
        if self._options.on_headers is not None:
            self._options.on_headers(budget, told)

    def _answer(self, request: httpx2.Request, refused: Refused) -> httpx2.Response:
        """The refusal in the provider's own words."""
        text = f"{refused.text} ({refused.advice})"
        if self._options.provider == "anthropic" or request.url.path.endswith("/messages"):
            body: dict[str, Any] = {"type": "error", "error": {"type": "rate_limit_error", "message": text}}
        else:
            error = {"message": text, "type": "bursar_refused", "code": refused.reason, "param": refused.dimension}
            body = {"error": error}
        headers = {"content-type": "application/json", "x-should-retry": "false", "x-bursar-refused": refused.reason}
        if refused.retry_in is not None:
            headers["retry-after-ms"] = str(int(refused.retry_in * 1000))
        return httpx2.Response(
            429, headers=headers, content=json.dumps(body).encode(), request=request, extensions={"bursar": refused}
        )


def _meter(response: httpx2.Response, flight: _Flight) -> None:
    """Let the call end with the answer's body: now, when the transport has read it already."""
    kind, encoding = response.headers.get("content-type", ""), response.headers.get("content-encoding", "")
    if response.is_closed:
        reader = reader_for(kind, "")
        reader.feed(response.content)
        flight.end(reader)
        return
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Metered(response.stream, flight, reader_for(kind, encoding))


class _Metered(httpx2.AsyncByteStream):
    """The answer's body, unchanged; the call ends when it does."""

    def __init__(self, inner: httpx2.AsyncByteStream, flight: _Flight, reader: Reader) -> None:
        self._inner = inner
        self._flight = flight
        self._reader = reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._reader.feed
        async for part in self._inner:
            feed(part)
            yield part
        self._flight.end(self._reader)

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            if self._flight.status is not None and self._flight.status < 300:
                self._flight.status = None  # closed before its end: what it used is unknown
            self._flight.end(self._reader)


def _watch(
    flight: _Flight, other: Callable[[str, Any], Awaitable[None]] | None
) -> Callable[[str, Any], Awaitable[None]]:
    """Hears from httpx2's connection what it is about to do; raises when the permit is void by then."""

    async def trace(name: str, info: Any) -> None:
        if name.endswith(LEAVING) and info["request"].method != b"CONNECT":
            flight.leave()
        if other is not None:
            await other(name, info)

    return trace


def _body_of(request: httpx2.Request) -> dict[str, Any]:
    try:
        return read_body(request.content)
    except httpx2.RequestNotRead:
        return {}


def _seconds(text: str | None, default: float) -> float:
    try:
        return min(600.0, max(0.0, float(text))) if text else default
    except ValueError:
        return default


def _tokens(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else default


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
    transport: httpx2.AsyncBaseTransport | None = None,
    breaker: Budget | None = None,
    slow_after: float | None = None,
    circuits: Breaker | None = None,
    **client: Any,
) -> httpx2.AsyncClient:
    """An ``httpx2.AsyncClient`` under ``budget`` (a name, or a function of the request).

    ``wait``: seconds to stand in line. ``ttl``: seconds after which a call counts as used in full and gives its place
    free; longer than the longest call. ``provider``: whose error shape a refusal has (auto: by the path).
    ``estimate``: improves the guess of a request's use. ``price``: for budgets in money. ``charges``: see
    `bursar.client.charges`. ``on_headers``: called with the budget and the rate-limit headers of each answer (the
    latest are in ``fleet.limiter.observed``). ``on_refused``: see the module's text. ``transport``: does the sending.
    ``breaker``: the target whose circuit is asked before anything is reserved, and told how the call ended (a name, or
    a function of the request); see `bursar.client.breaker_http`. ``slow_after``: seconds to an answer's headers after
    which the breaker counts the call as slow. ``circuits``: the fleet's breaker.

    All else goes to ``httpx2.AsyncClient``, with the defaults of the official SDKs for time-outs (600 s, 5 s to
    connect) and redirects, and without a bound on connections, since the budget bounds the calls. Proxies of the
    environment are not used: pass ``proxy=``.
    """
    options = Options(wait, ttl, provider, estimate, price, charges or {}, on_headers, on_refused)
    names = ("verify", "cert", "trust_env", "http1", "http2", "limits", "proxy")
    network = {name: client.pop(name) for name in names if name in client}
    network.setdefault("limits", httpx2.Limits(max_connections=None, max_keepalive_connections=256))
    inner = transport or httpx2.AsyncHTTPTransport(**network)
    client.setdefault("timeout", DEFAULT_TIMEOUT)
    client.setdefault("follow_redirects", True)
    if breaker is None or circuits is None:
        return httpx2.AsyncClient(transport=LimitedTransport(limiter, budget, inner, options), **client)
    inner = BreakerTransport(circuits, breaker, inner, on_refused, slow_after)
    limited = LimitedTransport(limiter, budget, inner, options)
    return httpx2.AsyncClient(transport=BreakerGate(circuits, breaker, limited, on_refused), **client)
