"""Usage that is told while a call goes on."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts.limiter import BudgetSpec, LimitSpec, Settle, Usage
from bursar.contracts.limiter_control import Progress, Progressed
from bursar.kernel.decider import Accept, Outcome, Refuse, Reject
from tests.limiter.fleet import Desk


def rate(limit: int, **more: Any) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=1_000, paced=False, **more)


SPEC = BudgetSpec(
    name="b",
    jitter_ms=0,
    limits={
        "input_tokens": rate(1_000),
        "output_tokens": rate(1_000, charge="production"),
        "concurrent": LimitSpec(limit=5, window_ms=0),
        "usd_micros": LimitSpec(limit=500, window_ms=0),
    },
)


def tell(desk: Desk, reservation: str, who: str = "agent", **usage: int) -> Outcome:
    body = Progress(id=desk.new_id(), reservation=reservation, usage=Usage.model_validate({"requests": 0, **usage}))
    return desk.ask(body, who)


def counts(desk: Desk) -> dict[str, tuple[int, int]]:
    (shown,) = desk.status("b").budgets
    return {name: (d.limit - d.headroom, d.in_flight) for name, d in shown.dimensions.items()}


def started() -> tuple[Desk, str]:
    desk = Desk(SPEC)
    return desk, desk.granted(input_tokens=100, output_tokens=300, concurrent=1, usd_micros=50, ttl_ms=60_000)


def test_what_was_produced_counts_from_then() -> None:
    """It leaves the window earlier than the call ends, and is no longer feared as in flight."""
    desk, call = started()
    outcome = tell(desk, call, input_tokens=100, output_tokens=200)
    assert isinstance(outcome, Accept)
    assert Progressed(**outcome.reply, fence="1.1.1.0123456789abcdef").left["output_tokens"] == 100
    assert counts(desk)["output_tokens"] == (300, 100)
    desk.check()
    desk.advance(1_500)
    assert counts(desk)["output_tokens"] == (100, 100)
    desk.settle(call, input_tokens=100, output_tokens=250)
    assert counts(desk)["output_tokens"] == (50, 0)
    assert counts(desk)["concurrent"] == (0, 0)
    desk.check()


def test_what_exceeds_the_reservation_counts_at_once() -> None:
    """In every kind of limit; the end adds only what is new."""
    desk, call = started()
    tell(desk, call, input_tokens=150, output_tokens=400, usd_micros=80)
    assert counts(desk) == {
        "input_tokens": (150, 150), "output_tokens": (400, 0), "concurrent": (1, 1), "usd_micros": (80, 80),
    }  # fmt: skip
    desk.check()
    desk.settle(call, input_tokens=150, output_tokens=420, usd_micros=90)
    assert counts(desk) == {
        "input_tokens": (150, 0), "output_tokens": (420, 0), "concurrent": (0, 0), "usd_micros": (90, 0),
    }  # fmt: skip
    desk.check()


def test_a_report_that_comes_twice_changes_nothing() -> None:
    """Each tells everything so far."""
    desk, call = started()
    tell(desk, call, output_tokens=200)
    before = desk.dump()
    assert isinstance(tell(desk, call, output_tokens=200), Refuse)
    assert desk.dump() == before


def test_usage_never_shrinks() -> None:
    """Neither by a later report nor by the end, nor can a call that has used something be taken back."""
    desk, call = started()
    tell(desk, call, output_tokens=200)
    before = desk.dump()
    assert desk.rejected(tell(desk, call, output_tokens=199)) == "usage_shrank"
    assert desk.rejected(desk.settle(call, output_tokens=100)) == "usage_shrank"
    assert desk.rejected(desk.cancel(call)) == "usage_shrank"
    assert desk.dump() == before


def test_a_time_out_counts_the_larger_of_both() -> None:
    """What was reserved, and what was reported beyond it."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=100, output_tokens=300, ttl_ms=200)
    tell(desk, call, input_tokens=160, output_tokens=50)
    desk.advance(200)
    assert counts(desk)["input_tokens"] == (160, 0)
    assert counts(desk)["output_tokens"] == (300, 0)
    late = desk.settle(call, input_tokens=170, output_tokens=300)
    assert isinstance(late, Accept)
    assert late.reply["overage"] == {"input_tokens": 10}
    desk.check()


def test_an_end_without_usage_counts_the_larger_of_both() -> None:
    """As reserved, or as reported."""
    desk, call = started()
    tell(desk, call, output_tokens=350)
    outcome = desk.ask(Settle(id="s-1", reservation=call), "agent")
    assert isinstance(outcome, Accept)
    assert outcome.reply["overage"]["output_tokens"] == 50
    assert counts(desk)["output_tokens"] == (350, 0)
    desk.check()


@pytest.mark.parametrize(("who", "ended", "code"), [("eve", False, "not_yours"), ("agent", True, "already_settled")])
def test_only_the_holder_reports_and_only_until_the_end(who: str, ended: bool, code: str) -> None:
    """Each mistake has its own code and changes nothing."""
    desk, call = started()
    if ended:
        desk.settle(call, output_tokens=1)
    before = desk.dump()
    outcome = tell(desk, call, who, output_tokens=5)
    assert isinstance(outcome, Reject)
    assert outcome.code == code
    assert desk.rejected(tell(desk, "9.9.9")) == "unknown_reservation"
    assert desk.dump() == before


def test_reports_survive_a_reload() -> None:
    """What is in flight is counted again with what was reported."""
    desk, call = started()
    tell(desk, call, input_tokens=150, output_tokens=120)
    desk.reload(SPEC.model_copy(update={"limits": {**SPEC.limits, "requests": rate(50)}}))
    desk.check()
    desk.settle(call, input_tokens=150, output_tokens=120)
    desk.check()


def test_a_refusal_counts_what_is_still_in_flight_of_a_stream() -> None:
    """Not what it had reserved: the time told is that of the call whose end makes the room."""
    desk = Desk(BudgetSpec(name="b", limits={"output_tokens": rate(100, charge="production")}, jitter_ms=100), now=1000)
    told_all = desk.granted(output_tokens=80, ttl_ms=2_000)
    desk.granted(output_tokens=20, ttl_ms=5_000)
    desk.must(Progress(id=desk.new_id(), reservation=told_all, usage=Usage(requests=0, output_tokens=80)))
    at = desk.refused(output_tokens=100)["retry_at_ms"]
    assert isinstance(desk.copy(at - 1).reserve(output_tokens=100), Refuse)
    assert isinstance(desk.copy(at).reserve(output_tokens=100), Accept)


def test_input_beyond_the_reservation_counts_in_the_total_at_once() -> None:
    """The output that may still come is as much as before, so a time-out later adds nothing that a refusal did not
    reckon with; and what does not come is given back."""
    total = LimitSpec(limit=30, window_ms=10_000, paced=False)
    desk = Desk(BudgetSpec(name="b", limits={"total_tokens": total}, jitter_ms=100), now=1_000)
    call = desk.granted(input_tokens=10, output_tokens=10, ttl_ms=2_000)
    tell(desk, call, input_tokens=15)
    assert counts(desk)["total_tokens"] == (25, 25)
    desk.check()
    at = desk.refused(input_tokens=28)["retry_at_ms"]
    assert isinstance(desk.copy(at - 1).reserve(input_tokens=28), Refuse)
    assert isinstance(desk.copy(at).reserve(input_tokens=28), Accept)
    desk.settle(call, input_tokens=15, output_tokens=3)
    assert counts(desk)["total_tokens"] == (18, 0)
    desk.check()
