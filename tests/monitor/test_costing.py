"""The bill: names for sums that others have counted, and what they are less than they might have been."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts.limiter_control import Spent
from bursar.contracts.monitor_costs import Costing, Price
from bursar.contracts.monitor_scaling import Policy
from bursar.contracts.scheduler_explain import SlotsSpent
from bursar_monitor.costing import LIMITER_BOOK, SCHEDULER_BOOK, bill_of, savings, split
from bursar_monitor.observing import Polled
from bursar_monitor.operating import LoadRules
from bursar_monitor.rules import BadRules, policy_of
from tests.monitor.fleet import Desk

LARGE = Price(name="large", budgets="openai/*", model="gpt", input_micros=2_000_000, output_micros=10_000_000)
SMALL = Price(name="small", budgets="small", input_micros=100_000, output_micros=400_000)
COSTS = Costing(
    prices=(LARGE, SMALL), reference="large", gpu_slot_hour_micros=3_600_000, cpu_slot_hour_micros=None,
    spot_discount_permille=750,
)  # fmt: skip


def call(budget: str, principal: str, money: int = 0, tokens: tuple[int, int] = (0, 0), **more: Any) -> Spent:
    tokens_in, tokens_out = tokens
    return Spent(
        budget=budget, principal=principal, requests=1, input_tokens=tokens_in, output_tokens=tokens_out,
        usd_micros=money, **more,
    )  # fmt: skip


def slots(worker: str, agent: str, task_class: str, ms: int, money: int = 0, **more: Any) -> SlotsSpent:
    told = {"team": "", "kind": "gpu", "preemptible": False, "attempts": 1, **more}
    return SlotsSpent(worker=worker, agent=agent, task_class=task_class, slot_ms=ms, usd_micros=money, **told)


def sums(bill: Any) -> dict[tuple[str, ...], int | None]:
    return {key: item.micros for key, item in bill.items()}


def test_what_was_settled_counts_and_else_the_tokens_at_their_price() -> None:
    """What has no price is not known. The model is that of the price, the team that of the budget above."""
    calls = [
        call("openai/gpt", "ann", money=70, tokens=(9, 9), parent="red"),
        call("openai/gpt", "bob", tokens=(1_000, 100), parent="red"),
        call("other", "bob", tokens=(1, 1)),
    ]
    bill = bill_of(COSTS, calls, [])
    assert sums(bill) == {
        ("ann", "red", "gpt", "", "api"): 70,
        ("bob", "red", "gpt", "", "api"): 3_000,
        ("bob", "", "other", "", "api"): None,
    }
    assert [item.by for item in bill.values()] == ["settled", "prices", "unknown"]


def test_a_slot_costs_what_its_worker_said_and_else_the_rate_of_its_kind() -> None:
    """Less the discount where its host may be taken away; a kind without a rate is not known."""
    used = [
        slots("w1", "ann", "embed", 1_000, money=500),
        slots("w2", "ann", "embed", 4_000),
        slots("w3", "ann", "chat", 4_000, preemptible=True),
        slots("w4", "bob", "sort", 4_000, kind="cpu"),
    ]
    assert sums(bill_of(COSTS, [], used)) == {
        ("ann", "", "", "embed", "slots"): 4_500,
        ("ann", "", "", "chat", "slots"): 1_000,
        ("bob", "", "", "sort", "slots"): None,
    }


def test_what_a_worker_calls_for_is_told_to_those_whose_tasks_it_ran() -> None:
    """By the time of its slots that each had; the budget's team where the submitter has none."""
    used = [
        slots("w1", "ann", "sum", 3_000, kind="remote", team="blue"),
        slots("w1", "bob", "sum", 1_000, kind="remote"),
    ]
    bill = bill_of(COSTS, [call("openai/gpt", "w1", money=1_001, parent="red")], used)
    assert sums(bill) == {
        ("ann", "blue", "", "sum", "slots"): 0,
        ("bob", "", "", "sum", "slots"): 0,
        ("ann", "blue", "gpt", "sum", "api"): 751,
        ("bob", "red", "gpt", "sum", "api"): 250,
    }
    assert all(item.shared for key, item in bill.items() if key[4] == "api")


@pytest.mark.property
@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), min_size=1, max_size=9).filter(any))
def test_a_sum_that_is_split_stays_the_same_sum(amount: int, weights: list[int]) -> None:
    """No micro-dollar is lost or made; who has no part pays nothing."""
    parts = split(amount, weights)
    assert sum(parts) == amount
    assert all(part >= 0 for part in parts)
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if not weight)


def saved(costs: Costing, calls: list[Spent], used: list[SlotsSpent]) -> dict[str, dict[str, Any]]:
    return {row["saving"]: row for row in savings(costs, bill_of(costs, calls, used), used)}


def test_savings_are_differences_to_another_way_and_say_which() -> None:
    """One model for all calls; calls instead of own slots, for classes that ran both ways; hosts that stay."""
    calls = [call("small", "ann", tokens=(1_000_000, 0)), call("openai/gpt", "far", money=900)]
    used = [
        slots("w1", "ann", "sum", 2_000, money=100, attempts=4, preemptible=True),
        slots("far", "ann", "sum", 5_000, kind="remote", attempts=3),
        slots("w1", "ann", "only-here", 1_000, money=10, attempts=9),
    ]
    found = saved(COSTS, calls, used)
    assert (found["models"]["actual"], found["models"]["counterfactual"]) == (100_900, 2_000_000)
    assert (found["own slots"]["actual"], found["own slots"]["counterfactual"]) == (100, 1_200)
    assert found["own slots"]["usd_micros"] == 1_100
    assert (found["spot"]["actual"], found["spot"]["counterfactual"]) == (100, 400)
    assert "gpt for every call" in found["models"]["text"]
    assert "4 runs on own slots, each at what one of the 3 runs" in found["own slots"]["text"]
    assert "75 % cheaper" in found["spot"]["text"]


def test_what_cannot_be_compared_says_so() -> None:
    """Without prices there is no saving, and not one of 0."""
    no_price = Costing(prices=(Price(name="large", budgets="*"),), reference="large")
    assert saved(no_price, [call("b", "ann", money=5, tokens=(1, 1))], [])["models"]["usd_micros"] is None
    found = saved(no_price, [], [slots("w1", "ann", "sum", 2_000, preemptible=True)])
    assert (found["spot"]["usd_micros"], found["models"]["usd_micros"]) == (None, None)
    assert saved(Costing(), [], []) == {}


def test_the_picture_has_the_bill_with_its_age_and_the_dearest_first() -> None:
    """What a book said last stays when its service is silent; other prices make another bill at once."""
    desk = Desk()
    desk.observe(LoadRules(policy=Policy(costs=COSTS)))
    assert desk.status(only="costs").costs == []
    desk.observe(Polled(LIMITER_BOOK, {"spent": [call("openai/gpt", "ann", 7), call("openai/gpt", "bob", 9)]}))
    desk.observe(Polled(SCHEDULER_BOOK, {"spent": [slots("w1", "ann", "sum", 3_000, 8)]}))
    desk.observe(Polled(LIMITER_BOOK, None))
    rows = desk.status(only="costs").costs
    assert [(row.agent, row.usd_micros) for row in rows] == [("bob", 9), ("ann", 8), ("ann", 7)]
    assert [row.saving for row in desk.status(only="savings").savings] == ["models"]
    assert all(row.age_ms is not None for row in rows)


def test_prices_stand_in_the_file_of_rules() -> None:
    """In dollars; what is wrong is named with its place."""
    document = {
        "costs": {
            "reference": "large", "gpu_slot_hour": "$0.80", "spot_discount": "65%", "spot_lost": "5m",
            "prices": {"large": {"budgets": "openai/*", "input": "$2.50", "output": "$10"}},
        }
    }  # fmt: skip
    costs = policy_of(document, "f").costs
    assert (costs.gpu_slot_hour_micros, costs.spot_lost_s, costs.prices[0].input_micros) == (800_000, 300, 2_500_000)
    for wrong, said in (
        ({"reference": "none"}, "no price none"),
        ({"gpu_slot_hour": "80"}, "money such as"),
        ({"prices": {"p": {"budgets": "b", "input": "$0.0000001"}}}, "millionths"),
        ({"prices": 3}, "stand in tables"),
        (3, "must be a table"),
    ):
        with pytest.raises(BadRules, match=said):
            policy_of({"costs": wrong}, "f")
