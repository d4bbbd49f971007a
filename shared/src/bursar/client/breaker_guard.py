"""A function under the breaker, and work that is done again when it fails: `Breaker.guard`, `Breaker.run`.

::

    @fleet.breaker.guard("provider-a/eu/gpt-x", follow=True, retries=2, give="call")
    async def ask(prompt: str, *, call: CircuitCall) -> str: ...

What fails by the target's fault is done again: at the next step of the chain, which waits for nothing, or at the last
target once more, after a pause that is drawn from a range that doubles. Each of these is paid for by the budget of
retries of the target that it goes to, so that an outage is not multiplied; without a budget, and past the deadline, the
failure is what is raised.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bursar.client import deadline
from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_errors import CircuitOpen, RetryDenied
from bursar.client.bulkhead import BulkheadFull
from bursar.client.fallback import Chain
from bursar.contracts.breaker import Outcome
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.breaker import Breaker

FIRST_PAUSE: Final = 0.1
MAX_PAUSE: Final = 5.0
AGAIN: Final[frozenset[Outcome]] = frozenset({"timeout", "error", "overload", "rate_limited"})
_LONG: Final = 86_400.0
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


async def run(
    breaker: Breaker,
    chain: Chain,
    work: Callable[[CircuitCall], Awaitable[T]],
    retries: int,
    slow_after: float | None,
) -> T:
    """See `Breaker.run`."""
    first = chain.steps[0].target
    longest = None if first is None else breaker.terms(first).deadline_ms
    failed: Exception | None = None
    after: Outcome | None = None
    pause = FIRST_PAUSE
    with deadline.deadline(_LONG if longest is None else longest / 1000.0, breaker.clock):
        while True:
            call = breaker.call(chain, slow_after=slow_after, again_after=after)
            try:
                async with call:
                    return await work(call)
            except (CircuitOpen, BulkheadFull, RetryDenied, deadline.DeadlineExceeded) as refused:
                raise failed or refused from None
            except Exception as error:
                if call.outcome not in AGAIN and not (call.target is None and isinstance(error, LookupError)):
                    raise
                failed, after = error, call.outcome if call.outcome in AGAIN else after
                left = chain.after(call.step)
                if left is None:
                    if not retries or call.target is None:
                        raise
                    retries -= 1
                    await _rest(breaker, pause, error)
                    pause = min(MAX_PAUSE, 2.0 * pause)
                chain = left or chain._replace(steps=(call.step,))


async def _rest(breaker: Breaker, pause: float, failed: Exception) -> None:
    """Before the same target is called again; raises the failure where there is no time for that."""
    seconds = breaker.random.uniform(0.0, pause)
    left = deadline.remaining(breaker.clock)
    if left is not None and left <= seconds:
        raise failed
    await asyncio.sleep(seconds)


def guarded(
    breaker: Breaker, chain: Callable[[], Chain], work: F, retries: int, slow_after: float | None, give: str | None
) -> F:
    """See `Breaker.guard`. Raises `CallerError` for what cannot be guarded."""
    if inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work):
        raise CallerError("bad_request", "a generator has no end that could be reported: use `call` inside of it")
    if inspect.iscoroutinefunction(work):

        @functools.wraps(work)
        async def awaited(*told: Any, **named: Any) -> Any:
            def once(call: CircuitCall) -> Awaitable[Any]:
                return work(*told, **(named | {give: call} if give else named))  # type: ignore[no-any-return]

            return await run(breaker, chain(), once, retries, slow_after)

        return awaited  # type: ignore[return-value]
    if retries:
        raise CallerError("bad_request", "only coroutine functions are done again: a pause would stop the event loop")

    @functools.wraps(work)
    def called(*told: Any, **named: Any) -> Any:
        with breaker.call(chain(), slow_after=slow_after) as call:
            return work(*told, **(named | {give: call} if give else named))

    return called  # type: ignore[return-value]
