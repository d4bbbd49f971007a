"""The limiter as an agent sees it: permits, refusals, settlements, the end. The limiter is a small one that speaks
the contract."""

from __future__ import annotations

import asyncio

import pytest

from bursar.client.errors import Conflict, NeverFits, PermitEnded, PermitVoid, Refused
from bursar.client.fleet import Fleet
from bursar.client.limiter import Limiter
from bursar.errors import CallerError
from tests.client.fakes import FakeBus, FakeLimiter, fleet_and_limiter
from tests.client.virtual import LoopClock, run


async def send_and_fail(limiter: Limiter) -> None:
    async with limiter.reserve("b", input_tokens=9) as permit:
        permit.sent()
        raise TimeoutError


def test_a_block_reserves_and_settles_with_what_was_recorded() -> None:
    """Leaving the block settles with the recorded usage; what was not recorded counts as reserved."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            async with limiter.reserve("team/gpt", input_tokens=900, output_tokens=400) as permit:
                assert there.open[permit.reservation]["input_tokens"] == 900
                permit.sent()
                permit.used(input_tokens=850)
            usage = {"requests": 1, "input_tokens": 850, "output_tokens": 400, "usd_micros": 0}
            assert there.settled[permit.reservation] == ("used", usage)
            assert limiter.outstanding == 0

    run(main())


def test_a_block_that_raises_before_sending_gives_everything_back() -> None:
    """What was never marked as sent is cancelled."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            with pytest.raises(ValueError, match="prompt"):
                async with limiter.reserve("b", input_tokens=9) as permit:
                    raise ValueError("no prompt")
            await limiter.background.drain(1.0)
            assert there.settled[permit.reservation] == ("cancelled", None)

    run(main())


def test_a_block_that_raises_after_sending_counts_in_full() -> None:
    """A call of unknown outcome counts as reserved."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            with pytest.raises(TimeoutError):
                await send_and_fail(limiter)
            await limiter.background.drain(1.0)
            assert list(there.settled.values()) == [("used", None)]

    run(main())


def test_an_acquired_permit_is_settled_once() -> None:
    """A second settlement or a send after the end is an error of the caller."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b", input_tokens=9)
            done = await permit.settle(input_tokens=8)
            assert (done.outcome, done.refunded, done.overage) == ("used", {"input_tokens": 1}, {})
            with pytest.raises(PermitEnded):
                await permit.settle()
            with pytest.raises(PermitEnded):
                permit.sent()
            assert len(there.settled) == 1

    run(main())


def test_a_refusal_says_what_is_short_and_when_to_retry() -> None:
    """Refused carries reason, dimension, figures and seconds; nothing is reserved."""

    async def main() -> None:
        async with fleet_and_limiter(slots=0) as (limiter, there, _):
            with pytest.raises(Refused) as told:
                async with limiter.reserve("b", input_tokens=9):
                    raise AssertionError("entered without a permit")
            refused = told.value
            assert (refused.reason, refused.dimension, refused.limit, refused.level) == (
                "over_limit", "input_tokens", 100, 90,
            )  # fmt: skip
            assert refused.retry_in == 1.5
            assert "1.500 s" in refused.advice
            there.refuse_with = "never_fits"
            with pytest.raises(NeverFits) as never:
                await limiter.acquire("b")
            assert never.value.retry_in is None
            assert "does not help" in never.value.advice

    run(main())


def test_a_waiting_request_is_granted_when_its_turn_comes() -> None:
    """wait= stands in line; the permit it gets can be sent."""

    async def main() -> None:
        async with fleet_and_limiter(slots=1) as (limiter, there, _):
            first = await limiter.acquire("b")
            waiting = asyncio.ensure_future(limiter.acquire("b", wait=30))
            await asyncio.sleep(5)
            assert not waiting.done()
            await first.settle()
            second = await waiting
            assert 0 < second.left <= 0.3
            second.check()
            ids = {r.id for verb, r in there.heard if verb == "reserve"}
            assert len(ids) == 2

    run(main())


def test_the_grant_of_a_cancelled_caller_goes_back() -> None:
    """Cancelling a task that stands in line leaks no reservation."""

    async def main() -> None:
        async with fleet_and_limiter(slots=1) as (limiter, there, _):
            first = await limiter.acquire("b")
            waiting = asyncio.ensure_future(limiter.acquire("b", wait=30))
            await asyncio.sleep(1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await limiter.background.drain(1.0)
            assert not there.line
            await first.settle()
            await limiter.background.drain(1.0)
            assert not there.open
            assert limiter.outstanding == 0
            assert limiter.background.failed == 0


def test_a_grant_that_crosses_the_cancellation_goes_back() -> None:
    """The caller gives up while the grant is on its way."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            asking = asyncio.ensure_future(limiter.acquire("b", wait=30))
            await asyncio.sleep(there.bus.delay * 1.5)  # type: ignore[union-attr]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await limiter.background.drain(1.0)
            assert not there.open
            assert list(there.settled.values()) == [("cancelled", None)]
            assert limiter.caller._session.acked == limiter.caller._session._next - 1

    run(main())


def test_errors_of_the_caller_are_raised_with_their_code() -> None:
    """What the limiter says about the request arrives as it was said."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            there.errors = ["unknown"]
            with pytest.raises(CallerError) as unknown:
                await limiter.acquire("b")
            assert (unknown.value.code, unknown.value.facts) == ("unknown", {"budget": "b"})
            there.errors = ["id_reused"]
            with pytest.raises(Conflict) as reused:
                await limiter.acquire("b")
            assert reused.value.code == "id_reused"

    run(main())


def test_closing_finishes_settlements_and_gives_back_what_was_never_sent() -> None:
    """Nothing is lost when the fleet closes."""

    async def main() -> None:
        bus = FakeBus()
        there = FakeLimiter(bus)
        async with Fleet(None, bus=bus, clock=LoopClock()) as fleet:
            kept = await fleet.limiter.acquire("b")
            done = await fleet.limiter.acquire("b")
            done.sent()
            done.settle_soon(input_tokens=3)
        assert there.settled[kept.reservation][0] == "cancelled"
        assert there.settled[done.reservation][0] == "used"
        assert not bus.subs

    run(main())


def test_a_settlement_outlives_the_cancellation_of_its_caller() -> None:
    """Cancelling the task that settles does not lose the settlement."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b")
            settling = asyncio.ensure_future(permit.settle(input_tokens=1))
            await asyncio.sleep(0)
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
            await asyncio.sleep(0.1)
            assert there.settled[permit.reservation][0] == "used"

    run(main())


def test_a_pause_of_the_process_makes_the_permit_void() -> None:
    """Time that the process did not see passing counts against the send deadline."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, _, clock):
            permit = await limiter.acquire("b")
            permit.check()
            clock.ahead += 300
            assert permit.expired
            with pytest.raises(PermitVoid, match="void"):
                permit.sent()
            await permit.cancel()

    run(main())


def test_the_status_is_typed() -> None:
    """Headroom is read from models, not from maps."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, _, _clock):
            status = await limiter.status("team/gpt")
            assert status.budgets[0].name == "team/gpt"
            assert status.budgets[0].dimensions["requests"].headroom == 3

    run(main())


async def test_usage_that_cannot_be_has_its_own_code_and_records_nothing() -> None:
    """Less than nothing would give back what was used; what is too large to be told would never be settled."""
    bus = FakeBus()
    there = FakeLimiter(bus)
    async with Fleet(None, bus=bus) as fleet:
        permit = await fleet.limiter.acquire("b", input_tokens=9)
        permit.sent()
        permit.used(input_tokens=5)
        for wrong in ({"input_tokens": -1}, {"input_tokens": 7, "usd_micros": -2}, {"output_tokens": 2**53}):
            with pytest.raises(CallerError) as raised:
                await permit.settle(**wrong)
            assert (raised.value.code, permit.state) == ("bad_amount", "sent")
        for amount in (-9, 2**53, 2**70):
            with pytest.raises(CallerError) as raised:
                fleet.limiter.try_reserve("b", input_tokens=amount)
            assert raised.value.code == "bad_amount"
            with pytest.raises(CallerError) as raised:
                await fleet.limiter.acquire("b", input_tokens=amount)
            assert raised.value.code == "bad_amount"
        await permit.settle()
    ((_, usage),) = there.settled.values()
    assert usage is not None
    assert usage["input_tokens"] == 5
