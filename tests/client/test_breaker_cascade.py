"""What keeps one target's trouble from spreading: budgets of retries, bulkheads, deadlines, chains; by the rules."""

from __future__ import annotations

import asyncio

import pytest

from bursar.client import deadline
from bursar.client.breaker import Breaker
from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_errors import CircuitOpen, RetryDenied
from bursar.client.bulkhead import Bounds, BulkheadFull
from bursar.contracts.breaker import Fallback, Group
from tests.client.breaker_fakes import breaker_and_registry, moment, rule, ruled
from tests.client.virtual import run

CHAIN = [
    Fallback(kind="region", to="a/us/m"),
    Fallback(kind="model", to="b/m"),
    Fallback(kind="cached", max_age_ms=60_000),
    Fallback(kind="degraded", answer="Later, please."),
]


async def taken(breaker: Breaker, target: str = "a/eu/m") -> tuple[str | None, str]:
    async with breaker.call(breaker.chain(target)) as call:
        return call.target, call.kind


# ---- chains


def test_a_chain_is_followed_to_the_first_target_that_may_be_called() -> None:
    """As the registry's rules have it; an answer without a target is always there."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await ruled(there, rule("a", CHAIN))
            assert await taken(breaker) == ("a/eu/m", "primary")
            there.change("a/eu", "open", 60_000)
            await moment()
            assert await taken(breaker) == ("a/us/m", "region")
            there.change("a", "forced_open")
            await moment()
            assert await taken(breaker) == ("b/m", "model")
            there.change("b", "open", 60_000)
            await moment()
            assert await taken(breaker) == (None, "cached")
            with breaker.call(breaker.chain("a/eu/m")) as call:
                assert (call.target, call.step.max_age_ms) == (None, 60_000)
            with pytest.raises(CircuitOpen) as error:
                async with breaker.call(["a/eu/m", "b/m"]):
                    pass
            assert error.value.target == "a/eu/m"
            await moment(0.3)
            assert [row["target"] for row in there.reports] == ["a/eu/m", "a/us/m", "b/m"]

    run(history())


def test_without_rules_a_target_is_its_own_chain() -> None:
    """And before the registry has said any."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, _, _):
            assert [step.target for step in breaker.chain("a/eu/m").steps] == ["a/eu/m"]

    run(history())


def test_work_that_fails_goes_on_along_the_chain() -> None:
    """By the target's fault only; the last answer needs no target."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await ruled(there, rule("a", CHAIN, retry_permille=1_000), rule("b", retry_permille=1_000))
            seen: list[str | None] = []

            async def work(call: CircuitCall) -> str:
                seen.append(call.target)
                if call.kind == "cached":
                    raise LookupError
                if call.target is not None:
                    raise ConnectionError
                return call.step.answer

            assert await breaker.run(breaker.chain("a/eu/m"), work) == "Later, please."
            assert seen == ["a/eu/m", "a/us/m", "b/m", None, None]

            async def mine(call: CircuitCall) -> None:
                call.answered(404)
                raise ValueError("mine")

            with pytest.raises(ValueError, match="mine"):
                await breaker.run(breaker.chain("a/eu/m"), mine)

    run(history())


def test_a_decorated_function_follows_the_chain_of_the_moment() -> None:
    """Rules may change while it is in use."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):

            @breaker.guard("a/eu/m", follow=True, give="call")
            async def where(*, call: CircuitCall) -> str | None:
                return call.target

            assert await where() == "a/eu/m"  # type: ignore[call-arg]
            await ruled(there, rule("a", CHAIN))
            there.change("a/eu", "open", 60_000)
            await moment()
            assert await where() == "a/us/m"  # type: ignore[call-arg]

    run(history())


# ---- retries


def test_retries_are_paid_for_by_the_budget_of_the_target() -> None:
    """A fifth of the calls, and one in ten seconds for who calls seldom; an outage is not multiplied."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await ruled(there, rule(None, retry_permille=200, retry_per_minute=6))
            tries = 0

            async def work(call: CircuitCall) -> None:
                nonlocal tries
                tries += 1
                call.failed("error" if tries % 3 else "ok")
                raise ConnectionError

            for _ in range(100):
                with pytest.raises(ConnectionError):
                    await breaker.run("p", work, retries=5)
                breaker._local.forget()
            assert 115 <= tries <= 122
            assert breaker.terms("p").retries.denied > 0

    run(history())


def test_the_first_failure_is_what_is_raised_when_there_is_no_budget() -> None:
    """And a two-step caller is told so."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await ruled(there, rule(None, retry_permille=0, retry_per_minute=0))

            async def work(_: CircuitCall) -> None:
                raise ConnectionError

            with pytest.raises(ConnectionError):
                await breaker.run("p", work, retries=3)
            with pytest.raises(RetryDenied) as error:
                async with breaker.call("p", again_after="error"):
                    pass
            assert error.value.target == "p"
            assert (await taken(breaker, "p"))[0] == "p"

    run(history())


def test_a_retry_that_succeeds_is_the_answer() -> None:
    """After a pause."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, _, _):
            tries = 0

            async def work(_: CircuitCall) -> int:
                nonlocal tries
                tries += 1
                if tries == 1:
                    raise ConnectionError
                return tries

            assert await breaker.run("p", work, retries=1) == 2

    run(history())


# ---- bulkheads


def test_a_bulkhead_holds_for_a_target_and_all_below_it() -> None:
    """By the agent's own word, or by the rules; a chain goes on to the next."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            breaker.limit("a", Bounds(initial=1, least=1, most=1))
            async with breaker.call("a/eu/m"):
                with pytest.raises(BulkheadFull) as error:
                    breaker.ask("a/us/m")
                assert (error.value.target, error.value.limit) == ("a", 1)
                async with breaker.call(["a/us/m", "b/m"]) as call:
                    assert call.target == "b/m"
            breaker.limit("a", None)
            await ruled(there, rule("b", concurrency=2, concurrency_initial=2))
            with breaker.call("b/x"), breaker.call("b/y"), breaker.call("a/us/m"), pytest.raises(BulkheadFull):
                breaker.ask("b/z")
            assert breaker.terms("b/z").bulkheads[0].most == 2
            breaker.ask("b/z").done()

    run(history())


def test_a_full_bulkhead_gives_the_permit_of_a_probe_back() -> None:
    """Somebody else may try."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            breaker.limit("p", Bounds(initial=1, least=1, most=1))
            held = breaker.ask("p/x")
            there.change("p/y", "half_open")
            await moment()
            with pytest.raises(BulkheadFull):
                await breaker.ask_probe("p/y")
            await moment()
            assert there.results() == ["cancelled"]
            held.done()

    run(history())


# ---- deadlines


def test_a_call_is_cut_off_at_the_deadline_and_not_begun_after_it() -> None:
    """It counts against the target if that had a fair time."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, clock):
            loop = asyncio.get_running_loop()
            for seconds in (2.0, 0.1):
                began = loop.time()
                with deadline.deadline(seconds, clock), pytest.raises(TimeoutError):
                    await _sleep_under(breaker.call("p"), seconds)
                assert loop.time() - began == pytest.approx(seconds)
            with deadline.deadline(-1, clock), pytest.raises(deadline.DeadlineExceeded):
                async with breaker.call("p"):
                    pass
            await moment(0.3)
            assert [{**row} for row in there.reports] == [
                {"target": "p", "timeout": 1},
                {"target": "p", "cancelled": 1},
            ]

    run(history())


async def _sleep_under(call: CircuitCall, seconds: float) -> None:
    async with call:
        assert call.left == pytest.approx(seconds)
        await asyncio.sleep(60)


def test_retries_stop_at_the_deadline_of_the_rules() -> None:
    """The longest time for a call with all that is tried."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await ruled(there, rule("p", deadline_ms=500, slow_ms=100, retry_permille=10_000))
            loop = asyncio.get_running_loop()
            began = loop.time()

            async def work(_: CircuitCall) -> None:
                await asyncio.sleep(0.15)
                raise ConnectionError

            with pytest.raises((ConnectionError, TimeoutError)):
                await breaker.run("p", work, retries=50)
            assert loop.time() - began <= 0.501
            async with breaker.call("p"):
                await asyncio.sleep(0.2)
            await moment(0.3)
            assert sum(row.get("slow", 0) for row in there.reports) == 1

    run(history())


# ---- the rules


def test_a_group_stands_in_the_way_of_its_members() -> None:
    """Whatever their names; the rules say who they are."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("group/east", "open", 60_000)
            await moment()
            assert breaker.allows("a/eu/m")
            await ruled(there, groups=(Group(name="east", members=("a/eu", "b")),))
            verdict = breaker.allows("a/eu/m")
            assert not verdict
            assert getattr(verdict, "circuit", "") == "group/east"
            assert not breaker.allows("b")
            assert breaker.allows("a/us")

    run(history())


def test_the_rules_are_fetched_once_for_each_edition() -> None:
    """By who hears the pulse; what cannot be read changes nothing."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            await ruled(there, rule("a", CHAIN))
            await moment(5.0)
            assert there.count("settings") == 2
            before = breaker.registry.policy
            garbled = {"ok": True, "edition": 2, "same": False, "rules": [3], "groups": []}
            there._settings = lambda request: garbled  # type: ignore[method-assign]
            await ruled(there, rule("a"))
            assert breaker.registry.policy is before
            assert breaker.registry.refused >= 1

    run(history())
