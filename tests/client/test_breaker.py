"""The breaker of the client: what is allowed, what is asked, what is reported."""

from __future__ import annotations

import asyncio
import copy
from contextlib import suppress

import pytest

from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.breaker_verdict import Stopped
from bursar.contracts.breaker import Outcome
from bursar.errors import CallerError
from tests.client.breaker_fakes import FakeRegistry, breaker_and_registry, moment
from tests.client.fakes import FakeBus
from tests.client.virtual import LoopClock, run


def test_an_open_circuit_stops_calls_below_it_until_it_closes() -> None:
    """The target itself and everything under it, nothing beside or above it."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, clock):
            assert breaker.allows("p/m/k")
            there.change("p/m", "open", 4_000)
            await moment()
            verdict = breaker.allows("p/m/k")
            assert isinstance(verdict, Stopped)
            assert (verdict.circuit, verdict.state, verdict.reason, verdict.may_probe) == (
                "p/m", "open", "failure_rate", False,
            )  # fmt: skip
            assert verdict.retry_in == pytest.approx(3.99, abs=0.02)
            assert not breaker.allows("p/m")
            assert breaker.allows("p")
            assert breaker.allows("p/n")
            assert breaker.allows("p/mm")
            with pytest.raises(CircuitOpen) as error:
                async with breaker.call("p/m/k"):
                    raise AssertionError("it must not be entered")
            assert error.value.retry_at == pytest.approx(clock.now() + 3_990.0, abs=20)
            assert error.value.facts["circuit"] == "p/m"
            assert "try again in" in error.value.advice
            assert copy.copy(error.value).circuit == "p/m"
            there.change("p/m", "closed")
            await moment()
            assert breaker.allows("p/m/k")

    run(history())


def test_who_joins_late_knows_before_the_first_call() -> None:
    """The first call waits for the first answer, a quarter of a second at most."""

    async def history() -> None:
        bus = FakeBus(delay=0.05)
        there = FakeRegistry(bus)
        there.change("p", "forced_open", reason="force_open")
        breaker = Breaker(bus, clock=LoopClock(), trust=lambda: there.verifier)
        with pytest.raises(CircuitOpen) as error:
            async with breaker.call("p/m"):
                pass
        assert (error.value.state, error.value.retry_in) == ("forced_open", None)
        assert "operator" in error.value.advice
        await breaker.close()

    run(history())


def test_without_a_registry_the_first_call_waits_a_quarter_second_and_no_other_waits() -> None:
    """Calls go on by what this process sees itself."""

    async def history() -> None:
        bus = FakeBus()
        there = FakeRegistry(bus)
        there.is_deaf = True
        breaker = Breaker(bus, clock=LoopClock())
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with breaker.call("p"):
            pass
        assert loop.time() - began == pytest.approx(0.25, abs=0.01)
        for _ in range(3):
            async with breaker.call("p"):
                pass
        assert loop.time() - began < 0.26
        assert not await breaker.ready(0.5)
        await breaker.close()

    run(history())


def test_reports_are_added_up_and_sent_after_a_quarter_second_or_sooner_with_failures() -> None:
    """One message for all targets; none when there was nothing."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            for _ in range(3):
                async with breaker.call("p/m"):
                    pass
            breaker.record("q", "rate_limited")
            await moment(0.24)
            assert there.reports == []
            await moment(0.02)
            assert there.reports == [{"target": "p/m", "ok": 3}, {"target": "q", "rate_limited": 1}]
            there.reports.clear()
            breaker.record("p", "ok")
            with pytest.raises(OSError):
                async with breaker.call("p"):
                    raise ConnectionError
            await moment(0.11)
            assert there.reports == [{"target": "p", "ok": 1, "error": 1}]
            published = len(there.bus.published)
            await moment(0.5)
            assert len(there.bus.published) == published

    run(history())


def test_overload_reports_the_time_that_is_left_when_it_is_sent() -> None:
    """Retry-After counts from the answer, not from the report."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            async with breaker.call("p") as call:
                call.answered(529, {"Retry-After": "7"})
            await moment(0.15)
            assert there.reports == [{"target": "p", "overload": 1, "retry_after_ms": 6_900}]

    run(history())


def test_slow_calls_are_reported_as_such() -> None:
    """By the threshold of the caller."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            async with breaker.call("p", slow_after=1.0):
                await moment(1.1)
            async with breaker.call("p", slow_after=1.0):
                await moment(0.9)
            await moment(0.3)
            assert there.reports == [{"target": "p", "slow": 1}, {"target": "p", "ok": 1}]

    run(history())


def test_what_the_caller_says_goes_before_the_exception() -> None:
    """And what was cut off after a good answer counts as cut off."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            cases: list[tuple[str, Outcome, type[Exception]]] = [
                ("a", "overload", ValueError),
                ("b", "ok", ValueError),
                ("c", "ok", TimeoutError),
            ]
            for target, said, raised in cases:
                with suppress(raised):
                    async with breaker.call(target) as call:
                        call.failed(said, retry_after=2 if said == "overload" else None)
                        raise raised
            async with breaker.call("d") as call:
                call.ignore()
            await moment(0.3)
            told = {row["target"]: sorted(set(row) - {"target", "retry_after_ms"}) for row in there.reports}
            assert told == {"a": ["overload"], "b": ["ok"], "c": ["timeout"]}

    run(history())


def test_a_lost_broadcast_is_noticed_by_the_next_one() -> None:
    """Revisions have no gaps: a gap is asked for at once."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.is_mute = True
            there.change("p", "open", 60_000)
            there.is_mute = False
            there.change("q", "open", 60_000)
            await moment(0.1)
            assert breaker.circuits() == {"p": "open", "q": "open"}

    run(history())


def test_a_lost_last_broadcast_is_noticed_within_a_few_seconds() -> None:
    """By the pulse, which says every two seconds how far the registry is."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.is_mute = True
            there.change("p", "open", 60_000)
            await moment(2.6)
            assert breaker.circuits() == {"p": "open"}

    run(history())


def test_forged_moved_and_unsigned_broadcasts_change_nothing() -> None:
    """Neither do true ones that are kept and said again later."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            opened = there.change("p", "open", 60_000)
            there.change("p", "closed")
            await moment()
            there.say("p", opened)
            there.say("q", opened)
            there.say("p", opened[:-3] + b"abc")
            there.say("p", b"\x80")
            there.say("p", FakeRegistry(FakeBus()).change("p", "open", 60_000))
            there.bus.server = there.hear
            await moment()
            assert breaker.allows("p")
            assert breaker.circuits() == {}
            assert breaker.registry.refused == 4

    run(history())


def test_without_trusted_keys_broadcasts_are_not_heard_and_the_registry_is_asked() -> None:
    """Twice a second: slower, but nothing unsigned is believed."""

    async def history() -> None:
        async with breaker_and_registry(trusted=False) as (breaker, there, _):
            there.change("p", "open", 60_000)
            await moment(0.05)
            assert breaker.allows("p")
            await moment(0.65)
            assert not breaker.allows("p")

    run(history())


def test_a_name_that_is_none_is_an_error_of_the_caller() -> None:
    """Before anything is asked or reported."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, _, _):
            for name in ("", "A", "a b", "a//b", "a/", "x" * 300):
                with pytest.raises(CallerError):
                    breaker.allows(name)

    run(history())


def test_reports_wait_for_the_connection_and_old_ones_are_dropped() -> None:
    """What is older than a few seconds would be taken for news."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.bus.is_connected = False
            breaker.record("p", "error")
            await moment(1.0)
            there.bus.is_connected = True
            await moment(0.3)
            assert there.reports == [{"target": "p", "error": 1}]
            there.reports.clear()
            there.bus.is_connected = False
            breaker.record("p", "error")
            await moment(9.0)
            there.bus.is_connected = True
            await moment(0.3)
            assert there.reports == []

    run(history())


def test_closing_sends_what_is_left() -> None:
    """The last calls are reported, too."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            breaker.record("p", "ok")
        await moment()
        assert there.reports == [{"target": "p", "ok": 1}]

    run(history())
