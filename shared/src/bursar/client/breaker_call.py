"""One call under the breaker: asked before, reported after.

::

    async with fleet.breaker.call("provider-a/eu/gpt-x") as call:   # or ``with``: nothing is waited for then
        answer = await client.post(...)
        call.answered(answer.status_code, answer.headers)

    call = fleet.breaker.ask("provider-a/eu/gpt-x")                 # in two steps; raises CircuitOpen
    ...
    call.done()                                                     # or call.done(error)

How the block ends says how the call ended: by its exception, or by what it told the call. A call that tries a half-open
target holds a probe permit; it is cut off (`TimeoutError`) when the permit's time is over, because another may be
trying then, and at the deadline (`bursar.client.deadline`) if that comes first.

With a chain of targets the call is to the first that may be called: ``call.target``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bursar.client import deadline
from bursar.client.breaker_cause import CANCELLED, NOTHING, Cause, of_exception, of_status
from bursar.client.breaker_errors import CircuitOpen, RetryDenied
from bursar.client.breaker_probe import Lease
from bursar.client.bulkhead import Bulkhead, BulkheadFull
from bursar.client.fallback import Chain, Step
from bursar.contracts.breaker import Outcome
from bursar.errors import CallerError, ServiceError

if TYPE_CHECKING:
    from bursar.client.breaker import Breaker

FAIR_MS: Final = 1_000.0
"""A call that its caller's deadline cuts off sooner than this says nothing about the target."""


class Entry(NamedTuple):
    """What a call goes by: nothing, a permit of the registry, or (the target is shut here) a trial of one's own."""

    lease: Lease | None = None
    trial: tuple[str, ...] = ()


FREELY: Final = Entry()


class CircuitCall:
    """Made by `Breaker.call` and `Breaker.ask`. ``target``: what to call (None: a step of the chain that calls
    nothing), ``kind``: which kind of step it is, ``is_probe``: whether it tries a half-open target."""

    __slots__ = (
        *("_again_after", "_began", "_breaker", "_bulkheads", "_chain", "_entry", "_is_counted", "_is_open", "_kept"),
        *("_limit", "_slow_after", "_slow_ms", "_told", "_until", "step"),
    )

    def __init__(
        self,
        breaker: Breaker,
        chain: Chain,
        slow_after: float | None = None,
        *,
        is_counted: bool = True,
        again_after: Outcome | None = None,
    ) -> None:
        self.step = chain.steps[0]
        self._breaker = breaker
        self._chain = chain
        self._slow_after = slow_after
        self._slow_ms = math.inf
        self._again_after = again_after
        self._is_counted = is_counted
        self._entry = FREELY
        self._bulkheads: tuple[Bulkhead, ...] = ()
        self._kept: tuple[Bulkhead, ...] = ()
        self._told: Cause | None = None
        self._began = 0.0
        self._until = math.inf
        self._limit: asyncio.Timeout | None = None
        self._is_open = False

    @property
    def target(self) -> str | None:
        return self.step.target

    @property
    def kind(self) -> str:
        return self.step.kind

    @property
    def is_probe(self) -> bool:
        return self._entry.lease is not None or bool(self._entry.trial)

    @property
    def left(self) -> float | None:
        """Seconds until it is cut off: the permit of a probe, or the deadline. None: it is not."""
        return None if self._until == math.inf else max(0.0, self._until - self._breaker.clock.now()) / 1000.0

    @property
    def outcome(self) -> Outcome | None:
        """How it has ended by what it was told so far; None: nothing that counts."""
        return None if self._told is None else self._told.outcome

    # ---- how it ended

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

    def done(self, error: BaseException | None = None) -> None:
        """The second step after `Breaker.ask`: it has ended, well unless an error is given or it was told otherwise.
        Once; what comes later changes nothing."""
        self._end(error)

    def keep_place(self) -> Callable[[], None]:
        """Keep the place in the bulkheads beyond the call's end, until what this returns is called: its answer is still
        being read."""
        kept, self._bulkheads = self._bulkheads, ()
        self._kept = kept

        def release() -> None:
            nonlocal kept
            for bulkhead in kept:
                bulkhead.release()
            kept = ()

        return release

    # ---- enter and leave

    async def __aenter__(self) -> Self:
        await self.begin()
        if self._until < math.inf:
            self._limit = asyncio.timeout(self.left)
            await self._limit.__aenter__()
        return self

    def __enter__(self) -> Self:
        self._fresh()
        refused: ServiceError | None = None
        for step in self._chain.steps:
            try:
                target = step.target
                self._begin(
                    step, FREELY if target is None else self._breaker.admit(target, is_counted=self._is_counted)
                )
                return self
            except (CircuitOpen, BulkheadFull, RetryDenied) as error:
                refused = refused or error
        assert refused is not None
        raise refused

    async def begin(self) -> None:
        """The first of two steps, for `Breaker.ask_probe`."""
        self._fresh()
        refused: ServiceError | None = None
        for step in self._chain.steps:
            try:
                target = step.target
                entry = FREELY if target is None else await self._breaker.enter(target, is_counted=self._is_counted)
                self._begin(step, entry)
                return
            except (CircuitOpen, BulkheadFull, RetryDenied) as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _fresh(self) -> None:
        if self._is_open:
            raise CallerError("bad_request", "this call is under way; ask for another")
        deadline.check(self._breaker.clock)
        self._told = None

    def _begin(self, step: Step, entry: Entry) -> None:
        """Raises `BulkheadFull` or `RetryDenied`; what was lent for it goes back then."""
        breaker, until = self._breaker, deadline.until()
        now = self._began = breaker.clock.now()
        if step.target is not None:
            try:
                terms = breaker.occupy(step.target, self._again_after)
            except (BulkheadFull, RetryDenied):
                breaker.left(step.target, entry, None, None)
                raise
            self._bulkheads = terms.bulkheads
            slow = terms.slow_ms if self._slow_after is None else self._slow_after * 1000.0
            self._slow_ms = math.inf if slow is None else slow
            if terms.deadline_ms is not None:
                until = min(until, now + terms.deadline_ms)
        self.step, self._entry, self._is_open = step, entry, True
        self._until = until if entry.lease is None else min(until, entry.lease.until)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        limit, self._limit = self._limit, None
        try:
            if limit is not None:
                await limit.__aexit__(kind, error, trace)
        except TimeoutError as late:
            error = late
            if self._is_impatient():
                self._told = CANCELLED
            raise
        finally:
            self._end(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            self._told = CANCELLED
            self._end(None)

    def _is_impatient(self) -> bool:
        """Whether the caller's own deadline has cut it off before the target had a fair time."""
        if self._entry.lease is not None and self._entry.lease.until <= self._until:
            return False
        return self._until - self._began < (FAIR_MS if self._slow_ms == math.inf else self._slow_ms)

    def _end(self, error: BaseException | None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        outcome, retry_after = self._cause(error)
        took = self._breaker.clock.now() - self._began
        if outcome == "ok" and took > self._slow_ms:
            outcome = "slow"
        self._told = Cause(outcome, retry_after)
        for bulkhead in self._bulkheads:
            bulkhead.leave(took, outcome)
        for bulkhead in self._kept:
            bulkhead.note(took, outcome)
        self._bulkheads = self._kept = ()
        if self.step.target is not None:
            self._breaker.left(self.step.target, self._entry, outcome, retry_after)

    def _cause(self, error: BaseException | None) -> Cause:
        """The caller knows best; but an answer that began well may still be cut off."""
        if self._told is None:
            return of_exception(error)
        if error is not None and self._told.outcome == "ok":
            found = of_exception(error)
            return found if found.outcome in {"timeout", "cancelled"} else self._told
        return self._told
