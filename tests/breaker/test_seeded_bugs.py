"""A test must be able to fail: each known mistake of the breaker is switched on, and a check must object."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from bursar.contracts.breaker import ForceOpen
from bursar.kernel import bugs
from bursar_breaker import bugs as names
from tests.breaker import (
    test_counting,
    test_crowd,
    test_hierarchy,
    test_liars,
    test_machine,
    test_orders,
    test_probing,
    test_pulse,
    test_ramping,
    test_recovery,
    test_stopping,
    test_tripping,
    test_window,
)
from tests.simulation.run import WORKLOADS
from tests.simulation.simulator import Violation
from tests.simulation.world import History

pytestmark = pytest.mark.simulation

MOST_SEEDS = 60
BY_THE_MODEL = (
    names.DEADLINE_LOST,
    names.REVISION_SKIPPED,
    names.FORCED_TRIPS,
    names.AUTH_SPREADS,
    names.CHILD_TRIPS,
    names.RAMP_SKIPPED,
    names.RELAPSE_IGNORED,
    names.ORDER_NEVER_ENDS,
    names.DISABLED_COUNTS,
    names.STOPPED_UNHEARD,
)


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
    with bugs.switched_on(names.STALE_ACCEPTED), pytest.raises(AssertionError):
        test_probing.test_a_result_of_an_earlier_generation_is_stale()


def test_seeded_bug_breaker_evidence_moves_a_forced_circuit_is_caught() -> None:
    """What operators have forced moves by orders only."""
    assert is_caught_by_histories(names.FORCED_TRIPS, "forced")


def test_seeded_bug_breaker_dead_prober_keeps_its_probe_is_caught() -> None:
    """A circuit whose prober has died must not stay half-open for ever."""
    with bugs.switched_on(names.LEASE_NEVER_ENDS), pytest.raises(AssertionError):
        test_probing.test_a_dead_probers_permit_is_taken_over()


def test_seeded_bug_breaker_freed_permit_is_not_told_is_caught() -> None:
    """Whoever waits for a permit would guess, or wait for the next pulse."""
    with bugs.switched_on(names.FREED_UNTOLD), pytest.raises(AssertionError):
        test_pulse.test_a_permit_that_comes_back_is_told_at_once()


def test_seeded_bug_breaker_single_reporter_trips_is_caught() -> None:
    """One reporter that fails among others that do not."""
    with bugs.switched_on(names.SINGLE_TRIPS), pytest.raises(AssertionError):
        test_tripping.test_one_bad_reporter_trips_nothing_while_another_succeeds()


def test_seeded_bug_breaker_dissenter_is_not_excluded_is_caught() -> None:
    """One that reports a hundred thousand successes of a dead target."""
    with bugs.switched_on(names.LIAR_COUNTS), pytest.raises(AssertionError):
        test_liars.test_one_who_says_that_all_is_well_does_not_bury_the_others()


def test_seeded_bug_breaker_later_deadline_lost_is_caught() -> None:
    """The first, shorter time must not stand."""
    with bugs.switched_on(names.DEADLINE_LOST), pytest.raises(AssertionError):
        test_tripping.test_the_later_deadline_wins()


def test_seeded_bug_breaker_429_counts_as_failure_is_caught() -> None:
    """A quota that is used up must not take the provider away from everybody."""
    with bugs.switched_on(names.QUOTA_IS_FAILURE), pytest.raises(AssertionError):
        test_tripping.test_quota_and_cancelled_calls_do_not_trip("rate_limited")


def test_seeded_bug_breaker_rate_is_judged_below_the_minimum_is_caught() -> None:
    """Three calls are no rate."""
    with bugs.switched_on(names.MINIMUM_IGNORED), pytest.raises(AssertionError):
        test_tripping.test_below_the_minimum_of_calls_no_rate_is_judged()


def test_seeded_bug_breaker_rejected_key_opens_what_is_above_is_caught() -> None:
    """One agent's bad key must not shut the model to all."""
    with bugs.switched_on(names.AUTH_SPREADS), pytest.raises(AssertionError):
        test_tripping.test_rejected_keys_open_the_key_and_nothing_above()


def test_seeded_bug_breaker_one_bad_child_opens_its_parent_is_caught() -> None:
    """One model that is down is not its provider."""
    with bugs.switched_on(names.CHILD_TRIPS), pytest.raises(AssertionError):
        test_hierarchy.test_one_bad_model_does_not_take_its_provider_away()


def test_seeded_bug_breaker_open_time_grows_beyond_its_cap_is_caught() -> None:
    """A target that was down all night must not stay shut all day."""
    with bugs.switched_on(names.CAP_IGNORED), pytest.raises(AssertionError):
        test_tripping.test_open_time_grows_and_is_capped()


def test_seeded_bug_breaker_open_times_have_no_jitter_is_caught() -> None:
    """All that opened together would be tried together."""
    with bugs.switched_on(names.NO_JITTER), pytest.raises(AssertionError):
        test_tripping.test_circuits_that_open_together_are_not_tried_together()


def test_seeded_bug_breaker_ramp_is_skipped_is_caught() -> None:
    """A target that has just come back must not get everything at once."""
    with bugs.switched_on(names.RAMP_SKIPPED), pytest.raises(AssertionError):
        test_ramping.test_shares_grow_step_by_step_and_then_all_go()


def test_seeded_bug_breaker_relapse_in_the_ramp_is_ignored_is_caught() -> None:
    """Nor go on to get more when it fails again."""
    with bugs.switched_on(names.RELAPSE_IGNORED), pytest.raises(AssertionError):
        test_ramping.test_a_relapse_opens_again_for_longer_than_before()


def test_seeded_bug_breaker_order_outlives_its_time_is_caught() -> None:
    """Who forces a circuit for an hour must not have to remember it."""
    with bugs.switched_on(names.ORDER_NEVER_ENDS), pytest.raises(AssertionError):
        test_orders.test_an_order_ends_when_its_time_is_over(ForceOpen, "half_open")


def test_seeded_bug_breaker_disabled_circuit_still_counts_is_caught() -> None:
    """Nothing is to be remembered of a circuit that is off."""
    with bugs.switched_on(names.DISABLED_COUNTS), pytest.raises(AssertionError):
        test_orders.test_a_disabled_circuit_neither_counts_nor_opens()


def test_seeded_bug_breaker_probes_at_once_after_a_loss_is_caught() -> None:
    """Probes that were lost may still be under way."""
    with bugs.switched_on(names.LOSS_IGNORED), pytest.raises(AssertionError):
        test_recovery.test_after_a_loss_what_was_open_stays_open_and_nobody_probes_in_vain()


def test_seeded_bug_breaker_first_reporter_of_a_window_is_a_fleet_is_caught() -> None:
    """Others are there, though they have not spoken yet."""
    with bugs.switched_on(names.FIRST_TRIPS), pytest.raises(AssertionError):
        test_liars.test_one_who_is_first_in_a_new_window_is_no_fleet_of_one()


def test_seeded_bug_breaker_slow_call_counts_as_failure_is_caught() -> None:
    """Slow calls have a rate of their own."""
    with bugs.switched_on(names.SLOW_IS_FAILURE), pytest.raises(AssertionError):
        test_tripping.test_slow_calls_trip_by_their_own_rate()


def test_seeded_bug_breaker_success_does_not_end_a_streak_is_caught() -> None:
    """Failures among successes are no streak."""
    with bugs.switched_on(names.STREAK_GOES_ON), pytest.raises(AssertionError):
        test_tripping.test_consecutive_failures_trip_below_the_minimum_of_calls()


def test_seeded_bug_breaker_group_is_nobodys_matter_is_caught() -> None:
    """Members would go on into what is down."""
    with bugs.switched_on(names.GROUP_IGNORED), pytest.raises(AssertionError):
        test_hierarchy.test_a_group_stands_or_falls_together()


def test_seeded_bug_breaker_changes_are_told_once_only_is_caught() -> None:
    """Who has lost the one broadcast would have to ask."""
    with bugs.switched_on(names.UNREPEATED), pytest.raises(AssertionError):
        test_pulse.test_the_latest_changes_are_repeated()


def test_seeded_bug_breaker_share_is_not_told_for_its_budget_is_caught() -> None:
    """The limiter would hand out what may not be used."""
    with bugs.switched_on(names.SHARE_UNTOLD), pytest.raises(AssertionError):
        test_ramping.test_the_share_is_told_for_the_budget_that_is_linked()


def test_seeded_bug_breaker_one_reporter_is_decisive_is_caught() -> None:
    """A liar needs only somebody's bad luck."""
    with bugs.switched_on(names.ONE_DECIDES), pytest.raises(AssertionError):
        test_liars.test_a_liar_and_somebodys_bad_luck_are_no_quorum()


def test_seeded_bug_breaker_window_keeps_a_bucket_too_long_is_caught() -> None:
    """The window against the list of all reports."""
    with bugs.switched_on(names.BUCKET_STAYS), pytest.raises((AssertionError, ExceptionGroup)):
        test_window.test_sums_and_voices_are_those_of_the_reports_within_the_window()


def test_seeded_bug_breaker_window_by_count_keeps_a_report_too_long_is_caught() -> None:
    """The window by count against the list of all reports."""
    with bugs.switched_on(names.LINE_STAYS), pytest.raises((AssertionError, ExceptionGroup)):
        test_counting.test_the_window_holds_the_last_calls_and_no_more()


def test_seeded_bug_breaker_permit_is_given_to_who_was_refused_it_is_caught() -> None:
    """Nobody uses that permit."""
    with bugs.switched_on(names.LATE_GRANTED), pytest.raises(AssertionError):
        test_crowd.test_what_was_refused_is_not_granted_to_a_message_that_comes_late()


def test_seeded_bug_breaker_who_stops_sooner_than_the_rule_wants_has_a_voice_is_caught() -> None:
    """Agents would set the operators' rule aside."""
    with bugs.switched_on(names.CLAIM_UNCHECKED), pytest.raises(AssertionError):
        test_stopping.test_who_stops_sooner_than_the_rule_wants_has_no_voice(6, 5)


def test_seeded_bug_breaker_who_has_stopped_by_itself_has_no_voice_is_caught() -> None:
    """A fleet that stops by itself would know too little to open the circuit."""
    with bugs.switched_on(names.STOPPED_UNHEARD), pytest.raises(AssertionError):
        test_stopping.test_where_all_have_stopped_by_themselves_the_circuit_opens()


@pytest.mark.parametrize("bug", BY_THE_MODEL)
def test_the_model_objects_by_itself(bug: str) -> None:
    """Without a test that was written for the very mistake: any history in which it matters differs from the model."""
    machine = type("Mistaken", (test_machine.Machine,), {})
    quick = settings(max_examples=200, stateful_step_count=30, deadline=None, derandomize=True, phases=[Phase.generate])
    with bugs.switched_on(bug), pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(machine, settings=quick)


def test_every_seeded_bug_has_its_test() -> None:
    """None of the known mistakes goes without the test that shows that it is seen."""
    for name in names.NAMES:
        assert f"test_seeded_bug_{name}_is_caught" in globals(), name
