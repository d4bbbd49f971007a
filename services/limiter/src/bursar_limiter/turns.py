"""Whose turn it is at one budget: start-time fair queueing over those who want something there, by class of priority.

Who takes turns is, at the budget that requests name, each principal; above it, each budget below, with its weight. So
the tree of budgets is a tree of turns, and what a budget has is shared by weight among those of its children that want
something, whatever the others leave is shared likewise, and who wants something again has his share at his next turn.

Every request costs its largest share of any limit of this budget, divided by the weight. Each who takes turns has a
virtual time up to which he has been served; his request starts there, or at the line's own virtual time if that is
later, so that nobody saves up turns while he wants nothing. The request with the earliest start is next, and the
line's time moves to its start.

The bounds (Goyal, Vin and Cheng, 1996; hierarchically the same): while two both wait, what they are granted, each
divided by his weight, differs by no more than the largest request of each; and of every other one at most one request
goes before the first one of somebody who has had no more than the others.

Reactive goes before standard, and that before proactive. A class that has been passed over ages: when one in it has
stood there for `AGE_MS` while better ones were served, all who then stand in it join the next better class. So a
request that has become its owner's first in line is passed over by better ones for no more than twice `AGE_MS`, and
from then on takes its turn among all.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from bursar.kernel.bugs import seeded
from bursar_limiter import bugs

if TYPE_CHECKING:
    from bursar_limiter.waiting import Waiter

SPARE: Final = 64
"""So many entries that are of no use any more are not worth tidying up."""

AGE_MS: Final = 2_000
"""So long a class is passed over before it joins the next better one."""

CLASSES: Final = 3
EVEN: Final = 100
"""The weight of each principal, and what a weight is measured by."""


class Entry:
    """One who takes turns, with the request that he stands there with. ``rank``: its class now, ``since`` when."""

    __slots__ = ("cost", "gone", "key", "rank", "since", "start", "waiter", "weight")

    def __init__(self, key: str, waiter: Waiter, rank: int, now: int, cost: int, weight: int = EVEN) -> None:
        self.key = key
        self.waiter = waiter
        self.rank = rank
        self.since = now
        self.cost = cost
        self.weight = weight
        self.start = 0
        self.gone = False


class Turns:
    """The turns of one line. ``virtual`` is the line's own time; all operations cost O(log n), amortised."""

    __slots__ = ("_heaps", "_passed", "_pushed", "_served_until", "_since", "_tidy_served", "count", "virtual")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nobody waits, so nobody has had more than another."""
        self.virtual = 0
        self.count = 0
        self._served_until: dict[str, int] = {}
        self._heaps: list[list[tuple[int, int, int, Entry]]] = [[] for _ in range(CLASSES)]
        self._since: list[deque[Entry]] = [deque() for _ in range(CLASSES)]
        self._passed = [False] * CLASSES
        self._pushed = 0
        self._tidy_served = SPARE

    def enter(self, entry: Entry) -> None:
        entry.start = max(self.virtual, self._served_until.get(entry.key, 0))
        self.count += 1
        self._push(entry)

    def _push(self, entry: Entry) -> None:
        heap = self._heaps[entry.rank]
        if len(heap) >= 2 * self.count + SPARE:
            heap[:] = [item for item in heap if not item[3].gone]
            heapify(heap)
            self._since[entry.rank] = deque(other for other in self._since[entry.rank] if not other.gone)
        self._pushed += 1
        heappush(heap, (entry.start, entry.waiter.order, self._pushed, entry))
        self._since[entry.rank].append(entry)

    def put_back(self, entry: Entry) -> None:
        """It was next, and somebody of a better class has come."""
        self._pushed += 1
        heappush(self._heaps[entry.rank], (entry.start, entry.waiter.order, self._pushed, entry))

    def remove(self, entry: Entry) -> None:
        if not entry.gone:
            entry.gone = True
            self.count -= 1

    def next(self, now: int) -> Entry | None:
        """Whose turn it is; he stays so until he has left, or one of a better class comes."""
        self._age(now)
        for heap in self._heaps:
            while heap:
                start, _, _, entry = heappop(heap)
                if not entry.gone:
                    self.virtual = max(self.virtual, start)
                    return entry
        return None

    def _age(self, now: int) -> None:
        """Classes that were passed over for too long join the next better one, the best first."""
        for rank in range(CLASSES if seeded(bugs.NEVER_AGES) else 1, CLASSES):
            since = self._since[rank]
            while since and (since[0].gone or since[0].rank != rank):
                since.popleft()
            if not since:
                self._passed[rank] = False
            elif self._passed[rank] and now - since[0].since >= AGE_MS:
                self._passed[rank] = False
                everybody, self._since[rank], self._heaps[rank] = list(since), deque(), []
                for entry in everybody:
                    if not entry.gone and entry.rank == rank:
                        entry.rank, entry.since = rank - 1, now
                        self._push(entry)

    def served(self, entry: Entry) -> None:
        """A request was granted in its turn."""
        if len(self._served_until) >= self._tidy_served:
            self._served_until = {who: until for who, until in self._served_until.items() if until > self.virtual}
            self._tidy_served = 2 * len(self._served_until) + SPARE
        weight = EVEN if seeded(bugs.WEIGHT_IGNORED) else entry.weight
        self._served_until[entry.key] = entry.start + max(1, entry.cost * EVEN // weight)
        for rank in range(entry.rank + 1, CLASSES):
            self._passed[rank] = True
