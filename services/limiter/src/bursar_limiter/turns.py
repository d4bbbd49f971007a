"""Whose turn it is: start-time fair queueing over principals.

Every request costs its largest share of any limit. Each principal has a virtual time up to which it has been served;
its first request in line starts there, or at the line's own virtual time if that is later, so that nobody saves up
turns while he wants nothing. The request with the earliest start is next, and the line's time moves to its start.

The bounds (Goyal, Vin and Cheng, 1996): while two principals both wait, what they are granted differs by no more than
the largest request of each; and of every other principal at most one request goes before the first one of somebody
who has had no more than the others.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bursar_limiter.waiting import Waiter

SPARE = 64
"""So many entries that are of no use any more are not worth tidying up."""


class Turns:
    """The turns of one line. ``virtual`` is the line's own time; all operations cost O(log n), amortised."""

    __slots__ = ("_heap", "_served_until", "_tidy_heap", "_tidy_served", "virtual")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nobody waits, so nobody has had more than another."""
        self.virtual = 0
        self._served_until: dict[str, int] = {}
        self._heap: list[tuple[int, int, Waiter]] = []
        self._tidy_heap = self._tidy_served = SPARE

    def enter(self, waiter: Waiter) -> None:
        """A request is its principal's first one in line now."""
        waiter.start = max(self.virtual, self._served_until.get(waiter.command.principal, 0))
        if len(self._heap) >= self._tidy_heap:
            self._heap = [entry for entry in self._heap if not entry[2].gone]
            heapify(self._heap)
            self._tidy_heap = 2 * len(self._heap) + SPARE
        heappush(self._heap, (waiter.start, waiter.order, waiter))

    def next(self) -> Waiter | None:
        """Whose turn it is; he stays so until he has left."""
        while self._heap:
            start, _, waiter = heappop(self._heap)
            if not waiter.gone:
                self.virtual = start
                return waiter
        return None

    def served(self, waiter: Waiter) -> None:
        """A request was granted in its turn."""
        if len(self._served_until) >= self._tidy_served:
            self._served_until = {who: until for who, until in self._served_until.items() if until > self.virtual}
            self._tidy_served = 2 * len(self._served_until) + SPARE
        self._served_until[waiter.command.principal] = waiter.start + waiter.cost
