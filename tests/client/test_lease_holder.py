"""How a lease ends, in virtual time: whatever goes wrong, its places are free as soon as its calls have ended, never
before. The time to live is long here, so nothing of this is left to it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from bursar.client.limiter import Limiter
from bursar.client.local import CONCURRENT
from bursar.client.local_permit import LocalPermit
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from tests.client.decided import DecidedLimiter, agent, until
from tests.client.leased import Calls, budgets, history, holder
from tests.client.virtual import run

TTL_MS = 120_000
LONG = budgets(ttl_ms=TTL_MS)


def places(there: DecidedLimiter) -> int:
    return there.used("b", "concurrent")[0]


def agrees(there: DecidedLimiter, limiter: Limiter) -> None:
    """The limiter counts no less for the lease than its holder may still do with it."""
    book, lease = limiter.held("b").book, limiter.held("b")
    if lease.until > lease.clock():
        assert there.state.leases.records[holder(limiter).id].lent[CONCURRENT] >= book.lent[CONCURRENT]


@history(*LONG)
async def test_a_lease_without_calls_goes_back_within_two_seconds(there: DecidedLimiter, limiter: Limiter) -> None:
    """Whatever the demand was a moment ago: others may want its places."""
    await Calls(limiter, 200).go(4)
    assert places(there) > 0
    await asyncio.sleep(1.8)
    assert (places(there), holder(limiter).is_held) == (0, False)


@history(*LONG)
async def test_who_waits_for_the_work_of_a_moment_ends_no_lease(there: DecidedLimiter, limiter: Limiter) -> None:
    """A lease that was cut off in the middle of its life would hold its places for as long as a call may last."""
    calls = Calls(limiter, 100)
    going = asyncio.create_task(calls.go(4))
    await until(lambda: calls.local > 50)
    assert await limiter.background.drain(0.5) == 0
    await going
    assert holder(limiter).is_held
    await asyncio.sleep(2)
    assert places(there) == 0


@history(*LONG)
async def test_a_permit_that_nobody_ends_holds_its_place_and_the_lease_for_its_time_to_live(
    there: DecidedLimiter, limiter: Limiter
) -> None:
    """No longer: it counts as used then, and the lease that was given back long ago is over."""
    calls = Calls(limiter, 100)
    going = asyncio.create_task(calls.go(2))
    await until(lambda: calls.local > 50)
    permit: object = await limiter.reserve("b", input_tokens=20).__aenter__()
    assert isinstance(permit, LocalPermit)
    await going
    await asyncio.sleep(5)
    assert (places(there), holder(limiter).is_held) == (1, True)
    await asyncio.sleep(TTL_MS / 1000)
    assert (places(there), holder(limiter).is_held) == (0, False)


@history(*budgets(ttl_ms=5_000))
async def test_a_permit_that_nobody_ends_is_over_when_the_budget_says_so(
    there: DecidedLimiter, limiter: Limiter
) -> None:
    """Not when its holder would have given it up, however long the lease goes on."""
    calls = Calls(limiter, 100)
    going = asyncio.create_task(calls.go(12))
    await until(lambda: calls.local > 50)
    permit: object = await limiter.reserve("b", input_tokens=20).__aenter__()
    assert isinstance(permit, LocalPermit)
    book = limiter.held("b").book
    await asyncio.sleep(4)
    assert book.timed_out == 0
    await asyncio.sleep(2.5)
    assert (book.timed_out, book.opened()[CONCURRENT] < 10) == (1, True)
    await going


@pytest.mark.parametrize("seconds", [0.7, 3, 300])
def test_places_come_back_however_long_the_limiter_was_away(seconds: float) -> None:
    """Also when that is longer than any call: its clock stood still meanwhile, so nothing has timed out there."""

    @history(*LONG, patience=1_000)
    async def story(there: DecidedLimiter, limiter: Limiter) -> None:
        await Calls(limiter, 100).go(3)
        there.deaf = True
        await asyncio.sleep(seconds)
        there.restart()
        there.deaf = False
        await asyncio.sleep(7)
        assert (places(there), holder(limiter).is_held) == (0, False)
        calls = Calls(limiter, 100)
        await calls.go(3)
        assert calls.local > 100

    story()


@history(*LONG)
async def test_a_report_that_only_the_dead_owner_has_answered_is_not_made_twice(
    there: DecidedLimiter, limiter: Limiter
) -> None:
    """It was committed, its answer was lost; the next owner gives the same one."""
    calls = Calls(limiter, 100)
    await calls.go(3)
    for _ in range(5):
        there.loses, heard = 1.0, dict(there.heard)
        await asyncio.sleep(0.6)
        there.restart()
        there.loses = 0.0
        await calls.go(1)
        agrees(there, limiter)
        assert there.heard["renew"] > heard["renew"]
    await asyncio.sleep(2)
    assert places(there) == 0
    assert there.used("b")[0] >= calls.used


@history(*LONG)
async def test_other_rules_end_a_lease_and_its_calls_in_flight_are_still_reported(
    there: DecidedLimiter, limiter: Limiter
) -> None:
    """They hold their places until they have ended, and no longer; then there is a lease under the new rules."""
    calls = Calls(limiter, 40, took=2.0)
    await calls.go(4)
    going = asyncio.create_task(calls.go(3))
    await until(lambda: calls.flying > 60)
    more: Any = {"limits": {**LONG[1].limits, "output_tokens": LimitSpec(limit=10**6, window_ms=60_000)}}
    there.reload(LONG[0], LONG[1].model_copy(update=more))
    await asyncio.sleep(0.6)
    assert places(there) >= calls.flying
    await going
    await asyncio.sleep(2)
    assert places(there) == 0
    before = calls.local
    await calls.go(3)
    assert calls.local > before


@history(*LONG)
async def test_a_lease_goes_on_when_demand_is_back_before_its_calls_have_ended(
    there: DecidedLimiter, limiter: Limiter
) -> None:
    """It is the same one, so their places are free as soon as they end."""
    await Calls(limiter, 100).go(3)
    key, long = holder(limiter).id, Calls(limiter, 100, took=8.0)
    await long.go(0.3, wait=False)
    await asyncio.sleep(4)
    assert limiter.held("b").until == 0
    assert places(there) == long.flying
    calls = Calls(limiter, 100)
    await calls.go(2)
    assert (holder(limiter).id, calls.local > 50) == (key, True)
    agrees(there, limiter)
    await long.rest()
    await asyncio.sleep(2.5)
    assert places(there) == 0


@pytest.mark.parametrize("answer", [{}, {"ok": True, "add": "?", "over": False}])
def test_a_lease_is_given_back_when_an_answer_cannot_be_read(answer: dict[str, Any]) -> None:
    """And another is asked for, later after each failure."""

    @history(*LONG)
    async def story(there: DecidedLimiter, limiter: Limiter) -> None:
        calls = Calls(limiter, 40)
        await calls.go(3)
        there.says["renew"] = answer
        await calls.go(6)
        assert 2 <= there.heard["lease"] <= 6
        await asyncio.sleep(2)
        assert places(there) == 0
        there.says.clear()
        await asyncio.sleep(30)
        before = calls.local
        await calls.go(3)
        assert calls.local > before
        await asyncio.sleep(2)
        assert places(there) == 0

    story()


def test_closing_in_the_middle_of_a_question_gives_back_what_it_brings() -> None:
    """The answer may be on its way."""

    async def main() -> None:
        there = DecidedLimiter(*LONG)
        async with agent(there) as limiter:
            there.late = 0.5
            going = asyncio.create_task(Calls(limiter, 100).go(1))
            await until(lambda: "lease" in there.heard)
            await going
        assert "return" in there.heard
        assert places(there) == 0
        there.check()

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_no_place_is_used_twice_and_none_is_lost(seed: int) -> None:
    """Messages are lost and late, owners die and answer all the same, nobody answers, demand comes and goes, calls are
    short and long: never more in flight than the limit, and nothing is left behind."""
    chance = random.Random(seed)
    limits: Any = {"concurrent": LimitSpec(limit=chance.choice((5, 12, 40)), window_ms=0)}
    spec = BudgetSpec(name="b", limits=limits, max_ttl_ms=TTL_MS)

    @history(spec, patience=100)
    async def story(there: DecidedLimiter, limiter: Limiter) -> None:
        limiter.caller._random = random.Random(seed)  # so that a seed is a whole history
        calls = Calls(limiter, 100, wait=0.0)
        for _ in range(6):
            there.loses, there.late = chance.choice((0.0, 0.0, 0.2)), chance.choice((0.0, 0.3, 2.0))
            there.deaf = chance.random() < 0.2
            calls.gap, calls.took = 1.0 / chance.choice((15, 40, 80)), chance.choice((0.01, 0.05, 1.5))
            await calls.go(chance.uniform(0.3, 2.0), wait=False)
            if chance.random() < 0.6:
                there.restart()
            agrees(there, limiter)
            await asyncio.sleep(chance.choice((0.0, 0.4, 1.5, 4.0)))
        there.loses, there.late, there.deaf = 0.0, 0.0, False
        await calls.rest()
        await asyncio.sleep(6)
        assert not any(any(record.counts) for record in there.state.leases.records.values())
        assert not holder(limiter).is_held
        assert calls.most <= limits["concurrent"].limit

    story()
