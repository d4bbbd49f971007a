"""Half-open: permits of the registry, as a client uses them."""

from __future__ import annotations

import asyncio

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_errors import CircuitOpen
from tests.client.breaker_fakes import breaker_and_registry, moment
from tests.client.fakes import Message
from tests.client.virtual import run

NOT_READY = {"code": "not_ready", "text": "", "facts": {}}


def test_a_half_open_target_is_tried_with_a_permit() -> None:
    """Its result goes back as that of the probe, not into the windows."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            verdict = breaker.allows("p/m")
            assert not verdict
            assert verdict.may_probe
            async with breaker.call("p/m") as call:
                assert call.is_probe
                assert call.left == pytest.approx(1.999, abs=0.01)
                await moment(0.1)
            with pytest.raises(ConnectionError):
                async with breaker.call("p"):
                    raise ConnectionError
            await moment(0.3)
            assert there.results() == ["ok", "error"]
            assert there.reports == []

    run(history())


def test_who_gets_no_permit_is_refused_and_does_not_ask_again_at_once() -> None:
    """Not before the end of the permit that is out, which it was told, and a little later, since all were told."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.free = 0
            there.pulse()
            there.change("p", "half_open")
            await moment()
            for _ in range(5):
                with pytest.raises(CircuitOpen) as error:
                    async with breaker.call("p"):
                        pass
                assert error.value.state == "half_open"
            assert there.count("probe") == 1
            await moment(0.69)
            with pytest.raises(CircuitOpen):
                async with breaker.call("p"):
                    pass
            assert there.count("probe") == 1
            there.free = 1
            await moment(1.05)
            async with breaker.call("p"):
                pass
            assert there.count("probe") == 2

    run(history())


def test_who_was_refused_a_permit_waits_for_the_pulse_that_says_one_has_come_back() -> None:
    """However long others try it; then all who wait ask within half a second, each at a time of its own."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.free, there.busy_for = 0, 60_000
            there.change("p", "half_open")
            there.change("q", "half_open")
            there.pulse()
            await moment()
            for _ in range(100):
                with pytest.raises(CircuitOpen) as error:
                    await breaker.enter("p")
                assert error.value.retry_in is not None
                assert error.value.retry_in <= 2.0
                await moment(0.1)
            assert there.count("probe") == 1
            there.free = 1
            there.pulse()
            await moment()
            waited = 0.0
            while not breaker.allows("p").may_probe:
                await moment(0.01)
                waited += 0.01
            assert waited <= 0.5
            assert (await breaker.enter("p")).lease is not None
            assert there.count("probe") == 2

    run(history())


def test_who_has_just_ended_a_probe_may_ask_for_the_next_at_once() -> None:
    """Its other calls were refused meanwhile; but now a permit is free, and nobody knows it sooner."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.free = 1
            there.pulse()
            there.change("p", "half_open")
            await moment()
            async with breaker.call("p/m"):
                there.free = 0
                with pytest.raises(CircuitOpen):
                    async with breaker.call("p/m"):
                        pass
                there.free = 1
            async with breaker.call("p/m") as call:
                assert call.is_probe
            assert there.count("probe") == 3

    run(history())


def test_a_change_of_the_circuit_ends_the_waiting_and_a_change_of_another_does_not() -> None:
    """A refusal is about the circuit as it was; a broadcast about something else is no reason to ask again."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.free, there.busy_for = 0, 60_000
            there.change("p", "half_open")
            there.pulse()
            await moment()
            with pytest.raises(CircuitOpen):
                await breaker.enter("p")
            there.change("q", "open", 1_000)
            await moment()
            assert not breaker.allows("p").may_probe
            there.change("p", "open", 10)
            there.change("p", "half_open")
            await moment()
            assert breaker.allows("p").may_probe

    run(history())


def test_where_no_pulse_is_heard_a_refusal_holds_for_a_second_at_most() -> None:
    """Nobody would say that a permit has come back."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.has_pulse = False
            await moment(6.0)
            there.free, there.busy_for = 0, 60_000
            there.change("p", "half_open")
            await moment()
            with pytest.raises(CircuitOpen):
                await breaker.enter("p")
            assert not breaker.allows("p").may_probe
            await moment(1.0)
            assert breaker.allows("p").may_probe

    run(history())


def test_a_probe_is_cut_off_when_its_permit_is_over() -> None:
    """Another may be trying by then; it counts as a time-out."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            with pytest.raises(TimeoutError):
                async with breaker.call("p"):
                    await asyncio.sleep(60)
            await moment()
            assert there.results() == ["timeout"]

    run(history())


def test_a_permit_that_nobody_waits_for_goes_back() -> None:
    """The caller was cancelled while the permit was on its way."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()

            async def attempt() -> None:
                async with breaker.call("p"):
                    raise AssertionError("it was cancelled before")

            asking = asyncio.ensure_future(attempt())
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await moment(0.2)
            assert there.results() == ["cancelled"]

    run(history())


def test_a_permit_that_comes_too_late_is_not_used() -> None:
    """Its time counts from before it was asked for."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, clock):
            there.change("p", "half_open")
            await moment()

            async def pause() -> None:
                clock.ahead += 2_500.0

            with pytest.raises(CircuitOpen):
                await asyncio.gather(breaker.enter("p"), pause())
            await moment()
            assert there.results() == ["cancelled"]

    run(history())


def test_a_circuit_that_has_closed_meanwhile_needs_no_permit() -> None:
    """The broadcast was lost; the answer to the question tells."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            there.is_mute = True
            there.change("p", "closed")
            async with breaker.call("p") as call:
                assert not call.is_probe
            await moment(0.2)
            assert breaker.allows("p")

    run(history())


def test_a_health_check_tries_a_half_open_target_although_nobody_calls_it() -> None:
    """By a permit as any other call, and only then; what it finds is the probe's result."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            seen = 0

            async def check(call: CircuitCall) -> None:
                nonlocal seen
                seen += 1
                call.answered(503 if seen == 1 else 200)
                if seen == 2:
                    raise ConnectionError

            task = breaker.watch("p/m", check, every=1.0)
            await moment(3.0)
            assert seen == 0
            there.change("p", "half_open")
            await moment(4.0)
            assert seen in {3, 4, 5}
            assert there.results()[:3] == ["overload", "ok", "ok"]
            there.change("p", "closed")
            await moment()
            before = seen
            await moment(3.0)
            assert seen == before
            assert not task.done()
        assert task.cancelled()

    run(history())


def test_a_process_asks_one_question_at_a_time() -> None:
    """Ten calls that want to try a target at the same moment: the answer to the first holds for all."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.free = 0
            there.change("p", "half_open")
            await moment()
            found = await asyncio.gather(*(breaker.enter("p") for _ in range(10)), return_exceptions=True)
            assert all(isinstance(one, CircuitOpen) for one in found)
            assert there.count("probe") == 1

    run(history())


def test_a_question_that_was_not_answered_is_taken_up_again_and_not_hurried() -> None:
    """The same request, with pauses that grow; its permit goes back when it is too old to be used."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            there.is_deaf = True
            for _ in range(80):
                with pytest.raises(CircuitOpen):
                    await breaker.enter("p")
                there.pulse()
                await moment(0.1)
            asked = [request.id for verb, request in there.heard if verb == "probe"]
            assert len(set(asked)) == 1
            assert 3 <= len(asked) <= 6
            there.is_deaf = False
            for _ in range(100):
                await moment(0.1)
                if breaker.peek("p").may_probe:
                    break
            with pytest.raises(CircuitOpen):
                await breaker.enter("p")
            await moment(0.1)
            assert there.results() == ["cancelled"]

    run(history())


def test_a_question_that_nobody_waits_for_is_not_asked_again_whatever_is_answered() -> None:
    """Its caller has gone: neither "not now" nor a new owner makes it ask for a permit that would only go back."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            there.is_deaf = True
            asking = asyncio.ensure_future(breaker.enter("p"))
            await moment(0.1)
            asking.cancel()
            await moment(0.1)
            probe = next(message for message in there.bus.published if ".probe." in message.subject)
            there.bus.answer(Message(probe.reply, "", msgpack.packb({"v": 1, "error": NOT_READY})))
            await moment(5.0)
            there.is_deaf = False
            there.incarnation += 1
            there.pulse()
            await moment(5.0)
            assert there.count("query") > 1, "it has heard of the new owner"
            assert there.count("probe") == 1
            assert there.results() == []

    run(history())


@pytest.mark.parametrize("turns", range(5))
def test_a_call_that_is_cancelled_while_it_takes_a_question_up_keeps_nothing_open(turns: int) -> None:
    """Otherwise the registry would have to remember all later answers."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "half_open")
            await moment()
            there.is_deaf = True
            with pytest.raises(CircuitOpen):
                await breaker.enter("p")
            await moment(1.1)
            asking = asyncio.ensure_future(breaker.enter("p"))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            there.is_deaf = False
            await moment(40.0)
            await breaker.registry.probe("p")
            last = [request for verb, request in there.heard if verb == "probe"][-1]
            assert last.acked == int(last.id.rpartition("-")[2]) - 1

    run(history())
