"""The seeded bugs of the limiter: plausible mistakes in its rules, off unless a test switches one on."""

from __future__ import annotations

from typing import Final

from bursar.kernel.bugs import declare

JITTER_IGNORED: Final = "limiter_jitter_ignored"
WRONG_GRAIN: Final = "limiter_refund_lands_in_the_wrong_grain"
TIME_OUT_REFUNDS: Final = "limiter_time_out_refunds"
REFUNDED_TWICE: Final = "limiter_settle_twice_refunds_twice"
OVERTAKEN: Final = "limiter_large_request_overtaken"
OVERAGE_FORGOTTEN: Final = "limiter_overage_forgotten"
DEBT_FORGOTTEN: Final = "limiter_debt_forgotten"
NOT_DUMPED: Final = "limiter_reservation_missing_from_dump"
EXPIRY_LOST: Final = "limiter_expiry_lost_by_load"
GRANTS_AT_ONCE: Final = "limiter_recovery_grants_at_once"
CALLS_LEAK: Final = "limiter_concurrency_leaks"
ANY_NUMBER: Final = "limiter_redeclare_accepts_any_number"
ONLY_THE_LEAF: Final = "limiter_ancestors_not_charged"
REFUND_AFTER_RELOAD: Final = "limiter_refund_enters_a_younger_meter"
MOVES_FREE: Final = "limiter_moved_budget_counts_nothing"
WEIGHT_IGNORED: Final = "limiter_weight_ignored"
NEVER_AGES: Final = "limiter_priority_starves"
OBJECT_OVERTAKEN: Final = "limiter_object_overtaken"
PROGRESS_FORGOTTEN: Final = "limiter_progress_forgotten"
DROPPED_IN_USE: Final = "limiter_agent_dropped_in_use"
MADE_FRESH: Final = "limiter_agent_fresh_after_loss"
REFUND_STAYS_ON_THE_BILL: Final = "limiter_refund_stays_on_the_bill"

NAMES: Final = (
    JITTER_IGNORED,
    WRONG_GRAIN,
    TIME_OUT_REFUNDS,
    REFUNDED_TWICE,
    OVERTAKEN,
    OVERAGE_FORGOTTEN,
    DEBT_FORGOTTEN,
    NOT_DUMPED,
    EXPIRY_LOST,
    GRANTS_AT_ONCE,
    CALLS_LEAK,
    ANY_NUMBER,
    ONLY_THE_LEAF,
    REFUND_AFTER_RELOAD,
    MOVES_FREE,
    WEIGHT_IGNORED,
    NEVER_AGES,
    OBJECT_OVERTAKEN,
    PROGRESS_FORGOTTEN,
    DROPPED_IN_USE,
    MADE_FRESH,
    REFUND_STAYS_ON_THE_BILL,
)

declare(*NAMES)
