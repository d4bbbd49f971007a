"""A test must be able to fail: each known mistake of the breaker is switched on, and a check must object."""

from __future__ import annotations

import pytest

from bursar.kernel import bugs
from bursar_breaker import bugs as names
from tests.breaker import test_probing, test_tripping, test_window
from tests.simulation.run import WORKLOADS
from tests.simulation.simulator import Violation
from tests.simulation.world import History

pytestmark = pytest.mark.simulation

MOST_SEEDS = 120


def is_caught_by_histories(bug: str, words: str) -> bool:
    """Whether, with the bug in place, some simulated history breaks a promise in these words."""
    with bugs.switched_on(bug):
        for seed in range(MOST_SEEDS):
            try:
                History(seed, WORKLOADS["breaker"]).play()
            except Violation as violation:
                if words in str(violation):
                    return True
    return False


def test_seeded_bug_breaker_probe_over_k_is_caught() -> None:
    """One probe more than k is seen by whoever counts those under way by true time."""
    assert is_caught_by_histories(names.PROBE_OVER_K, "permits for")


def test_seeded_bug_breaker_revision_skipped_is_caught() -> None:
    """A revision left out would make every client ask for everything."""
    assert is_caught_by_histories(names.REVISION_SKIPPED, "revision")


def test_seeded_bug_breaker_stale_generation_accepted_is_caught() -> None:
    """The result of a probe from before a reset must not move what came after."""
    assert is_caught_by_histories(names.STALE_ACCEPTED, "no probe")


def test_seeded_bug_breaker_evidence_moves_a_forced_circuit_is_caught() -> None:
    """What operators have forced moves by orders only."""
    assert is_caught_by_histories(names.FORCED_TRIPS, "forced")


def test_seeded_bug_breaker_dead_prober_keeps_its_probe_is_caught() -> None:
    """A circuit whose prober has died must not stay half-open for ever."""
    with bugs.switched_on(names.LEASE_NEVER_ENDS), pytest.raises(AssertionError):
        test_probing.test_a_dead_probers_permit_is_taken_over()


def test_seeded_bug_breaker_single_reporter_trips_is_caught() -> None:
    """One reporter that fails among others that do not."""
    with bugs.switched_on(names.SINGLE_TRIPS), pytest.raises(AssertionError):
        test_tripping.test_one_bad_reporter_trips_nothing_while_another_succeeds()


def test_seeded_bug_breaker_later_deadline_lost_is_caught() -> None:
    """The first, shorter time must not stand."""
    with bugs.switched_on(names.DEADLINE_LOST), pytest.raises(AssertionError):
        test_tripping.test_the_later_deadline_wins()


def test_seeded_bug_breaker_429_counts_as_failure_is_caught() -> None:
    """A quota that is used up must not take the provider away from everybody."""
    with bugs.switched_on(names.QUOTA_IS_FAILURE), pytest.raises(AssertionError):
        test_tripping.test_quota_and_cancelled_calls_do_not_trip("rate_limited")


def test_seeded_bug_breaker_window_keeps_a_bucket_too_long_is_caught() -> None:
    """The window against the list of all reports."""
    with bugs.switched_on(names.BUCKET_STAYS), pytest.raises((AssertionError, ExceptionGroup)):
        test_window.test_sums_and_voices_are_those_of_the_reports_within_the_window()


def test_every_seeded_bug_has_its_test() -> None:
    """None of the known mistakes goes without the test that shows that it is seen."""
    for name in names.NAMES:
        assert f"test_seeded_bug_{name}_is_caught" in globals(), name
