"""How a pace comes back after the provider has said 429: CUBIC (Ha, Rhee and Xu, 2008), with the constants that
botocore's adaptive retry mode starts from.

A 429 cuts the pace to 0.7 of what it was (`KEPT`). From then on it follows a cubic through the pace of the cut: fast at
first, slowly around the pace at which it went wrong, and faster again beyond, where nothing has gone wrong yet::

    pace(t) = most + C · (t - K)³        K = (0.3 · most / C)^(1/3)        C = 0.4 % per second³

At t = 0 that is 0.7 · most, at t = K it is most again (K is about 4.2 s for a full pace). When a cut follows before the
pace has come back to the one before, the goal itself is lowered (fast convergence), so that a limit that is really
lower is found by fewer 429s.

Paces are in thousandths of the configured one, times in ms; integers only, the same everywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FULL: Final = 1000
KEPT: Final = 700
GROWTH: Final = 4
"""C: thousandths of the full pace per second³."""
FLOOR: Final = 100
"""No pace is cut lower: the fleet keeps trying, so that it notices when the provider gives more again."""


class Cut(NamedTuple):
    """``most``: the pace that it returns to; ``at``: when it begins to."""

    most: int
    at: int


def cut(pace: int, begins: int, before: Cut | None = None) -> Cut:
    """The provider has refused at this pace; it comes back from ``begins`` on, the end of the freeze."""
    most = pace if before is None or pace >= before.most else pace * (FULL + KEPT) // (2 * FULL)
    return Cut(max(FLOOR, most), begins)


def pace_at(after: Cut, now: int) -> int:
    """The pace at a time, from `FLOOR` upwards; it never falls while nothing goes wrong."""
    passed = max(0, now - after.at) - _way_back(after.most)
    return max(FLOOR, after.most + GROWTH * passed**3 // 10**9)


def whole_at(after: Cut, ceiling: int) -> int:
    """The first ms at which the pace has come back to this one."""
    low, high = after.at, after.at + 600_000
    while low < high:
        middle = (low + high) // 2
        if pace_at(after, middle) >= ceiling:
            high = middle
        else:
            low = middle + 1
    return low


def _way_back(most: int) -> int:
    """K in ms: the cube root of (1 - KEPT) · most / C, rounded down, by integers alone."""
    value = (FULL - KEPT) * most * 10**9 // (FULL * GROWTH)
    root: int = round(value ** (1 / 3))
    while root**3 > value:
        root -= 1
    while (root + 1) ** 3 <= value:
        root += 1
    return root
