"""Samples that are lost, repeated and out of order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_monitor.samples import BOOTS, LATE, NEW, REPEATED, WINDOW, HostView, Seen
from tests.monitor.fleet import BOOT, full, sample


def rates(view: HostView) -> tuple[int | None, int | None, int | None]:
    return view.rates


def test_each_number_counts_once() -> None:
    """New, late and repeated are told apart, also far behind."""
    seen = Seen()
    assert [seen.take(seq) for seq in (3, 3, 5, 4, 4, 5, 3)] == [NEW, REPEATED, NEW, LATE, REPEATED, REPEATED, REPEATED]
    assert (seen.count, seen.missed) == (3, 0)
    assert seen.take(5 + WINDOW) == NEW
    assert seen.take(5) == REPEATED  # behind the window: may have been seen
    assert seen.take(6) == LATE


@pytest.mark.property
@given(st.lists(st.integers(min_value=1, max_value=40), max_size=200))
def test_counted_samples_are_those_that_came(numbers: list[int]) -> None:
    """Whatever the order and the repetitions: as many are counted as are different, and the gaps are what is missed."""
    seen = Seen()
    kinds = [seen.take(number) for number in numbers]
    assert seen.count == len(set(numbers))
    assert kinds.count(REPEATED) == len(numbers) - len(set(numbers))
    if numbers:
        assert seen.missed == max(numbers) - min(numbers) + 1 - len(set(numbers))


def test_late_and_repeated_samples_do_not_turn_the_picture_back() -> None:
    """Only a newer sample says anything about now, and only it makes the host look alive."""
    view = HostView("alpha", 0)
    assert view.take(sample(2, cpu=200), 1_000)
    assert not view.take(sample(1, cpu=100), 2_000)
    assert not view.take(sample(2, cpu=200), 3_000)
    assert view.sample is not None
    assert view.sample.seq == 2
    assert (view.heard_at, view.samples, view.late, view.repeated, view.missed) == (1_000, 2, 1, 1, 0)


def test_a_sample_of_an_earlier_boot_is_late() -> None:
    """After a restart of the probe its earlier samples do not come back, and the new ones count from one."""
    view = HostView("alpha", 0)
    view.take(sample(7), 0)
    assert view.take(sample(1, boot="00000000000000bb"), 1_000)
    assert not view.take(sample(6), 2_000)
    assert view.sample is not None
    assert view.sample.boot == "00000000000000bb"


def test_few_boots_are_remembered() -> None:
    """A probe that restarts for ever costs no memory, and what was missed stays counted."""
    view = HostView("alpha", 0)
    for number in range(3 * BOOTS):
        boot = f"{number:016x}"
        view.take(sample(1, boot=boot), 0)
        view.take(sample(3, boot=boot), 0)
    assert len(view.seen) == BOOTS
    assert view.missed == 3 * BOOTS


def test_rates_are_over_the_time_between_two_samples() -> None:
    """Bytes per second, also over a gap; None for the first, across a restart, and when a counter went back."""
    view = HostView("alpha", 0)
    view.take(full(1, uptime_ms=1_000), 0)
    assert rates(view) == (None, None, None)
    view.take(full(5, uptime_ms=3_000), 0)
    assert rates(view) == (12_000, 4_000, 6_000)
    view.take(sample(6, uptime_ms=4_000), 0)
    assert rates(view) == (None, None, None)
    view.take(full(7, uptime_ms=5_000), 0)
    view.take(full(8, uptime_ms=6_000).model_copy(update={"network": full(1).network}), 0)
    assert rates(view) == (6_000, None, None)
    view.take(full(9, uptime_ms=7_000).model_copy(update={"boot": "0" * 16}), 0)
    assert rates(view) == (None, None, None)


def test_devices_that_stop_answering_are_known() -> None:
    """A device is known since its first answer, whether it is then called lost or is missing."""
    view = HostView("alpha", 0)
    view.take(full(1), 10)
    assert view.gpus == {"GPU-1": 10}
    view.take(sample(2), 20)
    gone = full(3).gpus[0].model_copy(update={"lost": True})
    view.take(sample(3, gpus=(gone, gone.model_copy(update={"uuid": None, "index": 4}))), 30)
    assert view.gpus == {"GPU-1": 10, "gpu4": 0}
    assert BOOT in view.seen
