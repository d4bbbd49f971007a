"""The client for threads, and decorators: the same promises without asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import bursar
from bursar.client.errors import PermitEnded, Refused
from bursar.client.fleet import Fleet
from bursar.client.local_permit import LocalPermit
from bursar.client.sync import SyncFleet
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.errors import CallerError
from tests.client.decided import DecidedLimiter
from tests.client.fakes import FakeBus, FakeLimiter


@contextmanager
def connected(**options: Any) -> Iterator[tuple[SyncFleet, FakeLimiter]]:
    """A fleet for threads, and the limiter that it talks to in the loop's own thread."""
    made: list[FakeLimiter] = []

    async def bus() -> FakeBus:
        bus = FakeBus()
        made.append(FakeLimiter(bus, **options))
        return bus

    with SyncFleet(None, bus=bus) as fleet:
        yield fleet, made[0]


def test_a_block_reserves_and_settles() -> None:
    """At its end the settlement is durable."""
    with connected() as (fleet, there):
        with fleet.limiter.reserve("b", input_tokens=900, output_tokens=400) as permit:
            permit.sent()
            permit.used(input_tokens=870, output_tokens=312)
            (key,) = there.open
        usage = {"requests": 1, "input_tokens": 870, "output_tokens": 312, "usd_micros": 0}
        assert there.settled[key] == ("used", usage)


def test_a_block_that_raises_before_sending_cancels() -> None:
    """All is refunded, and the error goes on."""
    with connected() as (fleet, there), pytest.raises(RuntimeError), fleet.limiter.reserve("b"):
        raise RuntimeError
    assert [how for how, _ in there.settled.values()] == ["cancelled"]


def test_a_permit_can_be_settled_by_hand_in_another_thread() -> None:
    """Once."""
    with connected() as (fleet, _):
        permit = fleet.limiter.acquire("b", input_tokens=7)
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(permit.settle(input_tokens=6)))
        thread.start()
        thread.join()
        assert got[0].outcome == "used"
        with pytest.raises(PermitEnded):
            permit.cancel()


def test_refusals_are_raised_in_the_thread_that_asked() -> None:
    """As they are with asyncio."""
    with connected(refuse_with="over_limit") as (fleet, _), pytest.raises(Refused) as refused:
        fleet.limiter.acquire("b")
    assert refused.value.retry_in == 1.5


def test_many_threads_use_one_fleet() -> None:
    """Each gets its own permit, and all are settled."""
    with connected() as (fleet, there):

        def work() -> None:
            for _ in range(20):
                with fleet.limiter.reserve("b") as permit:
                    permit.sent()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert fleet.limiter.status().budgets
    assert len(there.settled) == 160
    assert not there.open


def test_outside_of_its_block_a_fleet_says_so() -> None:
    """And its thread is gone."""
    with connected() as (fleet, _):
        pass
    with pytest.raises(CallerError, match="connect_sync"):
        fleet.limiter.status()
    assert not [thread for thread in threading.enumerate() if thread.name == "bursar-fleet"]


def test_connect_sync_finds_credentials_like_connect(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And complains like it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BURSAR_CREDS", raising=False)
    with pytest.raises(bursar.NoCredentials):
        bursar.connect_sync()


def test_a_decorated_function_is_one_call_under_the_budget() -> None:
    """Amounts may depend on the arguments, the usage on the result."""
    with connected() as (fleet, there):

        @fleet.limiter.limited(
            "b",
            input_tokens=len,
            output_tokens=50,
            usage=lambda text: {"output_tokens": len(text)},
        )
        def ask(prompt: str) -> str:
            (amounts,) = there.open.values()
            assert (amounts["input_tokens"], amounts["output_tokens"]) == (5, 50)
            return prompt.upper()

        assert ask("hello") == "HELLO"
        ((how, usage),) = there.settled.values()
        assert how == "used"
        assert usage is not None
        assert usage["output_tokens"] == 5


def test_a_decorated_function_that_raises_counts_in_full() -> None:
    """It had begun, so the call may have been made."""
    with connected() as (fleet, there):

        @fleet.limiter.limited("b", input_tokens=5)
        def ask() -> None:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            ask()
    assert list(there.settled.values()) == [("used", None)]


def test_a_decorated_function_may_take_the_permit() -> None:
    """Then it says itself what was sent."""
    with connected() as (fleet, there):

        @fleet.limiter.limited("b", input_tokens=5)
        def ask(text: str, permit: Any = None) -> str:
            assert permit.state == "held"
            raise RuntimeError(text)

        with pytest.raises(RuntimeError, match="no"):
            ask("no")
    assert [how for how, _ in there.settled.values()] == ["cancelled"]


def test_a_decorated_coroutine_function_runs_in_its_own_loop() -> None:
    """Whatever loop that is: the fleet's is in another thread."""
    with connected() as (fleet, there):

        @fleet.limiter.limited("b")
        async def ask(text: str) -> str:
            await asyncio.sleep(0)
            return text

        assert asyncio.run(ask("yes")) == "yes"
    assert len(there.settled) == 1


async def test_both_kinds_of_functions_with_the_asynchronous_client() -> None:
    """A function without async may wait for the limiter in a thread, and not in the loop's own."""
    bus = FakeBus()
    there = FakeLimiter(bus)
    async with Fleet(None, bus=bus) as fleet:

        @fleet.limiter.limited("b", input_tokens=3)
        async def ask(text: str) -> str:
            return text

        @fleet.limiter.limited("b", input_tokens=3)
        def block(text: str) -> str:
            return text

        assert await ask("one") == "one"
        assert await asyncio.to_thread(block, "two") == "two"
        with pytest.raises(CallerError, match="would_block"):
            block("three")
    assert len(there.settled) == 2


def test_threads_share_a_lease_and_nothing_is_lost() -> None:
    """Permits are taken and ended in any thread while the loop reports and renews; at the end the ledger has exactly
    what was used."""
    limits: Any = {
        "input_tokens": LimitSpec(limit=10**7, window_ms=60_000),
        "concurrent": LimitSpec(limit=500, window_ms=0),
    }
    there = DecidedLimiter(BudgetSpec(name="b", limits=limits, max_ttl_ms=5_000))
    used, local = [0] * 4, [0] * 4

    async def bus() -> FakeBus:
        return there.bus()

    def work(fleet: SyncFleet, number: int) -> None:
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            with fleet.limiter.reserve("b", input_tokens=9, wait=5) as permit:
                permit.sent()
                permit.used(input_tokens=5 + number)
            used[number] += 5 + number
            local[number] += isinstance(permit, LocalPermit)
            time.sleep(0.002)

    with SyncFleet(None, bus=bus) as fleet:
        threads = [threading.Thread(target=work, args=(fleet, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        closing = fleet.fleet.limiter.keeper
        fleet.run(closing.close)
        charged = fleet.run(_used, there)
    assert sum(local) > 100
    assert charged == (sum(used), 0)


async def _used(there: DecidedLimiter) -> tuple[int, int]:
    there.check()
    return there.used("b")


def test_a_decorated_generator_is_one_call_until_it_ends() -> None:
    """From the first item to the last; ``usage`` is asked about each, and the last one that tells something counts."""
    with connected() as (fleet, there):

        @fleet.limiter.limited(
            "b", output_tokens=50, usage=lambda item: {"output_tokens": int(item)} if item.isdigit() else None
        )
        def stream(*items: str) -> Iterator[str]:
            for item in items:
                assert len(there.open) == 1
                yield item

        items = stream("one", "7", "end")
        assert not there.open
        assert list(items) == ["one", "7", "end"]
        ((how, usage),) = there.settled.values()
        assert (how, (usage or {})["output_tokens"]) == ("used", 7)


def test_a_decorated_generator_that_is_left_or_raises_counts() -> None:
    """With what was told until then, or in full: the call was made."""
    with connected() as (fleet, there):

        @fleet.limiter.limited("b", output_tokens=50)
        def stream() -> Iterator[str]:
            yield "one"
            raise RuntimeError

        left = stream()
        assert next(left) == "one"
        left.close()  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError):
            list(stream())
    assert list(there.settled.values()) == [("used", None)] * 2


async def test_a_decorated_asynchronous_generator_is_one_call_until_it_ends() -> None:
    """Ended, closed early, or broken off by an error."""
    bus = FakeBus()
    there = FakeLimiter(bus)
    closed: list[str] = []
    async with Fleet(None, bus=bus) as fleet:

        @fleet.limiter.limited("b", input_tokens=len, usage=lambda item: {"output_tokens": item})
        async def stream(prompt: str) -> AsyncIterator[int]:
            try:
                for number in range(1, 4):
                    await asyncio.sleep(0)
                    assert len(there.open) == 1
                    yield number
                if prompt == "fail":
                    raise RuntimeError
            finally:
                closed.append(prompt)

        assert [number async for number in stream("whole")] == [1, 2, 3]
        early: Any = stream("early")
        assert await anext(early) == 1
        await early.aclose()
        with pytest.raises(RuntimeError):
            [number async for number in stream("fail")]
    assert closed == ["whole", "early", "fail"]
    assert [(how, (usage or {})["output_tokens"]) for how, usage in there.settled.values()] == [
        ("used", 3),
        ("used", 1),
        ("used", 3),
    ]
