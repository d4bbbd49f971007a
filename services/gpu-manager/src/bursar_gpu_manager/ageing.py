"""How old a report is, though two machines' clocks tell different times.

A probe says when it looked, by its own clock, and the manager knows when it hears that, by its own. The difference is
how far the clocks are apart and how long the report took. The least difference that was seen is of a report that took
no time to speak of; a later one that came with more was held up by the rest: it waited in a socket while a host was cut
off, or in the manager's own queue while that was stopped. It says what was true when it was made.

Clocks drift, and a clock may jump, so the least is taken anew of every `SPAN_MS`: of a heap of late reports the last is
a new one, so no span consists of late ones alone. Of the first report of a probe nothing is known: it counts as made
when it came.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SPAN_MS: Final = 30_000


class Lag(NamedTuple):
    """``least``: ms by which the manager's clock is ahead of the probe's, as known now. ``since``: when the present
    span began, by the manager's clock, and ``span``: the least in it."""

    least: int
    since: int
    span: int


def heard(before: Lag | None, at_ms: int, now: int) -> Lag:
    """A report of the probe's ``at_ms`` is heard at ``now``."""
    lag = now - at_ms
    if before is None:
        return Lag(lag, now, lag)
    if now - before.since < SPAN_MS:
        return Lag(min(before.least, lag), before.since, min(before.span, lag))
    return Lag(min(before.span, lag), now, lag)


def made_at(lag: Lag, at_ms: int, now: int) -> int:
    """When a report was made, by the manager's clock."""
    return min(now, at_ms + lag.least)
