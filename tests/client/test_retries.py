"""Through lost messages, restarts, take-overs and lost data: every request is decided once and answered."""

from __future__ import annotations

import asyncio

import pytest

from bursar.client.errors import LimiterUnavailable, Refused
from bursar.errors import CallerError
from tests.client.fakes import fleet_and_limiter, network
from tests.client.virtual import run


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


def test_silence_beyond_the_patience_is_an_error_and_nothing_is_granted_later() -> None:
    """LimiterUnavailable says what happened last; a limiter that wakes up later is told that nobody waits any more."""

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
            assert not there.line
            assert not there.settled

    run(main())


def test_a_grant_that_was_never_heard_of_goes_back() -> None:
    """Beyond the patience, too: what the limiter had granted is cancelled, not leaked."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            deliver = there.bus.answer
            there.bus.answer = lambda _: None  # type: ignore[method-assign, assignment]
            with pytest.raises(LimiterUnavailable, match="no answer"):
                await limiter.acquire("b", wait=3)
            assert len(there.open) == 1
            there.bus.answer = deliver  # type: ignore[method-assign]
            await asyncio.sleep(3)
            assert not there.open
            assert list(there.settled.values()) == [("cancelled", None)]

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
            assert limiter.caller.stale >= 1

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
            assert declared[0].fence == permit.fence_text
            assert there.open[permit.reservation]["input_tokens"] == 5
            permit.check()
            assert (await permit.settle()).outcome == "used"

    run(main())


def test_a_settlement_that_comes_before_its_declaration_makes_it() -> None:
    """In flight when the data is lost: it finds nothing, declares the reservation and settles it again; nothing stays
    behind that would count until it times out."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b", input_tokens=5)
            there.deaf = True
            settling = permit.settle_soon(input_tokens=3)
            await asyncio.sleep(0.1)
            there.deaf = False
            there.take_over(lost=True)
            await limiter.status()
            assert (await settling).outcome == "used"
            assert not there.open
            verbs = [verb for verb, _ in there.heard if verb in {"settle", "redeclare"}]
            assert verbs[-3:] == ["settle", "redeclare", "settle"]
            assert verbs.count("redeclare") == 1
            assert limiter.outstanding == 0

    run(main())


def test_a_settlement_waits_for_the_declaration_of_its_permit() -> None:
    """The other order: declared in the background when the call ends."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b", input_tokens=5)
            there.take_over(lost=True)
            await limiter.status()
            assert (await permit.settle(input_tokens=3)).outcome == "used"
            assert [verb for verb, _ in there.heard if verb in {"settle", "redeclare"}] == ["redeclare", "settle"]
            assert not there.open

    run(main())


def test_a_settlement_of_what_nobody_remembers_is_an_error() -> None:
    """Without a loss there is nothing to declare."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b")
            there.open.clear()
            with pytest.raises(CallerError) as unknown:
                await permit.settle()
            assert unknown.value.code == "unknown_reservation"
            assert limiter.outstanding == 0

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
