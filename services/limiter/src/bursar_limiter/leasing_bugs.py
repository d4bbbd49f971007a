"""The seeded bugs of leases: plausible mistakes in their rules, off unless a test switches one on."""

from __future__ import annotations

from typing import Final

from bursar.kernel.bugs import declare

REGRANTED_EARLY: Final = "limiter_lease_regranted_before_expiry"
UNRETURNED_REFUNDED: Final = "limiter_lease_unreturned_is_refunded"
PARENT_SHRUNK: Final = "limiter_lease_parent_shrunk_below_children"
LEASE_NOT_DUMPED: Final = "limiter_lease_missing_from_dump"
REFUND_IN_OTHER_WINDOW: Final = "limiter_lease_refund_spent_in_another_window"
OPEN_CALLS_FORGOTTEN: Final = "limiter_lease_open_calls_end_with_it"
OVERAGE_FORGIVEN: Final = "limiter_lease_overage_forgiven"
ONE_LEVEL_ONLY: Final = "limiter_lease_charges_the_leaf_only"
SLICE_REGRANTED: Final = "limiter_slice_given_twice"

NAMES: Final = (
    REGRANTED_EARLY,
    UNRETURNED_REFUNDED,
    PARENT_SHRUNK,
    LEASE_NOT_DUMPED,
    REFUND_IN_OTHER_WINDOW,
    OPEN_CALLS_FORGOTTEN,
    OVERAGE_FORGIVEN,
    ONE_LEVEL_ONLY,
    SLICE_REGRANTED,
)

declare(*NAMES)
