"""Heaps for an order that changes while it is kept: keys that grow by themselves, items that leave unnoticed."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Final, Generic, Protocol, TypeVar

Key = tuple[Any, ...]
SPARE: Final = 64
"""Entries that may be void before a heap is made anew."""


class Ranked(Protocol):
    """Something that takes turns. ``count``: what waits below it; with nothing it takes no turn."""

    count: int

    def key(self, now: int) -> Key: ...


R = TypeVar("R", bound=Ranked)


class Turns(Generic[R]):
    """Whose turn it is: the lowest key, and among equals who was pushed first.

    An entry whose key has grown is moved back when it comes to the top. When a key falls, or an item has something to
    wait for again, it has to be pushed; an entry above its item's key is then a duplicate, and dropped.
    """

    __slots__ = ("_heap", "_limit", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[Key, int, R]] = []
        self._serial = 0
        self._limit = SPARE

    def push(self, item: R, now: int) -> None:
        self._serial += 1
        heappush(self._heap, (item.key(now), self._serial, item))
        if len(self._heap) > self._limit:
            self._renew(now)

    def _renew(self, now: int) -> None:
        """One entry for each, the earliest of each."""
        first = {id(entry[2]): entry for entry in sorted(self._heap, key=_serial, reverse=True) if entry[2].count}
        self._heap = [(item.key(now), serial, item) for _, serial, item in first.values()]
        heapify(self._heap)
        self._limit = 4 * len(self._heap) + SPARE

    def first(self, now: int) -> R | None:
        heap = self._heap
        while heap:
            key, serial, item = heap[0]
            current = item.key(now) if item.count else key
            if not item.count or key > current:
                heappop(heap)
            elif key < current:
                heapreplace(heap, (current, serial, item))
            else:
                return item
        return None

    def drop_first(self) -> None:
        """Whose turn it is takes no turn until it is pushed again."""
        heap = self._heap
        item = heappop(heap)[2]
        while heap and heap[0][2] is item:
            heappop(heap)


def _serial(entry: tuple[Key, int, Any]) -> int:
    return entry[1]


class Listed(Protocol):
    """``listed``: whether it still waits. ``order``: unique."""

    order: int
    listed: bool


L = TypeVar("L", bound=Listed)


class Listing(Generic[L]):
    """Items by a time that never changes; those that have left are dropped when they come to the top."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, L]] = []

    def add(self, at: int, item: L) -> None:
        heappush(self._heap, (at, item.order, item))

    def first(self) -> L | None:
        heap = self._heap
        while heap and not heap[0][2].listed:
            heappop(heap)
        return heap[0][2] if heap else None

    def first_at(self) -> int:
        """The time of the first; there must be one."""
        return self._heap[0][0]

    def trim(self, count: int) -> None:
        """Make the heap anew if it holds much more than the ``count`` items that wait."""
        if len(self._heap) > 2 * count + SPARE:
            self._heap = [entry for entry in self._heap if entry[2].listed]
            heapify(self._heap)
