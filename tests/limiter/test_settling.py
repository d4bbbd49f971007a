"""Ending a reservation."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter import BudgetSpec, LimitSpec, Settle, Settled, StatusReply
from bursar.kernel.decider import Accept, Outcome, Refuse, Reject
from bursar_limiter import state as state_module
from bursar_limiter.settling import Expire
from tests.limiter.fleet import Desk

FENCE = "1.1.1.0123456789abcdef"
SPEC = BudgetSpec(
    name="b",
    limits={
        "requests": LimitSpec(limit=10, window_ms=1000, paced=False),
        "input_tokens": LimitSpec(limit=1000, window_ms=1000, paced=False),
        "concurrent": LimitSpec(limit=2, window_ms=0),
        "usd_micros": LimitSpec(limit=1000, window_ms=0),
    },
    jitter_ms=0,
)


def accepted(outcome: Outcome) -> Settled:
    assert isinstance(outcome, Accept), outcome
    return Settled(**outcome.reply, fence=FENCE)


def test_less_than_reserved_is_refunded_at_once() -> None:
    """The room is there for the next request in the same window."""
    desk = Desk(SPEC)
    call = desk.granted(requests=1, input_tokens=900, concurrent=1, usd_micros=50)
    settled = accepted(desk.settle(call, requests=1, input_tokens=300, usd_micros=40))
    assert settled.outcome == "used"
    assert (settled.refunded, settled.overage) == ({"input_tokens": 600, "usd_micros": 10}, {})
    desk.granted(input_tokens=700)
    desk.refused(input_tokens=1)


def test_more_than_reserved_is_charged_at_once() -> None:
    """Overage may exceed the limit: then nothing passes until it has left the window."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=600)
    desk.advance(500)
    settled = accepted(desk.settle(call, input_tokens=1300))
    assert (settled.refunded, settled.overage) == ({}, {"input_tokens": 700})
    assert desk.refused(input_tokens=1)["level"] == 1300
    assert 1000 < desk.refused(input_tokens=300)["retry_at_ms"] <= 1004
    assert 1500 < desk.refused(input_tokens=301)["retry_at_ms"] <= 1504


def test_usage_in_a_dimension_that_was_not_reserved_is_charged() -> None:
    """Reserved nothing, used something: that is overage."""
    desk = Desk(SPEC)
    call = desk.granted(requests=1)
    assert accepted(desk.settle(call, requests=1, input_tokens=990)).overage == {"input_tokens": 990}
    desk.refused(input_tokens=11)


def test_a_refund_after_the_window_makes_no_room_in_another() -> None:
    """The call's window has passed; its refund belongs to nothing any more."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=900)
    desk.advance(5000)
    desk.granted(input_tokens=800)
    accepted(desk.settle(call, input_tokens=0))
    assert desk.refused(input_tokens=201)["level"] == 800


def test_without_usage_the_reservation_counts_as_used() -> None:
    """The provider reported nothing: the estimate stands."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=900, concurrent=1)
    settled = accepted(desk.ask(Settle(id="s", reservation=call)))
    assert (settled.refunded, settled.overage) == ({}, {})
    desk.refused(input_tokens=200)


def test_a_cancelled_call_gives_everything_back() -> None:
    """It was never sent."""
    desk = Desk(SPEC)
    call = desk.granted(requests=10, input_tokens=1000, concurrent=2, usd_micros=1000)
    settled = accepted(desk.cancel(call))
    assert settled.outcome == "cancelled"
    assert settled.refunded == {"requests": 10, "input_tokens": 1000, "usd_micros": 1000}
    desk.granted(requests=10, input_tokens=1000, concurrent=2, usd_micros=1000)


def test_a_call_in_flight_ends_with_its_settlement() -> None:
    """Concurrency comes back when the call is settled, not when its window passes."""
    desk = Desk(SPEC)
    calls = [desk.granted(concurrent=1) for _ in range(2)]
    desk.advance(10_000)
    desk.refused(concurrent=1)
    desk.settle(calls[0])
    desk.granted(concurrent=1)


def test_a_reservation_ends_once() -> None:
    """Another settlement, with another id, is told how it ended and changes nothing."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=900)
    desk.settle(call, input_tokens=100)
    before = desk.dump()
    for outcome in (desk.settle(call, input_tokens=900), desk.cancel(call)):
        assert isinstance(outcome, Reject)
        assert outcome.code == "already_settled"
        assert outcome.facts == {"reservation": call, "outcome": "used", "ended_at_ms": 0}
    assert desk.dump() == before


def test_a_time_out_counts_as_used() -> None:
    """The estimate stays charged; the place in flight is free."""
    desk = Desk(SPEC)
    desk.granted(input_tokens=900, concurrent=2, usd_micros=700, ttl_ms=100)
    desk.advance(99)
    desk.refused(concurrent=1)
    desk.advance(100)
    assert not desk.state.live
    desk.granted(concurrent=2)
    desk.refused(input_tokens=200)
    assert desk.refused(usd_micros=400)["retry_at_ms"] is None


def test_what_was_produced_counts_from_the_time_out_on() -> None:
    """Charged as produced: the whole reserve may have been produced in the last moment."""
    spec = LimitSpec(limit=1000, window_ms=1000, charge="production", paced=False)
    desk = Desk(BudgetSpec(name="b", limits={"output_tokens": spec}, jitter_ms=0))
    desk.granted(output_tokens=900, ttl_ms=5000)
    desk.advance(5900)
    desk.refused(output_tokens=200)
    desk.advance(6010)
    desk.granted(output_tokens=1000)


def test_a_late_report_is_a_correction() -> None:
    """Usage beyond what the time-out charged is real: it is charged now, once. Nothing is refunded."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=300, ttl_ms=100)
    desk.advance(500)
    settled = accepted(desk.settle(call, input_tokens=700))
    assert (settled.outcome, settled.refunded, settled.overage) == ("timed_out", {}, {"input_tokens": 400})
    assert desk.refused(input_tokens=400)["level"] == 700
    assert desk.rejected(desk.settle(call, input_tokens=700)) == "already_settled"
    desk.check()


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_late_report_of_less_refunds_nothing(cancelled: bool) -> None:
    """The time-out has counted it as used; that stands."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=900, ttl_ms=100)
    desk.advance(500)
    settled = accepted(desk.cancel(call) if cancelled else desk.settle(call, input_tokens=1))
    assert (settled.outcome, settled.refunded, settled.overage) == ("timed_out", {}, {})
    desk.refused(input_tokens=200)


def test_a_late_report_on_a_budget_that_is_gone_still_ends_it() -> None:
    """The operator has removed the budget meanwhile, and nothing in it counted any more."""
    desk = Desk(SPEC.model_copy(update={"limits": {"concurrent": LimitSpec(limit=2, window_ms=0)}}))
    call = desk.granted(concurrent=1, ttl_ms=100)
    desk.advance(500)
    desk.reload()
    assert not desk.state.budgets
    assert accepted(desk.settle(call, input_tokens=7)).outcome == "timed_out"
    assert desk.rejected(desk.settle(call)) == "already_settled"
    desk.check()


def test_nobody_settles_for_another() -> None:
    """Neither a live nor an ended reservation of somebody else."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=900)
    assert desk.rejected(desk.settle(call, "eve")) == "not_yours"
    desk.settle(call)
    assert desk.rejected(desk.settle(call, "eve")) == "not_yours"


def test_an_unknown_reservation_is_an_error() -> None:
    """Never granted, or forgotten."""
    assert Desk(SPEC).rejected(Desk(SPEC).settle("9.9.9")) == "unknown_reservation"


def test_ends_are_remembered_for_ten_minutes_and_forgotten_after_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two generations: precise answers for at least the promised time, bounded memory."""
    desk = Desk(SPEC)
    first = desk.granted(requests=1)
    desk.settle(first, requests=1)
    desk.advance(599_000)
    assert desk.rejected(desk.settle(first)) == "already_settled"
    for at in (1_000_000, 2_000_000):
        desk.advance(at)
        desk.settle(desk.granted(requests=1), requests=1)
    assert desk.rejected(desk.settle(first)) == "unknown_reservation"
    monkeypatch.setattr(state_module, "REMEMBER_COUNT", 5)
    for _ in range(40):
        desk.settle(desk.granted(), requests=0)
    assert len(desk.state.ended) + len(desk.state.ended_before) <= 10


def test_a_time_out_that_was_settled_meanwhile_does_nothing() -> None:
    """The internal command is decided like any other: late, it changes nothing."""
    desk = Desk(SPEC)
    call = desk.granted(requests=1, ttl_ms=100)
    assert isinstance(desk.ask(Expire(call), ""), Refuse)
    desk.settle(call)
    desk.advance(100)
    assert isinstance(desk.ask(Expire(call), ""), Refuse)


def test_many_short_calls_leave_no_trail_of_time_outs() -> None:
    """Calls that are settled long before their time-out do not pile up."""
    desk = Desk(SPEC)
    for _ in range(1000):
        desk.settle(desk.granted(ttl_ms=60_000), requests=0)
    assert len(desk.state.budgets["b"].expiries) < 100
    assert len(desk.state.expiries) < 100
    desk.check()


def test_an_absurd_report_closes_a_budget_for_one_window_only() -> None:
    """Usage beyond all measure, again and again: nothing overflows, and the debt ends."""
    limits = {
        "input_tokens": LimitSpec(limit=1000, window_ms=1000, bucket=500),
        "usd_micros": LimitSpec(limit=9, window_ms=0),
    }
    desk = Desk(SPEC.model_copy(update={"limits": limits}))
    for _ in range(3000):
        desk.settle(desk.granted(), input_tokens=MAX_INT, usd_micros=MAX_INT)
    desk.check()
    assert len(msgpack.packb(desk.dump()))
    assert StatusReply.model_validate(desk.status().model_dump()).budgets[0].dimensions["input_tokens"].used == MAX_INT
    refused = desk.refused(input_tokens=1)
    assert refused["level"] == MAX_INT
    assert refused["retry_at_ms"] < 1200
    desk.advance(2200)
    desk.granted(input_tokens=400)
    assert desk.refused(usd_micros=1)["retry_at_ms"] is None
