"""The benchmark of the probes' pace can see what it is about."""

from __future__ import annotations

from bench.monitor_sampling import run
from bursar.kernel import bugs
from bursar_monitor.bugs import BOUND_OVERLOOKED


def test_no_event_is_missed_and_samples_are_saved() -> None:
    """And a pace that overlooks bounds is found out."""
    figures = run(4, 900)
    assert figures["missed_slo_events"] == 0
    assert figures["slo_events"] > 20
    assert figures["samples_saved_share"] > 0.3
    with bugs.switched_on(BOUND_OVERLOOKED):
        assert run(4, 900)["missed_slo_events"] > 0
