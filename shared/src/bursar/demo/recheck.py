"""The judge judged: its log of admissions is counted again, by other code, for windows over the limit.

The code of `bursar.demo.provider.windows` decides as calls arrive; this looks at the finished log, so that a mistake in
one does not hide in the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bursar.demo.provider.windows import Kind

Charges = Sequence[tuple[int, int]]
"""(ms, units), in order of time."""


def over_limit(kind: Kind, charges: Charges, limit: int, window_ms: int) -> int:
    """How many charges brought a window over its limit (of a clock window: how many windows were over)."""
    if kind == "clock":
        sums = Counter[int]()
        for at, units in charges:
            sums[at // window_ms] += units
        return sum(total > limit for total in sums.values())
    used = used_after(kind, charges, limit, window_ms)
    return sum(level > limit for level in used)


def used_after(kind: Kind, charges: Charges, limit: int, window_ms: int) -> list[float]:
    """After each charge: the units that count against the limit."""
    if kind == "bucket":
        return _bucket(charges, limit, window_ms)
    first, total, levels = 0, 0, []
    for at, units in charges:
        total += units
        while _is_past(kind, charges[first][0], at, window_ms):
            total -= charges[first][1]
            first += 1
        levels.append(float(total))
    return levels


def _is_past(kind: Kind, then: int, now: int, window_ms: int) -> bool:
    if kind == "clock":
        return then // window_ms != now // window_ms
    return now - then >= window_ms


def _bucket(charges: Charges, limit: int, window_ms: int) -> list[float]:
    """What is missing from the full bucket; whole numbers until the end: units times the window's length."""
    missing, last, levels = 0, 0, []
    for at, units in charges:
        missing = max(0, missing - (at - last) * limit) + units * window_ms
        last = at
        levels.append(missing / window_ms)
    return levels


def used_at(kind: Kind, charges: Charges, times: Sequence[int], limit: int, window_ms: int) -> list[float]:
    """The units that count against the limit at each of some moments (ms, in order)."""
    marked = sorted(
        [(at, units, 0) for at, units in charges] + [(at, 0, 1) for at in times], key=lambda x: (x[0], x[2])
    )
    levels = used_after(kind, [(at, units) for at, units, _ in marked], limit, window_ms)
    return [level for level, (_, _, is_mark) in zip(levels, marked, strict=True) if is_mark]
