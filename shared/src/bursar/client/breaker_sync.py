"""`bursar.client.breaker.Breaker` for threads: ``connect_sync().breaker``.

Decisions are look-ups in the thread that asks. Only a call that tries a half-open target waits, for its permit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from bursar.client.breaker import FIRST_LOOK, Breaker, What
from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.breaker_guard import F
from bursar.client.breaker_verdict import Verdict
from bursar.client.bulkhead import Bounds
from bursar.client.fallback import Chain
from bursar.client.fleet import Fleet
from bursar.client.limited import run_in
from bursar.contracts.breaker import Outcome


async def begin(fleet: Fleet) -> SyncBreaker:
    """The fleet's breaker, which has waited a moment to hear what is open; to be run in the fleet's loop."""
    await fleet.breaker.ready(FIRST_LOOK)
    return SyncBreaker(fleet.breaker, asyncio.get_running_loop())


class BlockingCall:
    """``with`` for one call. Entering waits for a probe's permit if one is needed."""

    def __init__(self, call: CircuitCall, loop: asyncio.AbstractEventLoop) -> None:
        self._call = call
        self._loop = loop

    def __enter__(self) -> CircuitCall:
        try:
            return self._call.__enter__()
        except CircuitOpen as refused:
            if refused.state != "half_open":
                raise
        run_in(self._loop, self._call.begin)
        return self._call

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.done(error)


class SyncBreaker:
    """``inner`` is the breaker of the fleet's event loop; what is not said here is as there."""

    def __init__(self, inner: Breaker, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self._loop = loop

    def allows(self, target: str) -> Verdict:
        return self.inner.allows(target)

    def peek(self, target: str) -> Verdict:
        return self.inner.peek(target)

    def circuits(self) -> dict[str, str]:
        return self.inner.circuits()

    def chain(self, target: str) -> Chain:
        return self.inner.chain(target)

    def call(self, what: What, *, slow_after: float | None = None, again_after: Outcome | None = None) -> BlockingCall:
        """One call, as ``with``. The deadline does not cut it off: look at ``call.left``."""
        return BlockingCall(self.inner.call(what, slow_after=slow_after, again_after=again_after), self._loop)

    def ask(self, what: What, *, slow_after: float | None = None) -> CircuitCall:
        """The first of two steps; the second is ``call.done()``."""
        return self.call(what, slow_after=slow_after).__enter__()

    def record(self, target: str, outcome: Outcome, *, retry_after: float | None = None) -> None:
        self.inner.record(target, outcome, retry_after=retry_after)

    def limit(self, target: str, bounds: Bounds | None) -> None:
        self.inner.limit(target, bounds)

    def guard(
        self, what: What, *, follow: bool = False, slow_after: float | None = None, give: str | None = None
    ) -> Callable[[F], F]:
        """A decorator for functions that are not coroutine functions; tries no half-open target."""
        return self.inner.guard(what, follow=follow, slow_after=slow_after, give=give)
