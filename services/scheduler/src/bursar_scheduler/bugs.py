"""Known ways to break the scheduler, switched on one at a time by tests that must notice (see `bursar.kernel.bugs`)."""

from __future__ import annotations

from bursar.kernel.bugs import declare

STALE_TOKEN_FINISHES = "scheduler_stale_token_finishes"  # noqa: S105 - a fencing token
LEASE_EXPIRY_KEEPS_ATTEMPT = "scheduler_lease_expiry_keeps_attempt"
DOUBLE_ASSIGN = "scheduler_double_assign"
SLOTS_EXCEEDED = "scheduler_slots_exceeded"
BACKOFF_IGNORED = "scheduler_backoff_ignored"
INBOX_POSITION_LOST = "scheduler_inbox_position_lost"
CANCELLED_TASK_RUNS = "scheduler_cancelled_task_runs"
ENDED_ID_FORGOTTEN = "scheduler_ended_id_forgotten"
LOSS_RUNS_AGAIN = "scheduler_loss_runs_again"
FAILED_DEPENDENCY_RUNS = "scheduler_failed_dependency_runs"
RUNS_BEFORE_ITS_DEPENDENCIES = "scheduler_runs_before_its_dependencies"
KILLS_FOR_EVER = "scheduler_kills_for_ever"
YIELDS_WITHOUT_CHECKPOINT = "scheduler_yields_without_checkpoint"
PREEMPTS_EQUALS = "scheduler_preempts_equals"
GANG_ENDS_WITH_ITS_FIRST = "scheduler_gang_ends_with_its_first"
HELD_FOR_NOBODY = "scheduler_held_for_nobody"
BLOBS_FOR_ALL = "scheduler_blobs_for_all"
PROGRAM_HALF_CANCELLED = "scheduler_program_half_cancelled"
FILLERS_STAY = "scheduler_fillers_stay"
FILLS_BEYOND_THE_SLACK = "scheduler_fills_beyond_the_slack"

NAMES = (
    STALE_TOKEN_FINISHES,
    LEASE_EXPIRY_KEEPS_ATTEMPT,
    DOUBLE_ASSIGN,
    SLOTS_EXCEEDED,
    BACKOFF_IGNORED,
    INBOX_POSITION_LOST,
    CANCELLED_TASK_RUNS,
    ENDED_ID_FORGOTTEN,
    LOSS_RUNS_AGAIN,
    FAILED_DEPENDENCY_RUNS,
    RUNS_BEFORE_ITS_DEPENDENCIES,
    KILLS_FOR_EVER,
    YIELDS_WITHOUT_CHECKPOINT,
    PREEMPTS_EQUALS,
    GANG_ENDS_WITH_ITS_FIRST,
    HELD_FOR_NOBODY,
    BLOBS_FOR_ALL,
    PROGRAM_HALF_CANCELLED,
    FILLERS_STAY,
    FILLS_BEYOND_THE_SLACK,
)

declare(*NAMES)
