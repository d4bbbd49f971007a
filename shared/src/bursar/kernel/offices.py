"""Which decisions each epoch made: where every epoch began, so that a fence can be told to be of this history or not.

Numbers of decisions grow through all epochs. So a genuine fence of an earlier epoch must have a lower number than the
first of the epoch after it; if it has not, that decision was acknowledged and is not in this history: it was lost. To
compare fences alone would hide that as soon as a new owner has raised the epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

KEEP: Final = 64
"""Epochs remembered; a fence of an older one is compared with the first of these."""


class Offices:
    """(epoch, number of its first decision) of the newest epochs of the present incarnation, in order."""

    __slots__ = ("_begun",)

    def __init__(self, begun: Iterable[tuple[int, int]] = ()) -> None:
        self._begun = deque(begun, maxlen=KEEP)

    def begin(self, epoch: int, number: int) -> None:
        self._begun.append((epoch, number))

    def first_after(self, epoch: int) -> int | None:
        """Number of the first decision made after this epoch had ended; None when it has not."""
        return next((number for other, number in self._begun if other > epoch), None)

    def dump(self) -> list[Any]:
        return [list(row) for row in self._begun]

    @classmethod
    def load(cls, value: Any) -> Offices:
        return cls((epoch, number) for epoch, number in value)
