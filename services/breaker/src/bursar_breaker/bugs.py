"""The seeded bugs of the breaker: plausible mistakes in its rules, off unless a test switches one on."""

from __future__ import annotations

from typing import Final

from bursar.kernel.bugs import declare

PROBE_OVER_K: Final = "breaker_probe_over_k"
STALE_ACCEPTED: Final = "breaker_stale_generation_accepted"
SINGLE_TRIPS: Final = "breaker_single_reporter_trips"
DEADLINE_LOST: Final = "breaker_later_deadline_lost"
QUOTA_IS_FAILURE: Final = "breaker_429_counts_as_failure"
REVISION_SKIPPED: Final = "breaker_revision_skipped"
LEASE_NEVER_ENDS: Final = "breaker_dead_prober_keeps_its_probe"
BUCKET_STAYS: Final = "breaker_window_keeps_a_bucket_too_long"
FORCED_TRIPS: Final = "breaker_evidence_moves_a_forced_circuit"

NAMES: Final = (
    PROBE_OVER_K,
    STALE_ACCEPTED,
    SINGLE_TRIPS,
    DEADLINE_LOST,
    QUOTA_IS_FAILURE,
    REVISION_SKIPPED,
    LEASE_NEVER_ENDS,
    BUCKET_STAYS,
    FORCED_TRIPS,
)

declare(*NAMES)
