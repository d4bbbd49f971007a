"""The arithmetic of the HorizontalPodAutoscaler, against the examples that Kubernetes publishes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts.monitor_scaling import DOWN_STEPS, UP_STEPS, StepPolicy
from bursar_monitor.hpa import Change, Recommended, for_total, for_values, largest, limited, stabilised

SECOND = 1_000


def test_the_examples_of_the_documentation() -> None:
    """ "If the current metric value is 200m and the desired value is 100m, the number of replicas will be doubled"; 50m
    halves it; within a tenth nothing is done."""
    assert for_values([200] * 4, 100, 100) == 8
    assert for_values([50] * 4, 100, 100) == 2
    assert for_values([110] * 10, 100, 100) == 10
    assert for_values([90] * 10, 100, 100) == 10
    assert for_values([111] * 10, 100, 100) == 12
    assert for_values([89] * 10, 100, 100) == 9
    assert for_values([61, 61, 60], 50, 100) == 4, "ceil(3 * 60.67 / 50)"


def test_replicas_of_which_nothing_is_known_are_taken_conservatively() -> None:
    """As idle when some would be added, as exactly busy enough when some would be taken away; never in the other
    direction because of them."""
    assert for_values([200, 200, None], 100, 100) == 4, "not 6: the third may be idle"
    assert for_values([120, None, None], 100, 100) == 3, "with the idle ones it would be fewer: stay"
    assert for_values([50, 50, None], 100, 100) == 2, "(50 + 50 + 100) / 100"
    assert for_values([95, None], 100, 100) == 2
    assert for_values([None, None], 100, 100) is None
    assert for_values([], 100, 100) is None


def test_a_metric_that_all_share_is_divided() -> None:
    """Average value: so many for each, rounded up."""
    assert for_total(30, 10, 2, 100) == 3
    assert for_total(31, 10, 2, 100) == 4
    assert for_total(32, 10, 3, 100) == 3, "within the tolerance"
    assert for_total(0, 10, 3, 100) == 0
    assert for_total(7, 10, 0, 100) == 1


def test_the_largest_proposal_counts_and_ignorance_takes_nothing_away() -> None:
    """Several metrics; one that cannot be read forbids to scale down, not up."""
    assert largest(5, [3, 7, 4]) == 7
    assert largest(5, [3, None]) == 5
    assert largest(5, [8, None]) == 8
    assert largest(5, [None]) is None
    assert largest(5, []) is None


def test_a_fall_is_held_by_what_was_wanted_within_the_window() -> None:
    """Five minutes by default; a rise is not held unless a window is set."""
    past = [Recommended(0, 10), Recommended(200 * SECOND, 7)]
    assert stabilised(10, 3, past, 299 * SECOND, 0, 300) == 10
    assert stabilised(10, 3, past, 300 * SECOND, 0, 300) == 7
    assert stabilised(10, 3, past, 500 * SECOND, 0, 300) == 3
    assert stabilised(10, 40, past, 299 * SECOND, 0, 300) == 40
    assert stabilised(5, 40, past, 250 * SECOND, 60, 300) == 7, "everything in the last minute wants at least 7"


def down_from(start: int, to: int, steps: tuple[StepPolicy, ...]) -> list[int]:
    """The numbers, a period after another."""
    found, now, changes = [start], 0, list[Change]()
    while found[-1] > to:
        now += 60 * SECOND
        replicas = limited(found[-1], to, changes, now, (), steps)
        changes.append(Change(now, replicas - found[-1]))
        found.append(replicas)
    return found


def test_the_published_example_of_steps() -> None:
    """ "If there are 80 replicas and the target has to be scaled down to 10, then during the first step 8 replicas will
    be reduced. In the next iteration when the number is 72, 10 % is 7.2 but the number is rounded up to 8 ... when it
    falls below 40 ... 4 replicas will be reduced at a time"."""
    steps = (StepPolicy(unit="replicas", value=4, period_s=60), StepPolicy(unit="percent", value=10, period_s=60))
    found = down_from(80, 10, steps)
    assert found[:3] == [80, 72, 64]
    falls = [before - after for before, after in pairwise(found)]
    assert all(fall == 4 for fall, before in zip(falls, found, strict=False) if before < 40 and fall != before - 10)
    assert found[-1] == 10


def test_the_default_steps_double_or_add_four_and_may_drop_all() -> None:
    """100 % or 4 in 15 s upwards, 100 % in 15 s downwards; within a period no more."""
    assert limited(10, 100, [], 0, UP_STEPS, DOWN_STEPS) == 20
    assert limited(2, 100, [], 0, UP_STEPS, DOWN_STEPS) == 6
    assert limited(20, 100, [Change(0, 10)], 14 * SECOND, UP_STEPS, DOWN_STEPS) == 20
    assert limited(20, 100, [Change(0, 10)], 15 * SECOND, UP_STEPS, DOWN_STEPS) == 40
    assert limited(100, 1, [], 0, UP_STEPS, DOWN_STEPS) == 1
    assert limited(5, 5, [], 0, UP_STEPS, DOWN_STEPS) == 5
    assert limited(5, 50, [], 0, (), ()) == 50


values = st.lists(st.one_of(st.none(), st.integers(0, 2_000)), max_size=30)


@pytest.mark.property
@given(values, st.integers(1, 1_000), st.integers(0, 300))
def test_what_is_not_known_never_makes_the_answer_bolder(found: list[int | None], target: int, tolerance: int) -> None:
    """With unknown replicas the number lies between the present one and what the known ones alone would give."""
    answer = for_values(found, target, tolerance)
    known = [value for value in found if value is not None]
    if answer is None:
        assert not known
        return
    count = len(found)
    alone = -(-sum(known) * count // (target * len(known)))
    assert min(count, alone) <= answer <= max(count, alone)


@pytest.mark.property
@given(
    st.integers(0, 200),
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 200)), max_size=12),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_windows_never_turn_the_direction(
    current: int, desired: int, past: list[tuple[int, int]], up: int, down: int
) -> None:
    """A rise stays one or is held, a fall likewise."""
    recommended = [Recommended(at * SECOND, number) for at, number in past]
    held = stabilised(current, desired, recommended, 400 * SECOND, up, down)
    in_down = [number for at, number in past if 400 - at < down]
    assert held <= max(current, desired, *in_down, 0)
    assert held >= min(current, desired)
