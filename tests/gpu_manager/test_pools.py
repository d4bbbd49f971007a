"""Classes of memory and fragmentation."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_gpu_manager.pools import (
    CLASSES,
    EMERGENCY,
    LARGE,
    MEDIUM,
    PLAN_ABOVE,
    SMALL,
    class_of,
    demanded_class,
    fragmentation,
    internal_waste,
    phi,
    usable,
)

GIB = 1 << 30
GOLDEN = {"a": 7 * GIB // 2, "b": 5 * GIB, "c": 9 * GIB}


def test_the_golden_case_is_to_be_planned_for() -> None:
    """3.5, 5 and 9 GiB free at the 4 GiB class: 1 - 12 / 17.5 = 0.314, above 0.15."""
    told = fragmentation(GOLDEN)
    assert told.fleet[LARGE] == 1 - Fraction(12 * 2, 35)
    assert round(float(told.fleet[LARGE]), 3) == 0.314
    assert told.needs_plan


def test_classes_and_devices_are_told_apart() -> None:
    """At 1 GiB only the half GiB is lost; at 256 MiB nothing; a device that is too small for a class loses all."""
    told = fragmentation(GOLDEN)
    assert told.fleet[MEDIUM] == Fraction(1, 35)
    assert told.fleet[SMALL] == 0
    assert told.devices["a"] == {SMALL: 0, MEDIUM: Fraction(1, 7), LARGE: 1}
    assert told.devices["c"][LARGE] == Fraction(1, 9)


def test_the_classes_are_those_of_the_design() -> None:
    """256 MiB, 1 GiB, 4 GiB, and 512 MiB for emergencies."""
    assert CLASSES == (256 << 20, 1 << 30, 4 << 30)
    assert EMERGENCY == 512 << 20
    assert Fraction(15, 100) == PLAN_ABOVE


@pytest.mark.parametrize(
    ("memory", "size"),
    [(1, SMALL), (SMALL, SMALL), (GIB - 1, SMALL), (GIB, MEDIUM), (4 * GIB - 1, MEDIUM), (4 * GIB, LARGE),
     (80 * GIB, LARGE)],
)  # fmt: skip
def test_a_request_counts_to_the_largest_class_not_above_it(memory: int, size: int) -> None:
    """And what is below all to the smallest."""
    assert class_of(memory) == size


def test_the_class_that_asked_for_most_is_looked_at() -> None:
    """Bytes count, not requests; without demand the largest."""
    assert demanded_class([GIB] * 5 + [4 * GIB]) == MEDIUM
    assert demanded_class([SMALL] * 5 + [4 * GIB]) == LARGE
    assert demanded_class([]) == LARGE
    assert fragmentation(GOLDEN, [SMALL]).needs_plan is False


def test_nothing_free_is_not_fragmented() -> None:
    """And what is overdrawn is not negative."""
    assert phi([], LARGE) == phi([0, 0], LARGE) == 0
    assert phi([-GIB, 4 * GIB], LARGE) == 0
    assert usable(-1, LARGE) == 0
    assert internal_waste(0, 0) == 0
    assert internal_waste(3, 4) == Fraction(1, 4)


@given(st.lists(st.integers(-(2**20), 2**38), max_size=8), st.sampled_from(CLASSES))
@pytest.mark.property
def test_fragmentation_is_a_part_and_grows_with_the_class(free: list[int], size: int) -> None:
    """Between 0 and 1; a class that divides another never loses more than it."""
    assert 0 <= phi(free, size) <= 1
    assert phi(free, SMALL) <= phi(free, MEDIUM) <= phi(free, LARGE)
