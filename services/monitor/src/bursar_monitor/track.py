"""Evidence over time: has a signal been bad for long enough to say so, or good for long enough to say that it is over?

A reading is bad at the rule's limit or above, good below the limit at which it clears, and neither between the two.
Bad evidence has to last for ``hold_ms`` before an alert fires, good evidence for ``clear_ms`` before it is over; so a
signal that jumps across its limit makes one alert and not twenty. Silence is no evidence: after a gap in the readings
both begin anew, and an alert whose subject is not heard of stays what it was.
"""

from __future__ import annotations

from typing import Final

from bursar.contracts.monitor_policy import Rule
from bursar_monitor.bugs import FLAPPING_ALERT, HOLD_IGNORED, seeded

GAP_MS: Final = 10_000
"""Readings further apart than this are no evidence for what was between them."""

FORGET_MS: Final = 600_000
"""An alert whose subject has not been heard of for so long is over: nobody knows any more."""


class Track:
    """The evidence for one rule and one subject; volatile. ``at``: time of the last reading, ms."""

    __slots__ = ("at", "bad_since", "good_since", "value")

    def __init__(self, at: int) -> None:
        self.at = at
        self.value = 0
        self.bad_since: int | None = None
        self.good_since: int | None = None

    def observe(self, rule: Rule, value: int, at: int) -> None:
        if at - self.at > GAP_MS:
            self.bad_since = self.good_since = None
        self.at, self.value = at, value
        is_bad = value >= rule.at_least
        is_good = value < rule.clears_below and not is_bad
        self.bad_since = (at if self.bad_since is None else self.bad_since) if is_bad else None
        self.good_since = (at if self.good_since is None else self.good_since) if is_good else None

    def has_held(self, rule: Rule) -> bool:
        """Whether the signal has been bad for as long as the rule demands."""
        if self.bad_since is None:
            return False
        return self.at - self.bad_since >= rule.hold_ms or seeded(HOLD_IGNORED)

    def has_cleared(self, rule: Rule) -> bool:
        """Whether it has been good for as long as the rule demands."""
        if self.good_since is None:
            return False
        return self.at - self.good_since >= rule.clear_ms or seeded(FLAPPING_ALERT)

    def is_forgotten(self, now: int) -> bool:
        return now - self.at >= FORGET_MS
