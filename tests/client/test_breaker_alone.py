"""The registry is away: its last word until its time, then what this process sees itself."""

from __future__ import annotations

import asyncio

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.breaker_report import Deltas
from bursar.client.breaker_verdict import Stopped
from bursar.contracts import breaker as wire
from tests.client.breaker_fakes import FakeRegistry, breaker_and_registry, moment, rule
from tests.client.fakes import FakeBus
from tests.client.virtual import LoopClock, run


async def fail(breaker: Breaker, target: str, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            async with breaker.call(target):
                raise ConnectionError


async def gone(there: FakeRegistry) -> None:
    """The registry falls silent, for so long that it counts as away."""
    there.is_deaf = there.is_mute = True
    await moment(8.0)


def test_five_failures_in_a_row_shut_a_target_for_a_time_that_grows() -> None:
    """Then one call at a time tries it; a success opens the way."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await gone(there)
            assert breaker.is_alone
            await fail(breaker, "p", 4)
            async with breaker.call("p"):
                pass
            await fail(breaker, "p", 5)
            with pytest.raises(CircuitOpen) as error:
                async with breaker.call("p/m"):
                    pass
            assert (error.value.state, error.value.circuit) == ("local", "p")
            assert error.value.retry_in == pytest.approx(1.0)
            assert breaker.allows("q")
            await moment(1.0)
            async with breaker.call("p") as call:
                assert call.is_probe
                assert not breaker.allows("p"), "one at a time"
                call.failed("error")
            assert not breaker.allows("p")
            await moment(1.9)
            assert not breaker.allows("p"), "twice as long"
            await moment(0.2)
            async with breaker.call("p"):
                pass
            assert breaker.allows("p")

    run(history())


def test_five_failures_in_a_row_shut_a_target_here_ahead_of_the_fleet() -> None:
    """In this process alone, for a second; what the registry says of the target replaces it."""

    async def history() -> None:
        async with breaker_and_registry(failures=5) as (breaker, there, _):
            await fail(breaker, "p/m", 5)
            with pytest.raises(CircuitOpen) as error:
                await breaker.enter("p/m/k")
            assert (error.value.state, error.value.circuit) == ("local", "p/m")
            assert breaker.allows("p")
            assert breaker.circuits() == {}
            await moment(1.0)
            async with breaker.call("p/m") as call:
                assert call.is_probe
                assert not breaker.allows("p/m"), "one at a time"
            assert breaker.allows("p/m")
            await fail(breaker, "p/m", 5)
            there.change("p", "open", 300)
            await moment()
            verdict = breaker.allows("p/m")
            assert isinstance(verdict, Stopped)
            assert (verdict.circuit, verdict.state) == ("p", "open")
            there.change("p", "closed")
            await moment()
            assert breaker.allows("p/m")

    run(history())


@pytest.mark.parametrize("state", ["forced_closed", "disabled", "metrics_only"])
def test_nothing_that_is_seen_here_stops_what_an_operator_lets_go(state: str) -> None:
    """And of what is disabled nothing is reported."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", state)
            await moment()
            await fail(breaker, "p/m", 20)
            assert breaker.allows("p/m")
            await moment(0.3)
            assert there.reports == ([] if state == "disabled" else [{"target": "p/m", "error": 20}])

    run(history())


def test_who_does_not_want_it_is_shut_by_the_registry_only() -> None:
    """Until that is away."""

    async def history() -> None:
        bus = FakeBus()
        there = FakeRegistry(bus)
        breaker = Breaker(bus, clock=LoopClock(), trust=lambda: there.verifier, failures=0)
        assert await breaker.ready()
        await fail(breaker, "p", 50)
        assert breaker.allows("p")
        await gone(there)
        await fail(breaker, "p")
        assert not breaker.allows("p")
        await breaker.close()

    run(history())


def test_the_last_word_holds_until_its_time_and_is_then_tried_here() -> None:
    """One call at a time; its success is believed although the last word was another."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "open", 10_000)
            there.change("q", "half_open")
            there.change("r", "forced_open")
            await gone(there)
            assert not breaker.allows("p")
            assert not breaker.allows("r/x")
            await moment(2.1)
            async with breaker.call("p") as call:
                assert call.is_probe
                assert not breaker.allows("p")
            assert breaker.allows("p")
            async with breaker.call("p") as call:
                assert not call.is_probe
            await fail(breaker, "q")
            assert not breaker.allows("q")
            assert not breaker.allows("r")

    run(history())


def test_a_trial_that_was_given_up_lets_the_next_one_try() -> None:
    """It says nothing about the target."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await gone(there)
            await fail(breaker, "p", 5)
            await moment(1.0)
            with pytest.raises(asyncio.CancelledError):
                async with breaker.call("p"):
                    raise asyncio.CancelledError
            async with breaker.call("p") as call:
                assert call.is_probe

    run(history())


def test_an_overloaded_target_is_left_alone_for_as_long_as_it_asks() -> None:
    """The later deadline wins here, too."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await gone(there)
            breaker.record("p", "overload", retry_after=3)
            breaker.record("p", "overload", retry_after=9)
            breaker.record("p", "overload", retry_after=1)
            await moment(8.9)
            assert not breaker.allows("p")
            await moment(0.2)
            assert breaker.allows("p")

    run(history())


def test_when_the_registry_is_back_its_word_counts() -> None:
    """What was shut here alone is open again, what it says is open is shut."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await gone(there)
            await fail(breaker, "p", 5)
            assert not breaker.allows("p")
            there.is_deaf = there.is_mute = False
            there.change("q", "open", 60_000)
            await moment(3.0)
            assert not breaker.is_alone
            assert breaker.allows("p")
            assert not breaker.allows("q")

    run(history())


def test_a_half_open_target_without_a_registry_costs_one_second_once() -> None:
    """Until it counts as away; then it is tried here."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            there.is_deaf = there.is_mute = True
            began = asyncio.get_running_loop().time()
            for _ in range(20):
                with pytest.raises(CircuitOpen):
                    async with breaker.call("p"):
                        pass
            assert asyncio.get_running_loop().time() - began == pytest.approx(1.0, abs=0.1)
            await moment(8.0)
            async with breaker.call("p") as call:
                assert call.is_probe

    run(history())


@pytest.mark.parametrize(("wanted", "after"), [(0, 0), (3, 5), (8, 8)])
def test_no_process_stops_ahead_of_the_fleet_by_less_than_the_rule_wants(wanted: int, after: int) -> None:
    """Otherwise all could stop and the registry would not take it for a reason; where the rule wants no streak, none
    stops."""

    async def history() -> None:
        async with breaker_and_registry(failures=5) as (breaker, there, _):
            there.rules, there.edition = [rule(None).model_copy(update={"consecutive": wanted})], 1
            there.pulse()
            await moment(1.1)
            await fail(breaker, "p", max(0, after - 1) or 50)
            assert breaker.allows("p")
            if after:
                await fail(breaker, "p")
                assert not breaker.allows("p")
                await moment(1.2)
                assert [delta["shut"] for delta in there.reports if "shut" in delta] == [after]

    run(history())


def test_other_rules_open_what_was_shut_by_the_last_ones() -> None:
    """What this process has seen was judged by rules that hold no more."""

    async def history() -> None:
        async with breaker_and_registry(failures=5) as (breaker, there, _):
            await fail(breaker, "p", 5)
            assert not breaker.allows("p")
            there.rules, there.edition = [rule(None)], 1
            there.pulse()
            await moment(1.1)
            assert breaker.allows("p")

    run(history())


def test_a_streak_that_is_longer_than_a_report_can_say_does_not_make_it_unreadable() -> None:
    """Everything else in it would be lost, too."""
    (packed,) = Deltas().take(0.0, {"p": 100_001})
    assert wire.Report.model_validate(msgpack.unpackb(packed, use_list=False)).deltas[0].shut == 100_000
