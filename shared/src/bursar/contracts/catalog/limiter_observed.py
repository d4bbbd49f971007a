"""What the limiter hears and tells of the provider's own limits: a part of its catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import limiter_observed as wire
from bursar.contracts.catalog.base import Event, Operation, Word

OPERATIONS: Final = (
    Operation(
        "req",
        "rate-limited",
        wire.RateLimited,
        "The provider has answered 429: the whole fleet stops for as long as it asks.",
        replies=(wire.FreezeNoted,),
        errors=("unknown_budget",),
        example={"budget": "demo", "dimensions": ["requests"], "retry_after_ms": 300},
    ),
    Operation(
        "obs",
        "seen",
        wire.Seen,
        "What the rate-limit headers of an answer told.",
        example={
            "budget": "demo",
            "window_ms": 20_000,
            "age_ms": 850,
            "limits": [{"dimension": "requests", "limit": 2_000, "remaining": 1_874, "reset_in_ms": 1_260}],
        },
    ),
    Operation(
        "adm",
        "thaw",
        wire.Thaw,
        "End the freezes of a budget now: they were a mistake.",
        replies=(wire.Thawed,),
        errors=("unknown_budget",),
        example={"budget": "demo", "note": "the 429 came from our own gateway"},
    ),
)

EVENTS: Final = (
    Event(
        wire.FREEZE,
        "the budget, with ':' for '/'",
        wire.Frozen,
        "Nothing of these dimensions may be sent for so long; it ends by itself.",
    ),
    Event(
        wire.FOREIGN,
        "the budget, with ':' for '/'",
        wire.ForeignUse,
        "Somebody outside the fleet uses the key: they are left that room.",
    ),
)

_MS_CLOCK = "ms of the limiter's clock"

WORDS: Final = {
    "RateLimited.dimensions": Word("What the provider named or told to be used up; none: everything of the budget."),
    "retry_after_ms": Word("How long the provider asks to wait; null: it did not say.", "ms"),
    "FreezeNoted.budget": Word("The budget that stands for the provider's limit, which may lie above the one named."),
    "FreezeNoted.dimensions": Word("Its dimensions that are frozen."),
    "until_ms": Word("When the freeze ends.", _MS_CLOCK),
    "remaining_ms": Word("How long it lasts from the arrival of the message; 0: it is over.", "ms"),
    "applied": Word(
        "Whether this report has made it later; if not, it was later already, or the allowance is used up."
    ),
    "note": Word("Why, for the audit."),
    "Thawed.dimensions": Word("What was frozen."),
    "Frozen.budget": Word("What is frozen, with all that stands below it."),
    "below": Word("Budgets below it whose names do not show that."),
    "Frozen.dimensions": Word("What is frozen of it; none: everything."),
    "reporter": Word("Whose answer it was, or who ended it; empty when it is told once more, each two seconds."),
    "age_ms": Word("How long ago the call was sent that these headers answer.", "ms"),
    "Seen.window_ms": Word("Length of the window that the headers speak of.", "ms"),
    "Seen.limits": Word("What they told, by dimension."),
    "Headroom.dimension": Word("The dimension."),
    "Headroom.limit": Word("The provider's limit.", "of the dimension"),
    "remaining": Word("What it says is left.", "of the dimension"),
    "reset_in_ms": Word("How long until all of it is there again.", "ms"),
    "rounding": Word("By how much the remaining may be rounded.", "of the dimension"),
    "ForeignUse.dimension": Word("The dimension."),
    "ForeignUse.used": Word("What others have used in the last window.", "of the dimension"),
    "ForeignUse.limit": Word("The limit.", "of the dimension"),
    "ForeignUse.window_ms": Word("The window.", "ms"),
    "adapt": Word("What the budget makes of what the provider tells."),
    "max_freeze_ms": Word("The longest freeze, from its last report on.", "ms"),
    "learn": Word("Whether a lower limit that the headers tell is taken over."),
    "foreign": Word("Whether what others use of the key is charged."),
    "recover": Word("Whether the pace is cut after a 429, and comes back slowly."),
    "steer": Word("Whether the pace is moved so that 85 to 95 % of the limit are used while there is demand."),
    "ramp_ms": Word("How long the pace takes from a tenth to all of it after a quiet window; 0: no time.", "ms"),
    "configured": Word("The limit as it was configured; a lower one may have been learned.", "of the dimension"),
    "frozen_in_ms": Word("For how long the provider has asked for a pause; 0: it has not.", "ms"),
    "pace_permille": Word("The pace, as a part of the configured one.", "thousandths"),
    "foreign_used": Word("What others are seen to have used in the last window.", "of the dimension"),
}
