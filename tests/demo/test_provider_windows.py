"""Each kind of window against the plainest possible count of the same history, with a clock of the test."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.demo.provider.windows import ClockWindow, Kind, RollingWindow, TokenBucket, window_of

WINDOW = 100
LIMIT = 50
Histories = st.lists(st.tuples(st.integers(0, 90), st.integers(1, LIMIT)), max_size=60)


def used_by_count(kind: Kind, admitted: list[tuple[int, int]], now: int) -> int:
    """What the kind's definition says is used, from the whole history."""
    if kind == "clock":
        return sum(units for at, units in admitted if at // WINDOW == now // WINDOW)
    if kind == "rolling":
        return sum(units for at, units in admitted if now - WINDOW < at <= now)
    level, last = Fraction(LIMIT), 0
    for at, units in [*admitted, (now, 0)]:
        level = min(Fraction(LIMIT), level + Fraction(LIMIT * (at - last), WINDOW)) - units
        last = at
    return -((level - LIMIT) // 1)


@pytest.mark.property
@pytest.mark.parametrize("kind", ["clock", "rolling", "bucket"])
@given(history=Histories)
def test_window_admits_exactly_what_its_definition_allows(kind: Kind, history: list[tuple[int, int]]) -> None:
    """A charge fits if and only if the use by definition plus the charge stays within the limit."""
    window = window_of(kind, LIMIT, WINDOW)
    admitted: list[tuple[int, int]] = []
    now = 0
    for gap, units in history:
        now += gap
        used = used_by_count(kind, admitted, now)
        assert window.used(now) == used
        fits = window.wait_ms(now, units) == 0
        assert fits == (used + units <= LIMIT)
        if fits:
            window.charge(now, units)
            admitted.append((now, units))


@pytest.mark.property
@pytest.mark.parametrize("kind", ["clock", "rolling", "bucket"])
@given(history=Histories)
def test_wait_is_true_and_not_a_millisecond_too_long(kind: Kind, history: list[tuple[int, int]]) -> None:
    """After the wait the charge fits; one millisecond earlier it did not."""
    admitted: list[tuple[int, int]] = []
    window = window_of(kind, LIMIT, WINDOW)
    now = 0
    for gap, units in history:
        now += gap
        wait = window.wait_ms(now, units)
        assert wait is not None
        if wait == 0:
            window.charge(now, units)
            admitted.append((now, units))
            continue
        assert used_by_count(kind, admitted, now + wait) + units <= LIMIT
        assert used_by_count(kind, admitted, now + wait - 1) + units > LIMIT


@pytest.mark.parametrize("kind", ["clock", "rolling", "bucket"])
def test_charge_above_the_limit_never_fits(kind: Kind) -> None:
    """None, not a time, for what no waiting helps."""
    assert window_of(kind, LIMIT, WINDOW).wait_ms(0, LIMIT + 1) is None


def test_clock_window_starts_again_at_the_boundary() -> None:
    """All of the limit right before the boundary and all of it right after: a clock window allows both."""
    window = ClockWindow(LIMIT, WINDOW)
    window.charge(99, LIMIT)
    assert window.wait_ms(99, 1) == 1
    assert window.wait_ms(100, LIMIT) == 0


def test_rolling_window_forgets_a_charge_after_its_length() -> None:
    """A charge counts for exactly the window's length."""
    window = RollingWindow(LIMIT, WINDOW)
    window.charge(10, LIMIT)
    assert window.used(109) == LIMIT
    assert window.used(110) == 0


def test_bucket_refills_evenly_and_is_never_fuller_than_full() -> None:
    """Half of the window gives half of the limit."""
    bucket = TokenBucket(LIMIT, WINDOW)
    bucket.charge(0, LIMIT)
    assert bucket.wait_ms(0, 25) == 50
    assert bucket.used(50) == 25
    assert bucket.used(100_000) == 0
    assert bucket.reset_ms(100_000) == 0


@pytest.mark.parametrize("kind", ["clock", "rolling", "bucket"])
def test_reset_says_when_everything_is_free_again(kind: Kind) -> None:
    """At the reset nothing is used; one millisecond earlier something is."""
    window = window_of(kind, LIMIT, WINDOW)
    window.charge(30, 20)
    reset = window.reset_ms(40)
    assert window_after(kind, 40 + reset - 1) > 0
    assert window_after(kind, 40 + reset) == 0


def window_after(kind: Kind, now: int) -> int:
    return used_by_count(kind, [(30, 20)], now)
