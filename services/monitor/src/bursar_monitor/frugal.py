"""How often the probe looks at the processes, so that it stays within what it may cost itself.

What that look costs grows with the fleet's processes on the host and with how many others come and go, which nobody
knows beforehand. So it is measured: over half a minute, when the probe has used more of a core than it may, it looks at
the processes half as often, down to every eighth look; when it has used less than half of that, twice as often again.
"""

from __future__ import annotations

from typing import Final

SPAN_MS: Final = 30_000
MOST_PPM: Final = 4_500
"""Millionths of a core from which on it is looked less often: a tenth below the half of a percent that it may take."""
LONGEST: Final = 8


class Frugal:
    """``every``: each so many looks the processes are looked at. Times and processor time in ms."""

    __slots__ = ("_at", "_spent", "_turn", "every")

    def __init__(self, now: int, spent: int) -> None:
        self._at = now
        self._spent = spent
        self._turn = 0
        self.every = 1

    def is_turn(self, now: int, spent: int) -> bool:
        """To be asked once for each look."""
        if now - self._at >= SPAN_MS:
            share = (spent - self._spent) * 1_000_000 // (now - self._at)
            if share > MOST_PPM:
                self.every = min(LONGEST, self.every * 2)
            elif share < MOST_PPM // 2:
                self.every = max(1, self.every // 2)
            self._at, self._spent = now, spent
        self._turn += 1
        return self._turn % self.every == 0
