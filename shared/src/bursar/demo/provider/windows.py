"""Three ways in which providers count a quota of ``limit`` units per ``window_ms``; whole numbers only.

* `ClockWindow`: the count starts again at each multiple of the window, as with "per calendar minute".
* `RollingWindow`: the sum over every span ``(now - window, now]`` counts.
* `TokenBucket`: ``limit`` units fit in, and ``limit / window`` units flow back per millisecond.

All share one shape: `used` says what counts now, `charge` adds without asking, `wait_ms` says how long until a charge
would fit (0: now; None: never). Time is an argument, in milliseconds, and must not go back.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol

Kind = Literal["clock", "rolling", "bucket"]


class Window(Protocol):
    limit: int

    def used(self, now: int) -> int:
        """Units that count against the limit at ``now``."""

    def charge(self, now: int, units: int) -> None:
        """Add units; going over the limit is the caller's business."""

    def wait_ms(self, now: int, units: int) -> int | None:
        """Milliseconds until ``units`` more would fit; 0 when they fit now, None when they never will."""

    def reset_ms(self, now: int) -> int:
        """Milliseconds until the whole limit is free again, if nothing more is charged."""


class ClockWindow:
    def __init__(self, limit: int, window_ms: int) -> None:
        self.limit, self._window = limit, window_ms
        self._index, self._sum = -1, 0

    def _roll(self, now: int) -> None:
        index = now // self._window
        if index != self._index:
            self._index, self._sum = index, 0

    def used(self, now: int) -> int:
        self._roll(now)
        return self._sum

    def charge(self, now: int, units: int) -> None:
        self._roll(now)
        self._sum += units

    def wait_ms(self, now: int, units: int) -> int | None:
        if units > self.limit:
            return None
        return 0 if self.used(now) + units <= self.limit else self._window - now % self._window

    def reset_ms(self, now: int) -> int:
        return self._window - now % self._window if self.used(now) else 0


class RollingWindow:
    def __init__(self, limit: int, window_ms: int) -> None:
        self.limit, self._window = limit, window_ms
        self._entries: deque[tuple[int, int]] = deque()
        self._sum = 0

    def used(self, now: int) -> int:
        horizon = now - self._window
        while self._entries and self._entries[0][0] <= horizon:
            self._sum -= self._entries.popleft()[1]
        return self._sum

    def charge(self, now: int, units: int) -> None:
        self.used(now)
        self._sum += units
        if self._entries and self._entries[-1][0] == now:
            units += self._entries.pop()[1]
        self._entries.append((now, units))

    def wait_ms(self, now: int, units: int) -> int | None:
        if units > self.limit:
            return None
        excess = self.used(now) + units - self.limit
        if excess <= 0:
            return 0
        for when, amount in self._entries:
            excess -= amount
            if excess <= 0:
                return when + self._window - now
        raise AssertionError("the entries do not add up to the sum")

    def reset_ms(self, now: int) -> int:
        return self._entries[-1][0] + self._window - now if self.used(now) else 0


class TokenBucket:
    """The level is kept in units times ``window_ms``, so that the inflow per millisecond is the whole number ``limit``.

    Charging more than is there (by `charge`) leaves a debt.
    """

    def __init__(self, limit: int, window_ms: int) -> None:
        self.limit, self._window = limit, window_ms
        self._full = limit * window_ms
        self._level, self._at = self._full, 0

    def _flow(self, now: int) -> int:
        self._level = min(self._full, self._level + (now - self._at) * self.limit)
        self._at = now
        return self._level

    def used(self, now: int) -> int:
        return -((self._flow(now) - self._full) // self._window)

    def charge(self, now: int, units: int) -> None:
        self._flow(now)
        self._level -= units * self._window

    def wait_ms(self, now: int, units: int) -> int | None:
        if units > self.limit:
            return None
        missing = units * self._window - self._flow(now)
        return 0 if missing <= 0 else -(-missing // self.limit)

    def reset_ms(self, now: int) -> int:
        return -((self._flow(now) - self._full) // self.limit)


def window_of(kind: Kind, limit: int, window_ms: int) -> Window:
    """A fresh, unused window of that kind."""
    if kind == "clock":
        return ClockWindow(limit, window_ms)
    return RollingWindow(limit, window_ms) if kind == "rolling" else TokenBucket(limit, window_ms)
