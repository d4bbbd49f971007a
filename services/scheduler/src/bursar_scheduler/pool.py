"""The workers that serve one lane and have room, in the forms that the policies need: sorted, and by load.

Both are kept at a cost that grows with the logarithm of the number of workers. (Inserting into a sorted list moves
what stands behind, in one move of memory.) The heap by load is there only once somebody has asked for it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heapify, heappop, heappush

from bursar_scheduler.task import Worker


class Pool:
    """``ordinals``: of the workers with room, ascending; ``last``: who was chosen last."""

    __slots__ = ("_by_load", "_workers", "last", "ordinals")

    def __init__(self) -> None:
        self.ordinals: list[int] = []
        self.last = -1
        self._workers: dict[int, Worker] = {}
        self._by_load: list[tuple[int, int]] | None = None

    def __len__(self) -> int:
        return len(self.ordinals)

    def __contains__(self, worker: Worker) -> bool:
        return worker.ordinal in self._workers

    def __getitem__(self, index: int) -> Worker:
        """The worker at a place of ``ordinals``."""
        return self._workers[self.ordinals[index]]

    def enter(self, worker: Worker) -> None:
        insort(self.ordinals, worker.ordinal)
        self._workers[worker.ordinal] = worker
        self.touch(worker)

    def leave(self, worker: Worker) -> None:
        ordinal = worker.ordinal
        if self._workers.pop(ordinal, None) is not None:
            del self.ordinals[bisect_left(self.ordinals, ordinal)]

    def touch(self, worker: Worker) -> None:
        """Its load has changed."""
        heap = self._by_load
        if heap is not None:
            heappush(heap, (worker.fill, worker.ordinal))
            if len(heap) > 4 * len(self.ordinals) + 64:
                self._by_load = None

    def after_last(self) -> Worker:
        """The one after who was chosen last, around the circle. The pool must not be empty."""
        place = bisect_left(self.ordinals, self.last + 1)
        return self[place % len(self.ordinals)]

    def least_loaded(self) -> Worker:
        """Who has the smallest part of its slots taken; of several the one that has been there longest. The pool must
        not be empty."""
        heap = self._by_load
        if heap is None:
            heap = self._by_load = [(worker.fill, worker.ordinal) for worker in self._workers.values()]
            heapify(heap)
        while True:
            fill, ordinal = heap[0]
            worker = self._workers.get(ordinal)
            if worker is not None and worker.fill == fill:
                return worker
            heappop(heap)
