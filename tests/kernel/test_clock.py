"""Time for deciders."""

from __future__ import annotations

import pytest

from bursar.kernel.clock import DeciderTime, ManualClock, SystemClock


def test_decider_time_goes_on_from_the_last_journaled_value() -> None:
    """By deltas of the monotonic clock; a reading from before the anchor counts as the anchor."""
    time = DeciderTime(5_000, anchor=70)
    assert time.at(70) == 5_000
    assert time.at(170) == 5_100
    assert time.at(3) == 5_000


def test_clocks_do_not_go_back() -> None:
    """The host's, and the one that tests move."""
    system = SystemClock()
    assert system.monotonic_ms() <= system.monotonic_ms()
    clock = ManualClock(7)
    clock.advance(3)
    assert clock.monotonic_ms() == 10
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
