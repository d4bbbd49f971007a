"""One call under the breaker: asked before, reported after.

::

    async with fleet.breaker.call("provider-a/eu/gpt-x") as call:
        answer = await client.post(...)
        call.answered(answer.status_code, answer.headers)

How the block ends says how the call ended: by its exception, or by what it told the call. A call that tries a half-open
target holds a probe permit; it is cut off (`TimeoutError`) when the permit's time is over, because another may be
trying then.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from bursar.client.breaker_cause import NOTHING, Cause, of_exception, of_status
from bursar.client.breaker_registry import Lease
from bursar.contracts.breaker import Outcome

if TYPE_CHECKING:
    from bursar.client.breaker import Breaker


class Entry(NamedTuple):
    """What a call goes by: nothing, a permit of the registry, or (the registry is away) a trial of one's own."""

    lease: Lease | None = None
    trial: tuple[str, ...] = ()


class CircuitCall:
    """Made by `Breaker.call`. ``is_probe``: whether it tries a half-open target."""

    def __init__(self, breaker: Breaker, target: str, slow_after: float | None) -> None:
        self._breaker = breaker
        self._target = target
        self._slow_after = slow_after
        self._entry = Entry()
        self._told: Cause | None = None
        self._began = 0.0
        self._limit: asyncio.Timeout | None = None

    @property
    def is_probe(self) -> bool:
        return self._entry.lease is not None or bool(self._entry.trial)

    @property
    def left(self) -> float | None:
        """Seconds until a probe is cut off; None for any other call."""
        lease = self._entry.lease
        return None if lease is None else max(0.0, lease.until - self._breaker.clock.now()) / 1000.0

    def failed(self, kind: Outcome = "error", retry_after: float | None = None) -> None:
        """The call ended so, whatever the block does: timeout, error, overload, rate_limited, auth or cancelled.
        ``retry_after``: seconds that an overloaded target has asked to be left alone."""
        self._told = Cause(kind, retry_after)

    def answered(self, status: int, headers: Any = None) -> None:
        """The call was answered with this HTTP status; ``headers``: a mapping, for Retry-After."""
        self._told = of_status(status, headers)

    def ignore(self) -> None:
        """The call says nothing about the target: it was never sent, or its failure is the caller's own."""
        self._told = NOTHING

    async def __aenter__(self) -> Self:
        self._entry = await self._breaker.enter(self._target)
        self._began = self._breaker.clock.now()
        if self._entry.lease is not None:
            self._limit = asyncio.timeout(self.left)
            await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._limit is not None:
                await self._limit.__aexit__(kind, error, trace)
        except TimeoutError as late:
            error = late
            raise
        finally:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        outcome, retry_after = self._cause(error)
        if outcome == "ok" and self._slow_after is not None:
            took = self._breaker.clock.now() - self._began
            outcome = "slow" if took > self._slow_after * 1000.0 else outcome
        self._breaker.left(self._target, self._entry, outcome, retry_after)

    def _cause(self, error: BaseException | None) -> Cause:
        """The caller knows best; but an answer that began well may still be cut off."""
        if self._told is None:
            return of_exception(error)
        if error is not None and self._told.outcome == "ok":
            found = of_exception(error)
            return found if found.outcome in {"timeout", "cancelled"} else self._told
        return self._told
