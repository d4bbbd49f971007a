"""The limiter as an agent sees it, against a small limiter that speaks the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bursar.client.errors import Conflict, LimiterUnavailable, NeverFits, PermitEnded, PermitVoid, Refused
from bursar.client.fleet import Fleet
from bursar.client.limiter import Limiter
from bursar.errors import CallerError
from tests.client.fakes import FakeBus, FakeLimiter
from tests.client.virtual import LoopClock, run


@asynccontextmanager
async def fleet_and_limiter(slots: int = 1_000_000) -> AsyncIterator[tuple[Limiter, FakeLimiter, LoopClock]]:
    bus, clock = FakeBus(), LoopClock()
    there = FakeLimiter(bus, slots=slots)
    async with Fleet(None, bus=bus, clock=clock) as fleet:
        yield fleet.limiter, there, clock


def network(there: FakeLimiter) -> FakeBus:
    assert isinstance(there.bus, FakeBus)
    return there.bus


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


def test_a_line_forgotten_by_a_take_over_is_joined_again() -> None:
    """A request in line is repeated, so that a new owner learns of it."""

    async def main() -> None:
        async with fleet_and_limiter(slots=1) as (limiter, there, _):
            first = await limiter.acquire("b")
            waiting = asyncio.ensure_future(limiter.acquire("b", wait=30))
            await asyncio.sleep(1)
            assert there.line
            there.take_over()
            await asyncio.sleep(2.5)
            assert len(there.line) == 1
            await first.settle()
            assert (await waiting).fence[1] == 2

    run(main())


def test_the_first_answer_of_a_new_owner_repeats_every_open_request_at_once() -> None:
    """Nobody waits for his own timer once a take-over is known."""

    async def main() -> None:
        async with fleet_and_limiter(slots=1) as (limiter, there, _):
            await limiter.acquire("b")
            waiting = [asyncio.ensure_future(limiter.acquire("b", wait=30)) for _ in range(20)]
            await asyncio.sleep(10.1)
            there.take_over()
            await limiter.status()
            await asyncio.sleep(0.03)
            assert len(there.line) == 20
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(main())


def test_a_retry_carries_the_same_bytes() -> None:
    """However often a request is sent, it is one request."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            lost = iter([True, True, False])
            network(there).lose = lambda _: next(lost, False)
            await limiter.acquire("b")
            sent = [m.data for m in network(there).published if ".reserve." in m.subject]
            assert len(sent) == 3
            assert len(set(sent)) == 1
            assert len(there.open) == 1

    run(main())


def test_a_lost_answer_is_fetched_by_the_retry() -> None:
    """The limiter answers a retry from its table; nothing is reserved twice."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            deliver = there.bus.answer
            there.bus.answer = lambda _: None  # type: ignore[method-assign, assignment]
            asking = asyncio.ensure_future(limiter.acquire("b"))
            await asyncio.sleep(0.1)
            there.bus.answer = deliver  # type: ignore[method-assign]
            await asking
            assert len(there.open) - len(there.settled) <= 1

    run(main())


def test_a_permit_that_arrives_too_late_is_given_back_and_reserved_again() -> None:
    """A remembered grant whose deadline has passed is never handed out."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            deliver = there.bus.answer
            there.bus.answer = lambda _: None  # type: ignore[method-assign, assignment]
            asking = asyncio.ensure_future(limiter.acquire("b"))
            await asyncio.sleep(0.4)
            there.bus.answer = deliver  # type: ignore[method-assign]
            permit = await asking
            assert permit.left > 0
            await limiter.background.drain(1.0)
            assert list(there.open) == [permit.reservation]
            assert list(there.settled.values()) == [("cancelled", None)]

    run(main())


@pytest.mark.parametrize("code", ["not_ready", "failed_closed", "internal", "too_many"])
def test_a_service_that_is_not_ready_is_asked_again(code: str) -> None:
    """Errors that pass are retried quickly, with the same id."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, clock):
            there.errors = [code] * 4
            begun = clock.now()
            await limiter.acquire("b")
            assert clock.now() - begun < 1_000
            assert len({r.id for verb, r in there.heard if verb == "reserve"}) == 1

    run(main())


def test_nobody_listening_and_no_connection_are_waited_out() -> None:
    """A restart or a broken connection shorter than the patience is no error."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            there.bus.server = None
            asking = asyncio.ensure_future(limiter.acquire("b"))
            await asyncio.sleep(2)
            network(there).is_connected = False
            await asyncio.sleep(2)
            network(there).is_connected, there.bus.server = True, there.hear
            assert (await asking).left > 0

    run(main())


def test_silence_beyond_the_patience_is_an_error_and_a_late_grant_goes_back() -> None:
    """LimiterUnavailable says what happened last; what is granted later is cancelled, not leaked."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, clock):
            there.deaf = True
            begun = clock.now()
            with pytest.raises(LimiterUnavailable, match="no answer"):
                await limiter.acquire("b", wait=3)
            assert 12_900 <= clock.now() - begun < 13_500
            there.deaf = False
            await asyncio.sleep(3)
            assert not there.open
            assert list(there.settled.values()) == [("cancelled", None)]

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
            await first.settle()
            await limiter.background.drain(1.0)
            assert not there.open
            assert limiter.outstanding == 0

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


def test_the_watermark_follows_the_oldest_open_request() -> None:
    """acked is the highest number below which every request has been answered."""

    async def main() -> None:
        async with fleet_and_limiter(slots=1) as (limiter, there, _):
            first = await limiter.acquire("b")
            waiting = asyncio.ensure_future(limiter.acquire("b", wait=30))
            await asyncio.sleep(0.01)
            for _ in range(3):
                with pytest.raises(Refused):
                    await limiter.acquire("b")
            assert there.heard[-1][1].acked == 1
            await first.settle()
            await (await waiting).settle()
            with_all = await limiter.acquire("b")
            assert there.heard[-1][1].acked == int(there.heard[-1][1].id.rpartition("-")[2]) - 1
            await with_all.cancel()

    run(main())


def test_every_request_names_the_highest_fence_seen() -> None:
    """A service that has lost data learns of it from any request."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b")
            assert there.heard[-1][1].seen is None
            there.number = 41
            await permit.settle()
            await limiter.status("b")
            assert there.heard[-1][1].seen == "1.1.42.0000000000000000"

    run(main())


def test_a_refusal_from_a_replaced_owner_is_ignored() -> None:
    """What an earlier epoch merely says counts for nothing; the same request is asked again."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            there.epoch = 5
            await limiter.acquire("b")
            there.epoch, there.refuse_with = 4, "over_limit"
            asking = asyncio.ensure_future(limiter.acquire("b"))
            await asyncio.sleep(0.01)
            there.epoch, there.refuse_with = 5, None
            await asking
            assert limiter.caller.stale == 1

    run(main())


def test_a_grant_remembered_from_an_earlier_epoch_is_good() -> None:
    """It was committed before the take-over: the retry gets it and the client takes it, within its deadline."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            deliver = there.bus.answer
            there.send_within = 5_000
            there.bus.answer = lambda _: None  # type: ignore[method-assign, assignment]
            asking = asyncio.ensure_future(limiter.acquire("b"))
            await asyncio.sleep(0.01)
            there.bus.answer = deliver  # type: ignore[method-assign]
            there.take_over()
            await limiter.status()
            permit = await asking
            assert permit.fence[1] == 1
            assert 4.0 < permit.left < 5.0

    run(main())


def test_permits_are_declared_again_after_data_loss() -> None:
    """Each permit in use is stated with the fence it was given, so that its settlement is found."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b", input_tokens=5)
            there.take_over(lost=True)
            await limiter.status()
            await asyncio.sleep(0.1)
            declared = [r for verb, r in there.heard if verb == "redeclare"]
            assert [r.reservation for r in declared] == [permit.reservation]
            assert declared[0].seen == permit.fence_text
            assert there.open[permit.reservation]["input_tokens"] == 5
            permit.check()
            assert (await permit.settle()).outcome == "used"

    run(main())


def test_a_grant_from_before_data_loss_is_not_used() -> None:
    """It may have been lost: it is cancelled and a new one is reserved."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            there.incarnation = 3
            await limiter.status()
            there.incarnation = 2
            asking = asyncio.ensure_future(limiter.acquire("b"))
            await asyncio.sleep(0.0007)
            there.incarnation = 3
            permit = await asking
            assert permit.fence[0] == 3

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
