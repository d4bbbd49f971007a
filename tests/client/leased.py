"""Histories of one agent that calls under a lease, in virtual time: its load, and the limiter's own rules behind a
network that fails when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bursar.client.errors import LimiterUnavailable, Refused
from bursar.client.lease_holder import Holder
from bursar.client.limiter import Limiter
from bursar.client.local_permit import LocalPermit
from bursar.client.permit import Permit
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from tests.client.decided import DecidedLimiter, agent
from tests.client.virtual import run

Story = Callable[[DecidedLimiter, Limiter], Coroutine[Any, Any, None]]


def history(*specs: BudgetSpec, **options: Any) -> Callable[[Story], Callable[[], None]]:
    """Make a test of a story about the limiter and one agent; at its end the ledger must be whole."""

    def decorate(story: Story) -> Callable[[], None]:
        async def main() -> None:
            there = DecidedLimiter(*(specs or budgets()))
            async with agent(there, **options) as limiter:
                await story(there, limiter)
                there.check()

        def test() -> None:
            run(main())

        test.__name__, test.__doc__ = story.__name__, story.__doc__
        return test

    return decorate


def holder(limiter: Limiter) -> Holder:
    return limiter.keeper.holder(("b", "", ()))


def budgets(limit: int = 600_000, places: int = 200, ttl_ms: int = 5_000, **more: Any) -> tuple[BudgetSpec, ...]:
    limits: Any = {
        "requests": LimitSpec(limit=60_000, window_ms=60_000),
        "input_tokens": LimitSpec(limit=limit, window_ms=60_000),
        "concurrent": LimitSpec(limit=places, window_ms=0),
    }
    org = BudgetSpec(name="org", limits=limits, max_ttl_ms=ttl_ms)
    return org, BudgetSpec(name="b", parent="org", limits=limits, max_ttl_ms=ttl_ms, **more)


class Calls:
    """So many calls a second for so long; counts which were decided here, and the most in flight (``most``)."""

    def __init__(
        self, limiter: Limiter, per_second: float, tokens: int = 20, took: float = 0.02, wait: float = 5
    ) -> None:
        self.limiter = limiter
        self.local = self.direct = self.used = self.refused = self.flying = self.most = 0
        self.gap = 1.0 / per_second
        self._tokens = tokens
        self.took = took
        self._wait = wait
        self._running: set[asyncio.Task[None]] = set()

    async def go(self, seconds: float, *, wait: bool = True) -> None:
        """``wait``: until they have all ended."""
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until:
            task = asyncio.create_task(self._one())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(self.gap)
        if wait:
            await self.rest()

    async def rest(self) -> None:
        await asyncio.gather(*self._running)

    async def _one(self) -> None:
        try:
            await self._call()
        except (Refused, LimiterUnavailable):
            self.refused += 1

    async def _call(self) -> None:
        async with self.limiter.reserve("b", input_tokens=self._tokens, wait=self._wait) as permit:
            permit.sent()
            self.local += isinstance(permit, LocalPermit)
            self.direct += type(permit) is Permit
            self.flying += 1
            self.most = max(self.most, self.flying)
            await asyncio.sleep(self.took)
            self.flying -= 1
            permit.used(input_tokens=self._tokens - 5)
            self.used += self._tokens - 5
