"""Provider calls under the breaker: two httpx2 transports, one on each side of the limiter's.

`BreakerGate` stands outside, so that nothing is reserved for a target that is down. `BreakerTransport` stands inside,
next to the network: a call that has waited in the limiter's line asks again (and asks for a probe's permit) when it is
about to go, and what came back is reported: the status, or the error. A call that is refused there gives its
reservation back.

When the target is not to be called, the SDK gets an answer that it understands: 503 with the reason in the body and
``x-should-retry: false`` (``on_refused="raise"``: `bursar.CircuitOpen` is raised instead). The same holds for a full
bulkhead.

Inside of a `bursar.client.deadline` no phase of a request may take longer than what is left, and the other side is told
how much that is (header ``bursar-timeout-ms``). With ``reroute`` the target's fallback chain is followed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

import httpx2

from bursar.client import deadline
from bursar.client.breaker import Breaker
from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.breaker_verdict import Stopped
from bursar.client.bulkhead import BulkheadFull

Target = str | Callable[[httpx2.Request], str]
Reroute = Callable[[httpx2.Request, CircuitCall], httpx2.Request | httpx2.Response]
"""Makes of a request the one to ``call.target``, another than it was made for; or, where the step of the chain has no
target, the answer itself."""

LEAVE: Final = "bursar_leave"
"""Extension of a request: to be called right before it is sent, where the network does not say so itself."""

ADMITTED: Final = "bursar_admitted"
"""Extension of a request that the gate has let through: it does not count twice against a recovering target's share."""

PHASES: Final = ("connect", "read", "write", "pool")


class _Wrapper(httpx2.AsyncBaseTransport):
    """Wraps ``inner``. ``target``: a name, or a function of the request."""

    def __init__(
        self,
        breaker: Breaker,
        target: Target,
        inner: httpx2.AsyncBaseTransport,
        on_refused: Literal["answer", "raise"] = "answer",
    ) -> None:
        self._breaker = breaker
        self._target = target
        self._inner = inner
        self._on_refused = on_refused

    def _target_of(self, request: httpx2.Request) -> str:
        return self._target if isinstance(self._target, str) else self._target(request)

    def _refuse(self, request: httpx2.Request, error: CircuitOpen | BulkheadFull) -> httpx2.Response:
        if self._on_refused == "raise":
            raise error
        return _answer(request, error)

    async def aclose(self) -> None:
        await self._inner.aclose()


class BreakerGate(_Wrapper):
    """Turns away what is not to be called; a look-up, nothing is sent. ``follow``: lets go what may go to any step of
    the target's fallback chain."""

    def __init__(
        self,
        breaker: Breaker,
        target: Target,
        inner: httpx2.AsyncBaseTransport,
        on_refused: Literal["answer", "raise"] = "answer",
        *,
        follow: bool = False,
    ) -> None:
        super().__init__(breaker, target, inner, on_refused)
        self._follow = follow

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = self._target_of(request)
        if self._follow:
            steps = self._breaker.chain(target).steps
            verdicts = [self._breaker.peek(step.target) for step in steps if step.target is not None]
            if len(verdicts) == len(steps) and not any(verdict or verdict.may_probe for verdict in verdicts):
                assert isinstance(verdicts[0], Stopped)
                return self._refuse(request, verdicts[0].error())
            return await self._inner.handle_async_request(request)
        verdict = self._breaker.allows(target)
        if isinstance(verdict, Stopped) and not verdict.may_probe:
            return self._refuse(request, verdict.error())
        request.extensions = {**request.extensions, ADMITTED: True}
        return await self._inner.handle_async_request(request)


class BreakerTransport(_Wrapper):
    """Makes the call, if it is allowed, and reports it. ``slow_after``: seconds to the answer's headers after which a
    call counts as slow. ``reroute``: follow the target's fallback chain."""

    def __init__(
        self,
        breaker: Breaker,
        target: Target,
        inner: httpx2.AsyncBaseTransport,
        on_refused: Literal["answer", "raise"] = "answer",
        slow_after: float | None = None,
        reroute: Reroute | None = None,
    ) -> None:
        super().__init__(breaker, target, inner, on_refused)
        self._slow_after = slow_after
        self._reroute = reroute

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = self._target_of(request)
        what = target if self._reroute is None else self._breaker.chain(target)
        is_counted = ADMITTED not in request.extensions
        try:
            async with self._breaker.call(what, slow_after=self._slow_after, is_counted=is_counted) as call:
                if self._reroute is not None and call.target != target:
                    found = self._reroute(request, call)
                    if isinstance(found, httpx2.Response):
                        return found
                    request = found
                self._hurry(request, call)
                leave = request.extensions.get(LEAVE)
                if leave is not None and not isinstance(self._inner, httpx2.AsyncHTTPTransport):
                    leave()
                response = await self._inner.handle_async_request(request)
                call.answered(response.status_code, response.headers)
                if not response.is_closed and isinstance(response.stream, httpx2.AsyncByteStream):
                    response.stream = _Kept(response.stream, call.keep_place())
                return response
        except (CircuitOpen, BulkheadFull) as error:
            return self._refuse(request, error)

    def _hurry(self, request: httpx2.Request, call: CircuitCall) -> None:
        """Let no phase take longer than what is left, and say to the other side how much that is."""
        left = call.left
        if left is None:
            return
        given = request.extensions.get("timeout", {})
        times = {phase: left if given.get(phase) is None else min(left, given[phase]) for phase in PHASES}
        request.extensions = {**request.extensions, "timeout": times}
        for name, value in deadline.headers(self._breaker.clock).items():
            request.headers[name] = value


class _Kept(httpx2.AsyncByteStream):
    """An answer's body, unchanged; the call's place in the bulkheads is free when it is closed."""

    def __init__(self, inner: httpx2.AsyncByteStream, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release = release

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            yield part

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._release()


def _answer(request: httpx2.Request, refused: CircuitOpen | BulkheadFull) -> httpx2.Response:
    """The refusal in the provider's own words."""
    text = f"{refused.text} ({refused.advice})"
    if isinstance(refused, CircuitOpen):
        kind, code, where = "bursar_circuit_open", refused.reason, refused.circuit
    else:
        kind, code, where = "bursar_bulkhead_full", refused.code, refused.target
    if request.url.path.endswith("/messages"):
        body: dict[str, object] = {"type": "error", "error": {"type": "overloaded_error", "message": text}}
    else:
        body = {"error": {"message": text, "type": kind, "code": code, "param": where}}
    headers = {"content-type": "application/json", "x-should-retry": "false", "x-bursar-circuit": where}
    if isinstance(refused, CircuitOpen) and refused.retry_in is not None:
        headers["retry-after-ms"] = str(int(refused.retry_in * 1000))
    return httpx2.Response(
        503, headers=headers, content=json.dumps(body).encode(), request=request, extensions={"bursar": refused}
    )
