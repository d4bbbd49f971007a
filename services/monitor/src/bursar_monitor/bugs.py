"""Seeded bugs of the monitor's own rules (`bursar.kernel.bugs`): off unless a test switches one on."""

from __future__ import annotations

from typing import Final

from bursar.kernel.bugs import declare, seeded

SAMPLE_COUNTED_TWICE: Final = "monitor_sample_counted_twice"
REPLAY_REVIVES_HOST: Final = "monitor_replay_revives_host"
FLAPPING_ALERT: Final = "monitor_flapping_alert"
HOLD_IGNORED: Final = "monitor_hold_ignored"
SILENCE_IGNORED: Final = "monitor_silence_ignored"
STALE_SHOWN_AS_FRESH: Final = "monitor_stale_shown_as_fresh"
END_NOT_TOLD: Final = "monitor_end_not_told"
IDLE_IS_BAD: Final = "monitor_idle_is_bad"
LONG_WINDOW_ONLY: Final = "monitor_long_window_only"
ROOT_IS_FIRST: Final = "monitor_root_is_first"
INHIBITION_IGNORED: Final = "monitor_inhibition_ignored"
TOLD_TOO_OFTEN: Final = "monitor_told_too_often"
BOUND_OVERLOOKED: Final = "monitor_bound_overlooked"
SCALES_DOWN_BLIND: Final = "monitor_scales_down_blind"
WINDOW_IGNORED: Final = "monitor_window_ignored"
LENT_TWICE: Final = "monitor_lent_twice"
GUARANTEE_FORGOTTEN: Final = "monitor_guarantee_forgotten"
FORECAST_UNJUDGED: Final = "monitor_forecast_unjudged"

NAMES: Final = (
    SAMPLE_COUNTED_TWICE,
    REPLAY_REVIVES_HOST,
    FLAPPING_ALERT,
    HOLD_IGNORED,
    SILENCE_IGNORED,
    STALE_SHOWN_AS_FRESH,
    END_NOT_TOLD,
    IDLE_IS_BAD,
    LONG_WINDOW_ONLY,
    ROOT_IS_FIRST,
    INHIBITION_IGNORED,
    TOLD_TOO_OFTEN,
    SCALES_DOWN_BLIND,
    WINDOW_IGNORED,
    FORECAST_UNJUDGED,
    BOUND_OVERLOOKED,
    LENT_TWICE,
    GUARANTEE_FORGOTTEN,
)

declare(*NAMES)

__all__ = [
    "BOUND_OVERLOOKED",
    "END_NOT_TOLD",
    "FLAPPING_ALERT",
    "FORECAST_UNJUDGED",
    "GUARANTEE_FORGOTTEN",
    "HOLD_IGNORED",
    "IDLE_IS_BAD",
    "INHIBITION_IGNORED",
    "LENT_TWICE",
    "LONG_WINDOW_ONLY",
    "NAMES",
    "REPLAY_REVIVES_HOST",
    "ROOT_IS_FIRST",
    "SAMPLE_COUNTED_TWICE",
    "SCALES_DOWN_BLIND",
    "SILENCE_IGNORED",
    "STALE_SHOWN_AS_FRESH",
    "TOLD_TOO_OFTEN",
    "WINDOW_IGNORED",
    "seeded",
]
