"""The seeded bugs of the breaker: plausible mistakes in its rules, off unless a test switches one on."""

from __future__ import annotations

from typing import Final

from bursar.kernel.bugs import declare

PROBE_OVER_K: Final = "breaker_probe_over_k"
STALE_ACCEPTED: Final = "breaker_stale_generation_accepted"
SINGLE_TRIPS: Final = "breaker_single_reporter_trips"
LIAR_COUNTS: Final = "breaker_dissenter_is_not_excluded"
DEADLINE_LOST: Final = "breaker_later_deadline_lost"
QUOTA_IS_FAILURE: Final = "breaker_429_counts_as_failure"
REVISION_SKIPPED: Final = "breaker_revision_skipped"
LEASE_NEVER_ENDS: Final = "breaker_dead_prober_keeps_its_probe"
FREED_UNTOLD: Final = "breaker_freed_permit_is_not_told"
BUCKET_STAYS: Final = "breaker_window_keeps_a_bucket_too_long"
LINE_STAYS: Final = "breaker_window_by_count_keeps_a_report_too_long"
FORCED_TRIPS: Final = "breaker_evidence_moves_a_forced_circuit"
MINIMUM_IGNORED: Final = "breaker_rate_is_judged_below_the_minimum"
AUTH_SPREADS: Final = "breaker_rejected_key_opens_what_is_above"
CHILD_TRIPS: Final = "breaker_one_bad_child_opens_its_parent"
CAP_IGNORED: Final = "breaker_open_time_grows_beyond_its_cap"
NO_JITTER: Final = "breaker_open_times_have_no_jitter"
RAMP_SKIPPED: Final = "breaker_ramp_is_skipped"
RELAPSE_IGNORED: Final = "breaker_relapse_in_the_ramp_is_ignored"
ORDER_NEVER_ENDS: Final = "breaker_order_outlives_its_time"
DISABLED_COUNTS: Final = "breaker_disabled_circuit_still_counts"
LOSS_IGNORED: Final = "breaker_probes_at_once_after_a_loss"
FIRST_TRIPS: Final = "breaker_first_reporter_of_a_window_is_a_fleet"
ONE_DECIDES: Final = "breaker_one_reporter_is_decisive"
SLOW_IS_FAILURE: Final = "breaker_slow_call_counts_as_failure"
STREAK_GOES_ON: Final = "breaker_success_does_not_end_a_streak"
GROUP_IGNORED: Final = "breaker_group_is_nobodys_matter"
UNREPEATED: Final = "breaker_changes_are_told_once_only"
SHARE_UNTOLD: Final = "breaker_share_is_not_told_for_its_budget"
LATE_GRANTED: Final = "breaker_permit_is_given_to_who_was_refused_it"
CLAIM_UNCHECKED: Final = "breaker_who_stops_sooner_than_the_rule_wants_has_a_voice"
STOPPED_UNHEARD: Final = "breaker_who_has_stopped_by_itself_has_no_voice"

NAMES: Final = (
    PROBE_OVER_K,
    STALE_ACCEPTED,
    SINGLE_TRIPS,
    LIAR_COUNTS,
    DEADLINE_LOST,
    QUOTA_IS_FAILURE,
    REVISION_SKIPPED,
    LEASE_NEVER_ENDS,
    FREED_UNTOLD,
    BUCKET_STAYS,
    LINE_STAYS,
    FORCED_TRIPS,
    MINIMUM_IGNORED,
    AUTH_SPREADS,
    CHILD_TRIPS,
    CAP_IGNORED,
    NO_JITTER,
    RAMP_SKIPPED,
    RELAPSE_IGNORED,
    ORDER_NEVER_ENDS,
    DISABLED_COUNTS,
    LOSS_IGNORED,
    FIRST_TRIPS,
    ONE_DECIDES,
    SLOW_IS_FAILURE,
    STREAK_GOES_ON,
    GROUP_IGNORED,
    UNREPEATED,
    SHARE_UNTOLD,
    LATE_GRANTED,
    CLAIM_UNCHECKED,
    STOPPED_UNHEARD,
)

declare(*NAMES)
