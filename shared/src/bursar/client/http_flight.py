"""One provider call from its permit to the settlement, with asyncio or without: what `bursar.client.http` and
`bursar.client.http_sync` have in common."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx2

from bursar.client import headers as rate_limits
from bursar.client import http_bytes
from bursar.client.charges import charge_of, settle
from bursar.client.errors import Refused
from bursar.client.http_plan import Budget, Options, Plan, Planner
from bursar.client.limiter import Limiter
from bursar.client.permit import ENDED, Permit
from bursar.client.usage import Reader, reader_for

DEFAULT_TIMEOUT: Final = httpx2.Timeout(600.0, connect=5.0)
NETWORK: Final = ("verify", "cert", "trust_env", "http1", "http2", "limits", "proxy")
"""Options of a client that are its transport's."""
RESERVATIONS: Final = 8
"""Permits that one request may let go void before it is given up."""
THAW_S: Final = 0.05
"""Seconds after which one that was granted during a freeze is reserved again, twice as long each time: by then the
limiter has heard of it, and lets the call stand in line."""
LEAVING: Final = "send_request_headers.started"


class Flight:
    """One request on its way: from its permit to the settlement. ``sent_at``: local ms at which it left. ``moved``:
    bytes that have gone over the network, both ways."""

    __slots__ = ("_limiter", "_options", "moved", "permit", "plan", "sent_at", "status")

    def __init__(self, permit: Permit, plan: Plan, options: Options, limiter: Limiter) -> None:
        self.permit = permit
        self.plan = plan
        self.status: int | None = None
        self.sent_at: float | None = None
        self.moved = plan.sent
        self._options = options
        self._limiter = limiter

    def pass_by(self, size: int) -> None:
        """So many bytes more."""
        self.moved += size

    def arrived(self, response: httpx2.Response) -> Reader:
        """The head of an answer is there; returns who is to hear its body."""
        self.status = response.status_code
        self.pass_by(http_bytes.head(response))
        kind, encoding = response.headers.get("content-type", ""), response.headers.get("content-encoding", "")
        return reader_for(kind, "" if response.is_closed else encoding)

    def leave(self, now: float) -> None:
        """The next thing that happens is that bytes go out. Raises `PermitVoid`."""
        self.permit.check()
        self.permit.sent()
        self.sent_at = now

    def broken_off(self) -> None:
        """A good answer was closed, maybe before its end: what it has used is unknown."""
        if self.status is not None and self.status < 300:
            self.status = None

    def end(self, reader: Reader | None = None) -> None:
        """Settle, once: with the usage that the answer told, else by how the call ended."""
        if self.permit.state == ENDED:
            return
        if self.sent_at is None:
            self.permit.cancel_soon()
            return
        self.plan.weigh(self.permit, self.moved, self.status, self._limiter.sizes)
        if reader is not None:
            reader.end()
            if self.plan.record(self.permit, reader.usage, self._options.price, self._limiter.estimates):
                self.permit.settle_soon()
                return
        charges = {**self.plan.counts.charges, **self._options.charges}
        settle(self.permit, charge_of(charges, self.status))


class Limited:
    """What a transport knows of its budget, and what it does with an answer before anybody reads it."""

    def __init__(self, limiter: Limiter, budget: Budget, options: Options | None = None) -> None:
        self.limiter = limiter
        self.options = options or Options()
        self.planner = Planner(budget, self.options, limiter.estimates, limiter.sizes, limiter.principal)

    def flight(self, permit: Permit, plan: Plan) -> Flight:
        return Flight(permit, plan, self.options, self.limiter)

    def observe(self, response: httpx2.Response, flight: Flight) -> None:
        """Hear what the head of an answer tells of the provider's limits."""
        told = rate_limits.read(response.status_code, response.headers.items())
        plan = flight.plan
        budget, says = plan.ask.budget, plan.counts.headers
        if not told.is_empty:
            self.limiter.observed[budget] = told
            if self.options.on_headers is not None:
                self.options.on_headers(budget, told)
        elif told.status != 429:
            return
        sent = flight.sent_at if flight.sent_at is not None else self.limiter.clock.now()
        self.limiter.observer.heard(
            budget, told, sent=sent, amounts=plan.ask.amounts, window_ms=says.window_ms, rounding=says.rounding
        )

    def refusal(self, request: httpx2.Request, refused: Refused) -> httpx2.Response:
        """The refusal in the provider's own words; or it is raised, where that is wanted."""
        if self.options.on_refused == "raise":
            raise refused
        text = f"{refused.text} ({refused.advice})"
        if self.options.provider == "anthropic" or request.url.path.endswith("/messages"):
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


def is_leaving(name: str, info: Any) -> bool:
    """Whether httpx2's connection says that it is about to send a request of ours."""
    return name.endswith(LEAVING) and info["request"].method != b"CONNECT"
