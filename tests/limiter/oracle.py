"""Three strict providers, written without the limiter: each says how often a list of charges breaks its limit.

A charge is (time, amount); times are of any unit, as long as the window is of the same. A provider refuses a charge
that would exceed its limit; it then counts as a violation and, being refused, takes no room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

Charges = Iterable[tuple[float, int]]


def clock_window(charges: Charges, limit: int, window: float, offset: float = 0.0) -> int:
    """Windows that start at multiples of their length (plus an offset)."""
    violations, current, used = 0, None, 0
    for at, amount in sorted(charges):
        index = (at - offset) // window
        if index != current:
            current, used = index, 0
        if used + amount > limit:
            violations += 1
        else:
            used += amount
    return violations


def rolling_window(charges: Charges, limit: int, window: float) -> int:
    """What was charged in the last window counts, to the instant."""
    violations, used = 0, 0
    inside: deque[tuple[float, int]] = deque()
    for at, amount in sorted(charges):
        while inside and inside[0][0] <= at - window:
            used -= inside.popleft()[1]
        if used + amount > limit:
            violations += 1
        else:
            used += amount
            inside.append((at, amount))
    return violations


def token_bucket(charges: Charges, capacity: int, limit: int, window: float) -> int:
    """A bucket of a capacity, full at the start, refilled at limit/window."""
    violations, level, last = 0, float(capacity), None
    for at, amount in sorted(charges):
        if last is not None:
            level = min(float(capacity), level + (at - last) * limit / window)
        last = at
        if amount > level + 1e-6:
            violations += 1
        else:
            level -= amount
    return violations
