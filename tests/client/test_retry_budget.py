"""The budget of retries, held against a count of what was granted when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.client.retry_budget import RetryBudget

STEP = st.tuples(st.sampled_from(["call", "retry", "late"]), st.integers(0, 3_000))


@pytest.mark.property
@given(st.lists(STEP, max_size=120), st.integers(0, 300), st.integers(0, 3))
def test_in_any_span_retries_cost_no_more_than_their_part_of_the_calls(
    steps: list[tuple[str, int]], permille: int, minimum: int
) -> None:
    """Of those calls, and of the tenth of a span before; plus the minimum."""
    budget = RetryBudget(permille / 1000, float(minimum), ttl=10.0)
    now, calls, costs = 0, [], []
    for what, pause in steps:
        now += pause
        if what == "call":
            budget.deposit(now)
            calls.append(now)
        elif budget.withdraw(now, after_timeout=what == "late"):
            costs.append((now, 2_000 if what == "late" else 1_000))
    for end, _ in costs:
        spent = sum(cost for at, cost in costs if end - 10_000 < at <= end)
        paid = permille * sum(end - 11_000 <= at <= end for at in calls)
        assert spent <= paid + minimum * 10 * 1_000


def test_a_call_puts_in_its_part_and_a_time_out_costs_twice() -> None:
    """Ten calls pay for two retries, or for one after a time-out."""
    budget = RetryBudget(0.2, 0.0)
    assert not budget.withdraw(0.0)
    for _ in range(10):
        budget.deposit(0.0)
    assert budget.balance(0.0) == 2.0
    assert budget.withdraw(1.0, after_timeout=True)
    assert not budget.withdraw(2.0)
    assert (budget.calls, budget.retries, budget.denied) == (10, 1, 2)


def test_who_calls_seldom_may_retry_all_the_same_and_a_quiet_hour_pays_for_no_burst() -> None:
    """The minimum is always there; what was not used is forgotten."""
    budget = RetryBudget(0.2, 0.1, ttl=10.0)
    assert budget.withdraw(0.0)
    assert not budget.withdraw(5_000.0)
    assert budget.withdraw(11_000.0)
    for _ in range(100):
        budget.deposit(11_000.0)
    assert budget.balance(3_600_000.0) == 1.0


@pytest.mark.parametrize("told", [(-0.1, 0.0, 10.0), (11.0, 0.0, 10.0), (0.2, -1.0, 10.0), (0.2, 1.0, 0.0)])
def test_what_makes_no_sense_is_refused(told: tuple[float, float, float]) -> None:
    """When it is made."""
    with pytest.raises(ValueError, match="retry budget"):
        RetryBudget(*told)
