"""The breaker for threads: ``connect_sync().breaker``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import bursar
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.bulkhead import Bounds
from bursar.client.sync import SyncFleet
from bursar.errors import CallerError
from tests.client.breaker_fakes import FakeRegistry
from tests.client.fakes import FakeBus, FakeLimiter, Message


@contextmanager
def connected() -> Iterator[tuple[SyncFleet, FakeRegistry]]:
    """A fleet for threads, and the registry that it talks to in the loop's own thread; nothing is signed for it, so
    that it asks twice a second."""
    made: list[FakeRegistry] = []

    async def bus() -> FakeBus:
        bus = FakeBus()
        limiter, registry = FakeLimiter(bus), FakeRegistry(bus)
        limits = limiter.hear

        def both(message: Message) -> None:
            (registry.hear if ".breaker." in message.subject else limits)(message)

        bus.server = both
        made.append(registry)
        return bus

    with SyncFleet(None, bus=bus) as fleet:
        yield fleet, made[0]


def until(check: Callable[[], bool]) -> None:
    for _ in range(500):
        if check():
            return
        time.sleep(0.01)
    raise AssertionError("not within five seconds")


def test_a_block_asks_and_reports_and_fetches_a_permit_if_it_has_to() -> None:
    """An open circuit is refused at once, a half-open one is tried."""
    with connected() as (fleet, there):
        with fleet.breaker.call("p/m") as call:
            call.answered(500)
        until(lambda: there.reports == [{"target": "p/m", "error": 1}])
        there.change("p", "open", 60_000)
        there.change("q", "half_open")
        until(lambda: set(fleet.breaker.circuits()) == {"p", "q"})
        with pytest.raises(CircuitOpen):
            fleet.breaker.ask("p/m")
        assert not fleet.breaker.allows("p/m")
        with fleet.breaker.call("q") as call:
            assert call.is_probe
        until(lambda: there.results() == ["ok"])


def test_decorators_bulkheads_and_deadlines_hold_for_threads_too() -> None:
    """As for coroutines."""
    with connected() as (fleet, there):

        @fleet.breaker.guard("p")
        def work() -> int:
            return 7

        assert work() == 7
        fleet.breaker.limit("p", narrow(1))
        held = fleet.breaker.ask("p/x")
        with pytest.raises(bursar.BulkheadFull):
            work()
        held.done()
        fleet.breaker.record("r", "auth")
        with bursar.deadline(-1), pytest.raises(bursar.DeadlineExceeded):
            work()
        until(lambda: {"target": "r", "auth": 1} in there.reports)
        assert [step.target for step in fleet.breaker.chain("p").steps] == ["p"]
        assert fleet.breaker.peek("p")


def narrow(most: int) -> Bounds:
    return Bounds(initial=most, least=most, most=most)


def test_in_the_thread_of_the_loop_it_does_not_wait() -> None:
    """That would stop the loop that it waits for."""
    with connected() as (fleet, there):
        there.change("p", "half_open")
        until(lambda: fleet.breaker.circuits() == {"p": "half_open"})

        async def inside() -> None:
            with pytest.raises(CallerError):
                fleet.breaker.ask("p")
            await asyncio.sleep(0)

        fleet.run(inside)
