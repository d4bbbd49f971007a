"""What several agents say of one figure, and what to believe of it: the median of those that spoke of late.

A liar, or an agent that talks to another provider by mistake, is outvoted as long as most of those that report are
honest. Of an even number the lower of the two in the middle counts. Volatile and bounded: the reporters of a figure are
the last `MOST` that spoke.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 64


class Voices:
    """One figure, by reporter: the last two values (None: only one so far), and when the last one was said."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: dict[str, tuple[int, int | None, int]] = {}

    def say(self, who: str, value: int, now: int) -> None:
        before = self._said.pop(who, None)
        if len(self._said) >= MOST:
            del self._said[next(iter(self._said))]
        self._said[who] = (value, None if before is None else before[0], now)

    def median(self, now: int, within: int) -> int | None:
        """Of what was said last within so many ms; None when nobody has spoken."""
        return _lower_median([last for last, _, at in self._said.values() if now - at <= within])

    def steady(self, now: int, within: int) -> int | None:
        """As `median`, of the smaller one of each reporter's last two values: a single odd value counts for nothing,
        and who has spoken once has said nothing yet."""
        told = [(last, before) for last, before, at in self._said.values() if now - at <= within]
        return _lower_median([min(last, before) for last, before in told if before is not None])

    def latest(self) -> int | None:
        """When somebody spoke last; None when nobody has."""
        return max((at for _, _, at in self._said.values()), default=None)

    def forget(self) -> None:
        self._said.clear()


def _lower_median(values: list[int]) -> int | None:
    return sorted(values)[(len(values) - 1) // 2] if values else None
