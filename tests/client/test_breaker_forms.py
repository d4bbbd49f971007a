"""The forms of a call: block, two steps, decorator; awaited or not, from this thread or another."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest

from bursar.client.breaker import Breaker
from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_errors import CircuitOpen
from bursar.errors import CallerError
from tests.client.breaker_fakes import FakeRegistry, breaker_and_registry, moment
from tests.client.fakes import FakeBus
from tests.client.virtual import run


def test_a_plain_block_asks_and_reports_as_an_awaited_one() -> None:
    """It waits for nothing, and so tries no half-open target."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            with breaker.call("p") as call:
                call.answered(500)
            with pytest.raises(OSError), breaker.call("p"):
                raise ConnectionError
            there.change("q", "half_open")
            await moment(0.3)
            assert there.reports == [{"target": "p", "error": 2}]
            with pytest.raises(CircuitOpen) as error, breaker.call("q"):
                raise AssertionError("it must not be entered")
            assert error.value.state == "half_open"
            assert there.count("probe") == 0

    run(history())


def test_in_two_steps() -> None:
    """Ask, and report later; once."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            first, second, third = breaker.ask("p"), breaker.ask("p"), breaker.ask("p", slow_after=0.5)
            first.done()
            second.done(TimeoutError())
            second.done()
            await moment(0.6)
            third.done()
            await moment(0.3)
            assert there.reports == [{"target": "p", "ok": 1, "timeout": 1}, {"target": "p", "slow": 1}]
            there.change("p", "half_open")
            await moment()
            with pytest.raises(CircuitOpen):
                breaker.ask("p")
            probe = await breaker.ask_probe("p")
            assert probe.is_probe
            probe.failed("overload", 3)
            probe.done()
            await moment()
            assert there.results() == ["overload"]

    run(history())


def test_a_question_whose_answer_never_comes_gives_back_what_it_holds() -> None:
    """The caller has forgotten it: that says nothing about the target."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            call = await breaker.ask_probe("p")
            assert call.is_probe
            del call
            gc.collect()
            await moment()
            assert there.results() == ["cancelled"]

    run(history())


def test_one_call_is_entered_once_at_a_time() -> None:
    """Each call has an object of its own."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, _, _):
            call = breaker.call("p")
            async with call:
                with pytest.raises(CallerError):
                    call.__enter__()

    run(history())


def test_as_a_decorator() -> None:
    """The function's end is the call's end; ``give`` names the argument in which it gets the call."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):

            @breaker.guard("p")
            async def awaited(number: int) -> int:
                """Says it twice."""
                return 2 * number

            @breaker.guard("q", give="call")
            def plain(*, call: CircuitCall) -> str:
                call.answered(503, {"retry-after": "1"})
                return str(call.target)

            assert (await awaited(4), awaited.__doc__, plain()) == (8, "Says it twice.", "q")  # type: ignore[call-arg]
            await moment(0.15)
            assert [sorted(row) for row in there.reports] == [
                ["ok", "target"],
                ["overload", "retry_after_ms", "target"],
            ]
            there.change("p", "open", 5_000)
            there.change("q", "open", 5_000)
            await moment()
            with pytest.raises(CircuitOpen):
                await awaited(1)
            with pytest.raises(CircuitOpen):
                plain()  # type: ignore[call-arg]

    run(history())


def test_what_cannot_be_guarded_is_said_when_it_is_made() -> None:
    """Generators have no end to report; a function that is not awaited cannot pause between retries."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, _, _):

            async def parts() -> AsyncIterator[int]:
                yield 1

            with pytest.raises(CallerError):
                breaker.guard("p")(parts)
            with pytest.raises(CallerError):
                breaker.guard("p", retries=1)(print)

    run(history())


async def test_from_other_threads() -> None:
    """Decisions are look-ups there, too; what they report goes through the event loop."""
    bus = FakeBus()
    there = FakeRegistry(bus)
    breaker = Breaker(bus, trust=lambda: there.verifier)
    assert await breaker.ready()

    def work() -> None:
        for number in range(50):
            with breaker.call("p/m") as call:
                call.failed("error" if number % 10 == 0 else "ok")
        breaker.record("q", "auth")
        breaker.ask("p/m").done(TimeoutError())

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(4)))
    await until(lambda: _sum(there.reports) >= 208)
    assert _sum(there.reports) == 208
    there.change("p", "open", 60_000)
    await until(lambda: bool(breaker.circuits()))
    assert not await asyncio.to_thread(breaker.allows, "p/m")
    await breaker.close()


async def until(check: Callable[[], bool]) -> None:
    for _ in range(500):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within five seconds")


def _sum(reports: list[dict[str, int]]) -> int:
    return sum(count for row in reports for name, count in row.items() if name != "target")
