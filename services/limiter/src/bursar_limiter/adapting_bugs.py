"""The seeded bugs of what is learned from the provider; see `bugs`."""

from __future__ import annotations

from typing import Final

from bursar.kernel.bugs import declare

FREEZE_UNBOUNDED: Final = "limiter_freeze_unbounded"
FREEZE_SHORTENED: Final = "limiter_freeze_made_shorter"
FREEZE_ONE_LEAF: Final = "limiter_freeze_stops_one_budget_only"
LAST_VOICE_WINS: Final = "limiter_last_voice_wins"
LEARNS_HIGHER: Final = "limiter_learns_a_higher_limit"
PACE_ABOVE_LIMIT: Final = "limiter_pace_above_the_limit"
FOREIGN_UNCHARGED: Final = "limiter_foreign_use_uncharged"
CUT_FORGOTTEN: Final = "limiter_cut_forgotten_by_load"

NAMES: Final = (
    FREEZE_UNBOUNDED,
    FREEZE_SHORTENED,
    FREEZE_ONE_LEAF,
    LAST_VOICE_WINS,
    LEARNS_HIGHER,
    PACE_ABOVE_LIMIT,
    FOREIGN_UNCHARGED,
    CUT_FORGOTTEN,
)

declare(*NAMES)
