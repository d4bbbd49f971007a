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
    """Whose turn it is: the lowest key. Keys of different items differ.

    Each item has one entry that counts. One whose key has grown is moved back when it comes to the top; when a key may
    have fallen, or an item has something to wait for again, it has to be pushed, and gets a new entry if that is lower.
    """

    __slots__ = ("_entries", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[Key, int, R]] = []
        self._entries: dict[R, tuple[Key, int]] = {}
        self._serial = 0

    def push(self, item: R, now: int) -> None:
        key = item.key(now)
        known = self._entries.get(item)
        if known is not None and known[0] <= key:
            return
        self._serial += 1
        self._entries[item] = key, self._serial
        heappush(self._heap, (key, self._serial, item))
        if len(self._heap) > 4 * len(self._entries) + SPARE:
            self._heap = [(key, serial, item) for item, (key, serial) in self._entries.items()]
            heapify(self._heap)

    def first(self, now: int) -> tuple[Key, R] | None:
        """Whose turn it is, with its key."""
        heap = self._heap
        while heap:
            key, serial, item = heap[0]
            known = self._entries.get(item)
            if known is None or known[1] != serial:
                heappop(heap)
            elif not item.count:
                self.drop_first()
            else:
                current = item.key(now)
                if current == key:
                    return key, item
                heapreplace(heap, (current, serial, item))
                self._entries[item] = current, serial
        return None

    def drop_first(self) -> None:
        """Whose turn it is takes no turn until it is pushed again."""
        del self._entries[heappop(self._heap)[2]]


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
