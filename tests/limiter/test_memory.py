"""What a budget takes at the authority."""

from __future__ import annotations

import gc
import tracemalloc

from bursar.contracts.limiter import Amounts, BudgetSpec, ChildSpec, LimitSpec, Reserve
from bursar_limiter.budget import Budget
from bursar_limiter.tree import MAX_MADE
from tests.limiter.fleet import Desk

COUNT = 1_000


def five(number: int = 0) -> BudgetSpec:
    """Five dimensions, and limits that no other budget has."""

    def rate(limit: int, window_ms: int = 60_000) -> LimitSpec:
        return LimitSpec(limit=limit + number, window_ms=window_ms)

    return BudgetSpec(
        name=f"org/team-{number}",
        limits={
            "requests": rate(4_000),
            "input_tokens": rate(2_000_000),
            "output_tokens": LimitSpec(limit=400_000 + number, window_ms=60_000, charge="production"),
            "concurrent": LimitSpec(limit=200 + number, window_ms=0),
            "usd_micros": rate(10_000_000, 86_400_000),
        },
    )


def each(specs: list[BudgetSpec]) -> float:
    for spec in specs:  # what budgets with the same limits share is there before
        Budget(spec, {})
    made: list[Budget | None] = [None] * len(specs)
    live: dict[str, object] = {}
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number, spec in enumerate(specs):
        made[number] = Budget(spec, live)  # type: ignore[arg-type]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(specs)


def test_a_budget_of_five_dimensions_takes_no_more_than_1600_bytes() -> None:
    """At rest; in use a ledger has 16 bytes more for every grain (one in 512 of the window) with a grant in it."""
    assert each([five()] * COUNT) <= 1_600
    assert each([five(number) for number in range(COUNT)]) <= 1_600


def test_agents_that_come_and_go_leave_no_budget_behind() -> None:
    """What was made for them is dropped when nothing in it counts any more."""
    team = BudgetSpec(
        name="team",
        limits={"concurrent": LimitSpec(limit=50, window_ms=0)},
        jitter_ms=0,
        each_agent=ChildSpec(limits={"requests": LimitSpec(limit=10, window_ms=1_000, paced=False)}),
    )
    desk = Desk(team)
    for number in range(1_000):
        desk.advance(desk.now + 100)
        body = Reserve(id=f"r-{number}", budget="team", amounts=Amounts())
        desk.settle(desk.must(body, f"agent-{number}")["reservation"], f"agent-{number}", requests=1)
    assert len(desk.state.budgets) < 200 < MAX_MADE
    assert desk.state.budgets["team"].made == len(desk.state.budgets) - 1
    desk.check()
