"""Queries."""

from __future__ import annotations

from bursar.contracts.limiter import BudgetSpec, Clock, ClockReply, LimitSpec, Status
from bursar.kernel.decider import Refuse
from tests.limiter.fleet import Desk

SPEC = BudgetSpec(
    name="b",
    limits={
        "input_tokens": LimitSpec(limit=1000, window_ms=1000),
        "output_tokens": LimitSpec(limit=500, window_ms=1000, charge="production", paced=False),
        "concurrent": LimitSpec(limit=3, window_ms=0),
        "usd_micros": LimitSpec(limit=100, window_ms=0),
    },
)


def test_status_tells_the_room_in_every_dimension() -> None:
    """Used, in flight, headroom and debt, beside counters."""
    desk = Desk(SPEC, now=9)
    call = desk.granted(input_tokens=400, output_tokens=200, concurrent=1, usd_micros=30)
    desk.refused(input_tokens=10)
    desk.reserve(input_tokens=10, wait_ms=10_000)
    reply = desk.status()
    (budget,) = reply.budgets
    assert (reply.now_ms, reply.recovering) == (9, False)
    assert (budget.reservations, budget.waiting, budget.granted, budget.refused) == (1, 1, 1, 1)
    shown = {name: (d.used, d.in_flight, d.headroom, d.debt) for name, d in budget.dimensions.items()}
    assert shown == {
        "input_tokens": (400, 400, 600, 350),
        "output_tokens": (0, 200, 300, 0),
        "concurrent": (1, 1, 2, 0),
        "usd_micros": (30, 30, 70, 0),
    }
    desk.settle(call, output_tokens=150)
    assert desk.status("b").budgets[0].dimensions["output_tokens"].used == 150


def test_status_of_one_budget_or_of_all_that_are_offered() -> None:
    """Removed ones are not shown; an unknown one is an error."""
    desk = Desk(SPEC, SPEC.model_copy(update={"name": "c"}))
    desk.granted("c", concurrent=1)
    assert [budget.name for budget in desk.status().budgets] == ["b", "c"]
    assert [budget.name for budget in desk.status("c").budgets] == ["c"]
    desk.reload(SPEC)
    assert [budget.name for budget in desk.status().budgets] == ["b"]
    assert desk.rejected(desk.ask(Status(budget="c"))) == "unknown_budget"


def test_the_clock_is_the_limiters_own() -> None:
    """To learn the offset of one's own clock."""
    outcome = Desk(now=77).ask(Clock())
    assert isinstance(outcome, Refuse)
    assert ClockReply(**outcome.reply, fence="1.1.1.0123456789abcdef").now_ms == 77


def test_queries_change_nothing() -> None:
    """The durable state is the same before and after."""
    desk = Desk(SPEC)
    before = desk.dump()
    desk.status()
    desk.ask(Clock())
    assert desk.dump() == before
