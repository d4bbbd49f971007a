"""The same client for code without asyncio::

    with bursar.connect_sync() as fleet:
        with fleet.limiter.reserve("openai/gpt", input_tokens=900, output_tokens=400, wait=30) as permit:
            permit.sent()
            answer = call_the_provider()
            permit.used(input_tokens=answer.usage.input, output_tokens=answer.usage.output)

An event loop in a thread of its own has the connection; any number of threads use one fleet. What a lease allows is
decided in the thread that asks, under a lock, without the loop having to do anything; the rest waits for the loop. The
promises are those of `bursar.client.limiter`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from bursar.bus.base import Bus
from bursar.client.fleet import DRAIN, Fleet
from bursar.client.limited import Blocking, F, SyncPermit, Usage, run_in
from bursar.client.limiter import PATIENCE, Limiter
from bursar.client.local import HeldLease
from bursar.client.local_permit import LocalPermit
from bursar.client.target import Target, resolve
from bursar.client.time import Clock
from bursar.contracts.limiter import StatusReply
from bursar.contracts.limiter_control import Simulated
from bursar.errors import CallerError

if TYPE_CHECKING:
    import httpx2

    from bursar.client.breaker_sync import SyncBreaker

T = TypeVar("T")

STOP: Final = 5.0
"""Seconds to wait for the thread of the loop, beyond the drain."""


class SyncLimiter:
    """`bursar.client.limiter.Limiter` for threads; ``inner`` is that limiter."""

    def __init__(self, inner: Limiter) -> None:
        self.inner = inner

    def reserve(self, budget: str, **ask: Any) -> Blocking:
        """Use it with ``with``; arguments and errors as `Limiter.reserve`."""
        return Blocking(self.inner, self.inner.reserve(budget, **ask))

    def acquire(self, budget: str, **ask: Any) -> SyncPermit | LocalPermit:
        """A permit that you settle or cancel yourself, in any thread."""
        permit: SyncPermit | LocalPermit = self.reserve(budget, **ask).acquire()
        return permit

    def try_reserve(self, budget: str, **ask: Any) -> LocalPermit | None:
        """See `Limiter.try_reserve`: at once, in this thread."""
        return self.inner.try_reserve(budget, **ask)

    def held(self, budget: str, **of: Any) -> HeldLease:
        """See `Limiter.held`."""
        return self.inner.held(budget, **of)

    def status(self, budget: str | None = None, **of: Any) -> StatusReply:
        """See `Limiter.status`: limits, use and headroom."""
        status: StatusReply = run_in(self.inner.loop, partial(self.inner.status, budget, **of))
        return status

    def simulate(self, budget: str, **what: Any) -> Simulated:
        """See `Limiter.simulate`: what if."""
        simulated: Simulated = run_in(self.inner.loop, partial(self.inner.simulate, budget, **what))
        return simulated

    def limited(self, budget: str | Callable[..., str], *, usage: Usage | None = None, **ask: Any) -> Callable[[F], F]:
        """See `Limiter.limited`."""
        return self.inner.limited(budget, usage=usage, **ask)


class SyncFleet:
    """A connection to Bursar as one agent, for threads. Made by `connect_sync`; enter it with ``with``."""

    def __init__(
        self,
        target: Target | None,
        *,
        bus: Callable[[], Coroutine[Any, Any, Bus]] | None = None,
        clock: Clock | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._target = target
        self._make_bus = bus
        self._clock = clock
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._fleet: Fleet | None = None
        self._bus: Bus | None = None
        self._limiter: SyncLimiter | None = None
        self._breaker: SyncBreaker | None = None

    @property
    def limiter(self) -> SyncLimiter:
        if self._limiter is None:
            raise CallerError("not_connected", "use the fleet inside `with bursar.connect_sync() as fleet:`")
        return self._limiter

    @property
    def breaker(self) -> SyncBreaker:
        """Circuit breakers. It begins to listen when it is first used, and waits a moment then to hear what is open."""
        if self._breaker is None:
            from bursar.client import breaker_sync  # noqa: PLC0415 - whoever does not use it pays nothing

            self._breaker = self.run(breaker_sync.begin, self.fleet)
        return self._breaker

    def http_client(self, budget: str | Callable[[httpx2.Request], str], **options: Any) -> httpx2.Client:
        """An ``httpx2.Client`` whose every request stands under ``budget``, for the ``http_client`` argument of the
        official SDKs' synchronous clients. Options: see `bursar.client.http_sync.http_client`."""
        from bursar.client.http_sync import http_client  # noqa: PLC0415 - httpx2 is an extra

        return http_client(self.fleet.limiter, budget, **options)

    @property
    def fleet(self) -> Fleet:
        """The fleet behind it, for `run`."""
        if self._fleet is None:
            raise CallerError("not_connected", "use the fleet inside `with bursar.connect_sync() as fleet:`")
        return self._fleet

    @property
    def principal(self) -> str:
        return self.fleet.principal

    def run(self, method: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Have a coroutine function run in the fleet's loop, and wait for what it returns: for whatever has no method
        here, such as ``fleet.run(fleet.fleet.scheduler.run, ...)``."""
        if self._loop is None:
            raise CallerError("not_connected", "use the fleet inside `with bursar.connect_sync() as fleet:`")
        result: T = run_in(self._loop, method, *args)
        return result

    def __enter__(self) -> Self:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run_loop, args=(loop,), name="bursar-fleet", daemon=True)
        self._thread.start()
        try:
            self._fleet = self.run(self._open)
        except BaseException:
            self._stop()
            raise
        self._limiter = SyncLimiter(self._fleet.limiter)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, drain: float = DRAIN) -> None:
        """Give leases back, finish the settlements (at most ``drain`` seconds), disconnect."""
        if self._loop is None:
            return
        try:
            if self._fleet is not None:
                self.run(self._fleet.close, drain)
            if self._bus is not None:
                self.run(self._bus.close)
        finally:
            self._fleet = self._limiter = self._breaker = self._bus = None
            self._stop()

    async def _open(self) -> Fleet:
        self._bus = None if self._make_bus is None else await self._make_bus()
        fleet = Fleet(self._target, bus=self._bus, clock=self._clock, patience=self._patience, threads=True)
        return await fleet.__aenter__()

    def _stop(self) -> None:
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(STOP)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def connect_sync(
    url: str | None = None,
    *,
    creds: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    name: str | None = None,
    patience: float = PATIENCE,
) -> SyncFleet:
    """A fleet to enter with ``with``, for code without asyncio; arguments and errors as `bursar.connect`."""
    return SyncFleet(resolve(url, creds, home, name), patience=patience)
