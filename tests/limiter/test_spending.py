"""Who has spent what: each charge once, whatever was repeated, and under the declared budget."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts.limiter import BudgetSpec, ChildSpec, LimitSpec
from bursar.contracts.limiter_control import Spending, SpendingReply
from bursar.kernel.decider import Accept, Refuse
from bursar_limiter import spending
from tests.limiter.fleet import Desk
from tests.limiter.lease_holder import Holder, hand

LIMITS: Any = {
    "usd_micros": LimitSpec(limit=10_000_000, window_ms=86_400_000, paced=False),
    "input_tokens": LimitSpec(limit=100_000, window_ms=60_000, paced=False),
}
MONEY = BudgetSpec(name="b", limits=LIMITS)


def told(desk: Desk, offset: int = 0) -> SpendingReply:
    outcome = desk.ask(Spending(offset=offset), "ops")
    assert isinstance(outcome, Refuse), outcome
    return SpendingReply(**outcome.reply, fence="f")


def bill(desk: Desk) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    return {
        (row.budget, row.principal): (row.requests, row.input_tokens, row.output_tokens, row.usd_micros)
        for row in told(desk).rows
    }


def test_what_was_settled_is_on_the_bill_and_not_what_was_reserved() -> None:
    """Once, though it is settled again; a cancelled call cost nothing."""
    desk = Desk(MONEY)
    first, second = (desk.granted(requests=1, input_tokens=500, usd_micros=9_000) for _ in range(2))
    assert bill(desk) == {}
    for _ in range(2):
        desk.settle(first, requests=1, input_tokens=400, output_tokens=20, usd_micros=7_000)
    desk.cancel(second)
    assert bill(desk) == {("b", "agent"): (1, 400, 20, 7_000)}
    desk.check()


def test_what_timed_out_counts_in_full_and_a_late_report_adds_what_is_missing() -> None:
    """As for the limits."""
    desk = Desk(MONEY)
    late = desk.granted(ttl_ms=1_000, requests=1, usd_micros=5_000)
    desk.advance(desk.now + 1_001)
    assert bill(desk)["b", "agent"] == (1, 0, 0, 5_000)
    desk.settle(late, requests=1, usd_micros=8_000)
    assert bill(desk)["b", "agent"] == (1, 0, 0, 8_000)
    desk.check()


def test_an_agents_own_part_counts_for_the_budget_that_was_declared() -> None:
    """With the budget above it, which is the team's; also when it is declared no more."""
    each: Any = ChildSpec(limits=LIMITS)
    desk = Desk(BudgetSpec(name="team", limits=LIMITS), BudgetSpec(name="b", parent="team", each_agent=each))
    desk.settle(desk.granted(requests=1, usd_micros=10), requests=1, usd_micros=10)
    (row,) = told(desk).rows
    assert (row.budget, row.parent, row.principal, row.usd_micros) == ("b", "team", "agent", 10)
    desk.reload(BudgetSpec(name="team", limits=LIMITS))
    assert bill(desk) == {("b", "agent"): (1, 0, 0, 10)}
    desk.check()


def test_what_a_lease_gives_back_was_not_spent() -> None:
    """What it reports is; and what nobody accounts for is spent when the lease is over."""
    desk = Desk(BudgetSpec(name="b", limits=LIMITS, max_ttl_ms=60_000))
    holder = Holder(desk)
    assert isinstance(holder.ask(hand(input_tokens=600)), Accept)
    permit = holder.take(input_tokens=500)
    assert permit is not None
    desk.advance(desk.now + 100)
    holder.renew()
    desk.advance(desk.now + 100)
    permit.end(input_tokens=400)
    holder.renew()
    assert bill(desk)["b", holder.principal][1] == 400
    desk.check()


def test_pages_do_not_move_and_the_book_has_an_end(monkeypatch: Any) -> None:
    """Entries stay where they were made; who is too many is counted with all others."""
    monkeypatch.setattr(spending, "PAGE", 2)
    monkeypatch.setattr(spending, "MAX_ENTRIES", 3)
    desk = Desk(MONEY)
    for number in range(5):
        spending.spend(desk.state, desk.state.budgets["b"], f"agent-{number}", (1, 0, 0, 0, 7, 0, 0))
    pages = [told(desk, offset) for offset in (0, 2)]
    assert [page.more for page in pages] == [True, False]
    names = [row.principal for page in pages for row in page.rows]
    assert names == ["agent-0", "agent-1", "agent-2", spending.OTHERS]
    assert pages[1].rows[-1].usd_micros == 14


steps = st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 9_000), st.booleans()), max_size=12)


@given(steps)
def test_the_bill_is_the_sum_of_what_was_told(calls: list[tuple[int, int, bool]]) -> None:
    """Whatever was reserved: of each call what its settlement said, and nothing of those that were never sent."""
    desk, paid = Desk(MONEY), 0
    for reserved, used, is_sent in calls:
        permit = desk.granted(usd_micros=reserved)
        if is_sent:
            desk.settle(permit, usd_micros=used)
            paid += used
        else:
            desk.cancel(permit)
    assert sum(row.usd_micros for row in told(desk).rows) == paid
    desk.check()
