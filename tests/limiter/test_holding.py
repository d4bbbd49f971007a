"""Who holds what of a budget."""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Reserve
from bursar.contracts.limiter_control import Holders, HoldersReply
from bursar.kernel.decider import Accept, Refuse
from tests.limiter.fleet import Desk
from tests.limiter.lease_holder import Holder, hand
from tests.limiter.test_leasing import spec


def holders(desk: Desk, budget: str = "b") -> HoldersReply:
    outcome = desk.ask(Holders(budget=budget), "ops")
    assert isinstance(outcome, Refuse), outcome
    return HoldersReply(**outcome.reply, fence="1.1.1.0123456789abcdef")


def reserve(desk: Desk, principal: str, budget: str = "b", **amounts: int) -> None:
    wanted = Amounts.model_validate({"requests": 0, "concurrent": 0, **amounts})
    body = Reserve(id=desk.new_id(), budget=budget, amounts=wanted, ttl_ms=60_000)
    assert isinstance(desk.ask(body, principal), Accept)


def test_reservations_and_leases_are_told_by_principal() -> None:
    """Those who hold most first; what has ended is held by nobody."""
    desk = Desk(spec())
    assert holders(desk).holders == []
    assert isinstance(Holder(desk).ask(hand(input_tokens=200, concurrent=1)), Accept)
    for _ in range(2):
        reserve(desk, "bob", input_tokens=30, concurrent=1)
    first, second = holders(desk).holders
    assert (first.principal, first.reservations, first.leases) == ("bob", 2, 0)
    assert (first.reserved, first.leased) == ({"input_tokens": 60, "concurrent": 2}, {})
    assert (second.reservations, second.leases, second.leased) == (0, 1, {"input_tokens": 200, "concurrent": 1})


def test_a_budget_tells_of_those_below_it_and_of_own_parts() -> None:
    """A reservation counts in the budget that it names and in all above; use by principal is known of own parts."""
    limits: dict[Any, Any] = {"input_tokens": LimitSpec(limit=1_000, window_ms=10_000, paced=False)}
    child = ChildSpec(limits={"input_tokens": LimitSpec(limit=300, window_ms=10_000, paced=False)})
    desk = Desk(
        BudgetSpec(name="org", limits=limits),
        BudgetSpec(name="team", parent="org", limits=limits, each_agent=child),
        BudgetSpec(name="other", parent="org", limits=limits),
    )
    reserve(desk, "ann", "team", input_tokens=40)
    reserve(desk, "bob", "other", input_tokens=7)
    assert [row.principal for row in holders(desk, "org").holders] == ["ann", "bob"]
    (row,) = holders(desk, "team").holders
    assert (row.principal, row.reserved, row.used) == ("ann", {"input_tokens": 40}, {"input_tokens": 40})
    (row,) = holders(desk, "other").holders
    assert (row.principal, row.used) == ("bob", {})
    assert desk.rejected(desk.ask(Holders(budget="nonsense"), "ops")) == "unknown_budget"


def test_who_holds_what_is_a_question_that_changes_nothing() -> None:
    """It is asked by whoever looks, again and again; and an answer has an end."""
    desk = Desk(spec(limits={"requests": LimitSpec(limit=1_000, window_ms=10_000, paced=False)}))
    for number in range(130):
        reserve(desk, f"agent-{number}", requests=1)
    before = desk.decider.dump(desk.state)
    reply = holders(desk)
    assert (len(reply.holders), reply.more) == (100, 30)
    assert desk.decider.dump(desk.state) == before
