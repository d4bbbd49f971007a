"""Functions that may only be called under a budget::

    @fleet.limiter.limited("openai/gpt", input_tokens=lambda prompt: len(prompt) // 3, output_tokens=400, wait=30)
    async def ask(prompt: str) -> str: ...

Each call of the function is one call of the provider: it is sent right before the function begins, and counts in full
when it raises, because then nobody knows. A function with a parameter ``permit`` gets the permit, and says itself what
was sent and used; ``usage`` reads it from what the function returns.

A generator, with or without ``async``, is one call from its first item until it ends or is closed: the call that it
streams. ``usage`` is asked about each of its items, and answers with nothing where an item tells nothing.

Both kinds of functions work with both kinds of clients. The one thing that cannot be: a function without ``async`` in
the thread of the event loop can use what this process holds by lease, but not wait for the limiter.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, closing
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from bursar.client.permit import Permit, Settlement
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.limiter import Limiter

F = TypeVar("F", bound=Callable[..., Any])

Amount = int | Callable[..., int]
"""An amount to reserve, or what makes it of the arguments of the call."""

Usage = Callable[[Any], Mapping[str, int] | None]
"""What makes the arguments of `Permit.used` of what the function has returned, or yielded; None: it tells nothing."""

AMOUNTS: Final = frozenset(
    {"input_tokens", "output_tokens", "requests", "concurrent", "usd_micros", "network_bytes", "wait"}
)


def limited(
    limiter: Limiter, budget: str | Callable[..., str], usage: Usage | None, ask: Mapping[str, Any]
) -> Callable[[F], F]:
    """The decorator; see `Limiter.limited`."""

    def decorate(function: F) -> F:
        rules = _Rules(limiter, budget, usage, ask, takes_permit="permit" in inspect.signature(function).parameters)
        return cast("F", functools.wraps(function)(_wrapper_of(function)(rules, function)))

    return decorate


class _Rules:
    """What a decorator was told, and how it treats each call."""

    __slots__ = ("ask", "budget", "limiter", "takes_permit", "usage")

    def __init__(
        self,
        limiter: Limiter,
        budget: str | Callable[..., str],
        usage: Usage | None,
        ask: Mapping[str, Any],
        *,
        takes_permit: bool,
    ) -> None:
        self.limiter = limiter
        self.budget = budget
        self.usage = usage
        self.ask = ask
        self.takes_permit = takes_permit

    def reservation(self, args: Any, kwargs: Any) -> AbstractAsyncContextManager[Any]:
        told = {
            name: value(*args, **kwargs) if name in AMOUNTS and callable(value) else value
            for name, value in self.ask.items()
        }
        name = self.budget if isinstance(self.budget, str) else self.budget(*args, **kwargs)
        return self.limiter.reserve(name, **told)

    def begin(self, permit: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of the function, which begins now."""
        if self.takes_permit:
            return {**kwargs, "permit": permit}
        permit.sent()
        return kwargs

    def end(self, permit: Any, result: Any) -> Any:
        """Record what a result, or an item, tells."""
        if self.usage is not None:
            permit.used(**(self.usage(result) or {}))
        return result


def _wrapper_of(function: Any) -> Callable[[_Rules, Any], Callable[..., Any]]:
    if inspect.isasyncgenfunction(function):
        return _streaming
    if inspect.isgeneratorfunction(function):
        return _drawing
    return _waiting if inspect.iscoroutinefunction(function) else _blocking


def _waiting(rules: _Rules, function: Any) -> Callable[..., Any]:
    async def waiting(*args: Any, **kwargs: Any) -> Any:
        async with _Here(rules.limiter, rules.reservation(args, kwargs)) as permit:
            return rules.end(permit, await function(*args, **rules.begin(permit, kwargs)))

    return waiting


def _blocking(rules: _Rules, function: Any) -> Callable[..., Any]:
    def blocking(*args: Any, **kwargs: Any) -> Any:
        with Blocking(rules.limiter, rules.reservation(args, kwargs)) as permit:
            return rules.end(permit, function(*args, **rules.begin(permit, kwargs)))

    return blocking


def _streaming(rules: _Rules, function: Any) -> Callable[..., Any]:
    async def streaming(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with (
            _Here(rules.limiter, rules.reservation(args, kwargs)) as permit,
            aclosing(function(*args, **rules.begin(permit, kwargs))) as items,
        ):
            async for item in items:
                yield rules.end(permit, item)

    return streaming


def _drawing(rules: _Rules, function: Any) -> Callable[..., Any]:
    def drawing(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with (
            Blocking(rules.limiter, rules.reservation(args, kwargs)) as permit,
            closing(function(*args, **rules.begin(permit, kwargs))) as items,
        ):
            for item in items:
                yield rules.end(permit, item)

    return drawing


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
