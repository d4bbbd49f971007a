"""Provider calls under the breaker: an httpx2 transport around another.

It stands outside of the limiter's, so that nothing is reserved for a target that is down, and reports what came back:
the status, or the error. When the target is not to be called, the SDK gets an answer that it understands: 503 with the
reason in the body and ``x-should-retry: false`` (``on_refused="raise"``: `bursar.CircuitOpen` is raised instead).
What the limiter refuses says nothing about the target.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import httpx2

from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen

Target = str | Callable[[httpx2.Request], str]


class BreakerTransport(httpx2.AsyncBaseTransport):
    """Wraps ``inner``. ``target``: a name, or a function of the request. ``slow_after``: seconds to the answer's
    headers after which a call counts as slow."""

    def __init__(
        self,
        breaker: Breaker,
        target: Target,
        inner: httpx2.AsyncBaseTransport,
        *,
        on_refused: Literal["answer", "raise"] = "answer",
        slow_after: float | None = None,
    ) -> None:
        self._breaker = breaker
        self._target = target
        self._inner = inner
        self._on_refused = on_refused
        self._slow_after = slow_after

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = self._target if isinstance(self._target, str) else self._target(request)
        try:
            async with self._breaker.call(target, slow_after=self._slow_after) as call:
                response = await self._inner.handle_async_request(request)
                if "bursar" in response.extensions:
                    call.ignore()  # it was refused before it was sent
                else:
                    call.answered(response.status_code, response.headers)
                return response
        except CircuitOpen as error:
            if self._on_refused == "raise":
                raise
            return _answer(request, error)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _answer(request: httpx2.Request, refused: CircuitOpen) -> httpx2.Response:
    """The refusal in the provider's own words."""
    text = f"{refused.text} ({refused.advice})"
    if request.url.path.endswith("/messages"):
        body: dict[str, object] = {"type": "error", "error": {"type": "overloaded_error", "message": text}}
    else:
        error = {"message": text, "type": "bursar_circuit_open", "code": refused.reason, "param": refused.circuit}
        body = {"error": error}
    headers = {"content-type": "application/json", "x-should-retry": "false", "x-bursar-circuit": refused.circuit}
    if refused.retry_in is not None:
        headers["retry-after-ms"] = str(int(refused.retry_in * 1000))
    return httpx2.Response(
        503, headers=headers, content=json.dumps(body).encode(), request=request, extensions={"bursar": refused}
    )
