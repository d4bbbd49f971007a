"""The second count of the judge's log agrees with the first, and sees what the judge would have let through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.demo.provider.windows import Kind, window_of
from bursar.demo.recheck import over_limit, used_after, used_at

LIMIT, WINDOW = 50, 100
KINDS: list[Kind] = ["clock", "rolling", "bucket"]
Histories = st.lists(st.tuples(st.integers(0, 60), st.integers(1, LIMIT)), max_size=60)


def in_time(history: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Gaps made into moments."""
    now, charges = 0, []
    for gap, units in history:
        now += gap
        charges.append((now, units))
    return charges


@pytest.mark.property
@pytest.mark.parametrize("kind", KINDS)
@given(history=Histories)
def test_what_the_judge_admits_is_never_over_the_limit(kind: Kind, history: list[tuple[int, int]]) -> None:
    """A log of a judge that refuses what does not fit passes the second count."""
    window = window_of(kind, LIMIT, WINDOW)
    admitted = []
    for at, units in in_time(history):
        if window.wait_ms(at, units) == 0:
            window.charge(at, units)
            admitted.append((at, units))
    assert over_limit(kind, admitted, LIMIT, WINDOW) == 0


@pytest.mark.property
@pytest.mark.parametrize("kind", KINDS)
@given(history=Histories)
def test_both_counts_agree_after_every_charge(kind: Kind, history: list[tuple[int, int]]) -> None:
    """Also for a judge that refuses nothing."""
    window = window_of(kind, LIMIT, WINDOW)
    charges = in_time(history)
    for (at, units), level in zip(charges, used_after(kind, charges, LIMIT, WINDOW), strict=True):
        window.charge(at, units)
        assert level <= window.used(at) < level + 1


@pytest.mark.parametrize(
    ("kind", "charges", "over"),
    [
        ("rolling", [(0, 50), (99, 1)], 1),
        ("rolling", [(0, 50), (100, 50)], 0),
        ("clock", [(0, 50), (99, 1), (100, 51)], 2),
        ("clock", [(99, 50), (100, 50)], 0),
        ("bucket", [(0, 50), (10, 6)], 1),
        ("bucket", [(0, 50), (10, 5)], 0),
    ],
)
def test_a_window_over_its_limit_is_found(kind: Kind, charges: list[tuple[int, int]], over: int) -> None:
    """One unit too many is seen, none too many is not."""
    assert over_limit(kind, charges, LIMIT, WINDOW) == over


def test_use_is_read_at_any_moment() -> None:
    """Before, in and after the window of a charge."""
    assert used_at("rolling", [(100, 30)], [50, 100, 199, 200], LIMIT, WINDOW) == [0, 30, 30, 0]
    assert used_at("bucket", [(100, 30)], [100, 120, 200], LIMIT, WINDOW) == [30, 20, 0]
