"""The keeper of leases against the limiter's own rules, in virtual time: when a budget is held, what goes where, and
what is left when the network, the limiter or the agent fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bursar.client.lease_demand import Demand
from bursar.client.limiter import Limiter
from bursar.client.local import NOTHING
from bursar.client.local_permit import LocalPermit
from bursar.client.permit import Permit
from tests.client.decided import DecidedLimiter, agent, until
from tests.client.leased import Calls, budgets, history, holder
from tests.client.virtual import run


@history()
async def test_demand_brings_a_lease_and_its_end_gives_it_back(there: DecidedLimiter, limiter: Limiter) -> None:
    """The agent's code notices nothing, and every token ends in the ledger once."""
    calls = Calls(limiter, 100)
    await calls.go(5)
    assert calls.local > 350
    assert there.heard["renew"] >= 6
    assert there.heard["reserve"] < 150
    await asyncio.sleep(8)
    assert not holder(limiter).is_held
    assert there.used("b") == (calls.used, 0)
    assert there.used("org") == (calls.used, 0)


@history()
async def test_little_demand_stays_with_the_limiter(there: DecidedLimiter, limiter: Limiter) -> None:
    """A lease would cost more messages than it saves."""
    calls = Calls(limiter, 8)
    await calls.go(6)
    assert (calls.local, "lease" in there.heard) == (0, False)


@history()
async def test_demand_between_the_thresholds_does_not_switch_to_and_fro(
    there: DecidedLimiter, limiter: Limiter
) -> None:
    """Held above the upper one, it is given back only below the lower one."""
    await Calls(limiter, 60).go(3)
    for _ in range(4):
        await Calls(limiter, 9).go(2)
    assert there.heard["lease"] == 1
    assert holder(limiter).is_held


@history()
async def test_a_request_larger_than_the_hand_goes_to_the_limiter(there: DecidedLimiter, limiter: Limiter) -> None:
    """At once, and durable."""
    calls = Calls(limiter, 100)
    going = asyncio.create_task(calls.go(3))
    await until(lambda: calls.local > 50)
    permit = await limiter.acquire("b", input_tokens=20_000)
    assert type(permit) is Permit
    await permit.cancel()
    await going


def test_closing_gives_everything_back() -> None:
    """What is in hand, at least: open calls end by themselves."""

    async def main() -> None:
        there = DecidedLimiter(*budgets())
        async with agent(there) as limiter:
            calls = Calls(limiter, 100)
            await calls.go(3)
        assert there.used("b") == (calls.used, 0)
        there.check()

    run(main())


@history(patience=60)
async def test_lost_messages_lose_and_double_nothing(there: DecidedLimiter, limiter: Limiter) -> None:
    """A tenth of them, each way: every report arrives once."""
    there.loses = 0.1
    calls = Calls(limiter, 80)
    await calls.go(6)
    there.loses = 0.0
    await asyncio.sleep(12)
    charged, flying = there.used("b")
    assert flying == 0
    assert charged >= calls.used
    assert calls.local > 20


@history(patience=30)
async def test_a_silent_limiter_ends_the_lease_in_time(there: DecidedLimiter, limiter: Limiter) -> None:
    """After its length nothing is decided here any more; when the limiter is back it goes on."""
    calls = Calls(limiter, 100)
    await calls.go(3)
    there.deaf = True
    lease = limiter.held("b")
    await asyncio.sleep(1.0)
    assert lease.take(1) is None
    there.deaf = False
    before = calls.local
    await calls.go(4)
    assert calls.local > before + 200


@history()
async def test_a_pause_longer_than_the_lease_takes_nothing_after_it(there: DecidedLimiter, limiter: Limiter) -> None:
    """The process was stopped: its clock went on, its loop did not."""
    calls = Calls(limiter, 100)
    going = asyncio.create_task(calls.go(3))
    await until(lambda: calls.local > 50)
    clock: Any = limiter.clock
    clock.ahead += 5_000.0
    assert limiter.try_reserve("b", input_tokens=1) is None
    await going


@history()
async def test_a_restarted_limiter_knows_its_leases(there: DecidedLimiter, limiter: Limiter) -> None:
    """No learning, no new lease: the same goes on."""
    calls = Calls(limiter, 100)
    await calls.go(2)
    key = holder(limiter).id
    there.restart()
    await calls.go(2)
    assert holder(limiter).id == key


@history()
async def test_a_lease_that_was_lost_is_dropped_and_another_asked_for(there: DecidedLimiter, limiter: Limiter) -> None:
    """Nothing of the old one is spent once the limiter has said so."""
    calls = Calls(limiter, 100)
    await calls.go(2)
    key = holder(limiter).id
    there.restart(lost=True)
    await calls.go(4)
    assert holder(limiter).id not in ("", key)


@history()
async def test_try_reserve_asks_nobody_and_counts_as_demand(there: DecidedLimiter, limiter: Limiter) -> None:
    """At first there is nothing; asked often enough, there is."""
    got = 0
    for _ in range(300):
        permit = limiter.try_reserve("b", input_tokens=10)
        if permit is not None:
            with permit:
                got += 1
        await asyncio.sleep(0.01)
    assert got > 150
    assert "reserve" not in there.heard


@history()
async def test_absurd_reports_of_usage_end_no_lease_badly(there: DecidedLimiter, limiter: Limiter) -> None:
    """Each is a number that can be told, and their sum is not: as much as can be is told, and the lease goes on."""
    calls = Calls(limiter, 100)
    going = asyncio.create_task(calls.go(4))
    await until(lambda: calls.local > 50)
    permits: list[LocalPermit] = []
    while len(permits) < 2:
        permit = limiter.try_reserve("b")
        permits += [] if permit is None else [permit]
        await asyncio.sleep(0.005)
    for permit in permits:
        permit.end(input_tokens=2**53 - 1, output_tokens=2**53 - 1)
    await going
    await asyncio.sleep(3)
    assert not limiter.keeper.holder(("b", "", ())).is_held
    assert there.used("b", "concurrent")[0] == 0
    assert there.used("b", "input_tokens")[0] > 2**52


def test_two_holders_share_what_there_is() -> None:
    """Both want more than everything; each gets about half, and not more is used than the pace."""

    async def main() -> None:
        there = DecidedLimiter(*budgets(limit=60_000))
        async with agent(there, "one") as one, agent(there, "two") as two:
            first, second = Calls(one, 60, took=0.001), Calls(two, 60, took=0.001)
            await asyncio.gather(first.go(12), second.go(12))
            assert abs(first.used - second.used) < 0.35 * (first.used + second.used)
            assert first.used + second.used > 7_000
            there.check()

    run(main())


@history()
async def test_a_freeze_stops_what_was_taken_and_the_rest_goes_back(there: DecidedLimiter, limiter: Limiter) -> None:
    """A permit that was not sent yet waits, too."""
    calls = Calls(limiter, 100)
    going = asyncio.create_task(calls.go(2))
    await until(lambda: calls.local > 50)
    await going
    await asyncio.sleep(0.3)
    permit = limiter.try_reserve("b", input_tokens=5)
    assert permit is not None
    limiter.freezes.own("b", (), 3_000.0)
    with pytest.raises(Exception, match="frozen"):
        permit.sent()
    permit.cancel_now()
    assert limiter.try_reserve("b", input_tokens=1) is None
    await asyncio.sleep(1.0)
    assert there.used("b")[1] == 0


def test_demand_wears_off() -> None:
    """After some seconds without calls there is none."""
    demand = Demand(0.0)
    for at in range(0, 2_000, 10):
        demand.note((1, 50, 20, 1, 0, 70, 0), float(at))
    assert 80 < demand.calls < 110
    assert demand.want(500.0)[1] > 2_000
    for at in range(2_000, 12_000, 500):
        demand.took(NOTHING, 0)
        demand.look(float(at))
    assert demand.calls < 1
    assert demand.calm >= 4
