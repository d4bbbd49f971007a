"""Functions that may only be called under a budget::

    @fleet.limiter.limited("openai/gpt", input_tokens=lambda prompt: len(prompt) // 3, output_tokens=400, wait=30)
    async def ask(prompt: str) -> str: ...

Each call of the function is one call of the provider: it is sent right before the function begins, and counts in full
when it raises, because then nobody knows. A function with a parameter ``permit`` gets the permit, and says itself what
was sent and used; ``usage`` reads it from what the function returns.

Both kinds of functions work with both kinds of clients. The one thing that cannot be: a function without ``async`` in
the thread of the event loop can use what this process holds by lease, but not wait for the limiter.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from bursar.client.permit import Permit, Settlement
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.limiter import Limiter

F = TypeVar("F", bound=Callable[..., Any])

Amount = int | Callable[..., int]
"""An amount to reserve, or what makes it of the arguments of the call."""

Usage = Callable[[Any], Mapping[str, int]]
"""What makes the arguments of `Permit.used` of what the function has returned."""

AMOUNTS: Final = frozenset(
    {"input_tokens", "output_tokens", "requests", "concurrent", "usd_micros", "network_bytes", "wait"}
)


def limited(
    limiter: Limiter, budget: str | Callable[..., str], usage: Usage | None, ask: Mapping[str, Any]
) -> Callable[[F], F]:
    """The decorator; see `Limiter.limited`."""

    def decorate(function: F) -> F:
        takes_permit = "permit" in inspect.signature(function).parameters

        def reservation(args: Any, kwargs: Any) -> AbstractAsyncContextManager[Any]:
            told = {
                name: value(*args, **kwargs) if name in AMOUNTS and callable(value) else value
                for name, value in ask.items()
            }
            name = budget if isinstance(budget, str) else budget(*args, **kwargs)
            return limiter.reserve(name, **told)

        def begin(permit: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            if takes_permit:
                return {**kwargs, "permit": permit}
            permit.sent()
            return kwargs

        def end(permit: Any, result: Any) -> Any:
            if usage is not None:
                permit.used(**usage(result))
            return result

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waiting(*args: Any, **kwargs: Any) -> Any:
                async with _Here(limiter, reservation(args, kwargs)) as permit:
                    return end(permit, await function(*args, **begin(permit, kwargs)))

            return cast("F", waiting)

        @functools.wraps(function)
        def blocking(*args: Any, **kwargs: Any) -> Any:
            with Blocking(limiter, reservation(args, kwargs)) as permit:
                return end(permit, function(*args, **begin(permit, kwargs)))

        return cast("F", blocking)

    return decorate


class _Here:
    """A reservation used from whatever event loop this is."""

    __slots__ = ("_limiter", "_reservation")

    def __init__(self, limiter: Limiter, reservation: Any) -> None:
        self._limiter = limiter
        self._reservation = reservation

    async def __aenter__(self) -> Any:
        return await self._run(self._reservation.__aenter__())

    async def __aexit__(self, *error: object) -> None:
        await self._run(self._reservation.__aexit__(*error))

    async def _run(self, work: Any) -> Any:
        loop = self._limiter.loop
        if loop is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


class SyncPermit:
    """A permit for code that waits: `settle` and `cancel` return when it is durable. Everything else is as in
    `bursar.client.permit.Permit`."""

    __slots__ = ("_loop", "_permit")

    def __init__(self, loop: asyncio.AbstractEventLoop, permit: Any) -> None:
        self._loop = loop
        self._permit = permit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._permit, name)

    def settle(self, **used: int | None) -> Settlement:
        """End the permit with what was used; see `Permit.settle`."""
        settled: Settlement = run_in(self._loop, _awaited, lambda: self._permit.settle(**used))
        return settled

    def cancel(self) -> Settlement:
        """The call was never sent: everything is refunded."""
        cancelled: Settlement = run_in(self._loop, _awaited, self._permit.cancel)
        return cancelled


async def _awaited(make: Callable[[], Any]) -> Any:
    return await make()


class Blocking:
    """A reservation used with ``with``, in a thread that may wait; and in that of the event loop as far as it need
    not."""

    __slots__ = ("_limiter", "_reservation")

    def __init__(self, limiter: Limiter, reservation: Any) -> None:
        self._limiter = limiter
        self._reservation = reservation

    def __enter__(self) -> Any:
        permit = self._reservation.take_local() if self._is_near else None
        return permit or self._ask()

    def __exit__(self, *error: object) -> None:
        if not (self._is_near and self._reservation.leave_local(*error)):
            run_in(self._limiter.loop, self._reservation.__aexit__, *error)

    def acquire(self) -> Any:
        """A permit that its holder settles or cancels."""
        permit = self._reservation.take_local() if self._is_near else None
        return permit or self._ask()

    def _ask(self) -> Any:
        loop = self._limiter.loop
        permit = run_in(loop, self._reservation.__aenter__)
        return SyncPermit(loop, permit) if isinstance(permit, Permit) or not self._is_near else permit

    @property
    def _is_near(self) -> bool:
        """Whether leases may be used from this thread."""
        return self._limiter.keeper.threads or _running() is self._limiter.loop


def run_in(loop: asyncio.AbstractEventLoop, method: Callable[..., Any], *args: Any) -> Any:
    """Have a coroutine run in that loop, and wait for it in this thread."""
    if _running() is loop:
        text = "a function without async cannot wait for the limiter in the thread of the event loop"
        raise CallerError("would_block", text)
    future = asyncio.run_coroutine_threadsafe(method(*args), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
