"""Which of the six rules of admission is right, and why the five others are not."""

from __future__ import annotations

import pytest

import bursar_gpu_manager.bugs  # noqa: F401 - importing declares them
from bursar.kernel import bugs
from bursar_gpu_manager.admission_rules import RIGHT, RULES, Known, Picture, tally

SEEDS, STEPS = 60, 400


@pytest.mark.parametrize("name", [name for name in RULES if name not in (RIGHT, "free_less_leases")])
def test_a_rule_that_promises_the_same_memory_twice_is_caught(name: str) -> None:
    """Four of the six grant what is not there."""
    told = tally(RULES[name], SEEDS, STEPS)
    assert told.oversubscribed > told.grants // 20


def test_a_rule_that_counts_what_is_loaded_twice_refuses_what_fits() -> None:
    """It is safe, and of little use."""
    told = tally(RULES["free_less_leases"], SEEDS, STEPS)
    assert told.oversubscribed == 0
    assert told.needless > told.grants // 20


def test_the_sum_of_the_larger_of_grant_and_observed_and_what_is_foreign_is_right() -> None:
    """Nothing too much, nothing refused that fits; and it grants more than the other safe rule."""
    told = tally(RULES[RIGHT], SEEDS, STEPS)
    assert (told.oversubscribed, told.needless) == (0, 0)
    assert told.grants > tally(RULES["free_less_leases"], SEEDS, STEPS).grants


@pytest.mark.parametrize(
    ("card", "ask", "wrong"),
    [
        (Picture(8, 0, [Known(8, 0, False)]), 1, {"sampled_free", "free_less_newer"}),
        (Picture(8, 4, [Known(4, 4, False)]), 4, {"free_less_leases"}),
        (Picture(8, 1, [Known(6, 1, False)]), 3, {"sampled_free", "free_less_newer"}),
        (Picture(8, 6, []), 3, {"grants_only"}),
        (Picture(8, 4, [Known(4, 0, False)]), 2, {"sampled_free", "free_less_newer", "grants_only", "smaller_of_both"}),
        (Picture(8, 5, [Known(3, 5, False)]), 4, {"grants_only"}),
    ],
)
def test_one_moment_shows_the_mistake_of_each_rule(card: Picture, ask: int, wrong: set[str]) -> None:
    """Granted and not loaded; loaded; loading; a stranger; a stranger beside a lease; overuse."""
    right = RULES[RIGHT](card, ask)
    assert {name for name, rule in RULES.items() if rule(card, ask) is not right} == wrong


def test_the_model_judges_the_managers_own_functions() -> None:
    """A mistake in the manager's sum shows here."""
    card = Picture(8, 6, [Known(2, 6, False)])
    assert not RULES[RIGHT](card, 3)
    with bugs.switched_on("gpu_observed_ignored"):
        assert not RULES[RIGHT](Picture(8, 6, [Known(2, 2, False)]), 3)
        assert RULES[RIGHT](card, 3)
