"""What goes on while the limiter cannot be reached: a slice that was set aside, or calls without permits.

`IslandLease` spends a slice: so much of each dimension in any window, and J beside it. It keeps what it has let pass
for as long as that may count, to the call, so that no window, wherever it starts, sees more than the slice; calls in
flight count until they end. Nothing that a call did not use comes back: the window is not looked up again.

`OpenLease` lets everything pass and counts it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bursar.client.local import CONCURRENT, FIELDS, UNLIMITED, Hand, HeldLease
from bursar.client.local_book import Book
from bursar.client.local_permit import LocalPermit
from bursar.client.time import clock_ns

MS: Final = 1_000_000
ALL: Final = range(len(FIELDS))
MAX_KEPT: Final = 100_000
"""Calls that a slice remembers; further ones wait until the oldest have left."""


class IslandLease(HeldLease):
    """A slice: ``amounts`` in each of ``windows`` (ms; 0: at any moment) + J, of the dimensions whose bit is set in
    ``limited``."""

    __slots__ = ("_calls", "amounts", "limited", "windows")

    def __init__(self, book: Book, clock: Callable[[], int] = clock_ns) -> None:
        super().__init__(book, clock)
        self._calls: deque[tuple[int, Hand]] = deque()
        self.amounts: Sequence[int] = (0,) * len(FIELDS)
        self.windows: Sequence[int] = (0,) * len(FIELDS)
        self.limited = 0

    def hold(
        self, amounts: Sequence[int], windows_ms: Sequence[int], jitter_ms: int, limited: int, until: int, good_for: int
    ) -> None:
        """Keep this slice; what was let pass before still counts. ``until``, ``good_for``: ns."""
        before = self.amounts[CONCURRENT]
        self.amounts = amounts
        self.windows = [(window + jitter_ms) * MS if window else 0 for window in windows_ms]
        self.limited = limited
        self.until, self.good_for = until, good_for
        self.concurrent = self.concurrent + amounts[CONCURRENT] - before if limited >> CONCURRENT & 1 else UNLIMITED

    def take(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        requests: int = 1,
        concurrent: int = 1,
        usd_micros: int = 0,
        network_bytes: int = 0,
    ) -> LocalPermit | None:
        """As `HeldLease.take`; None also when a window has no room, and for what is limited in flight beside calls."""
        now = self.clock()
        if len(self._calls) >= MAX_KEPT and not self._forget(now):
            return None
        self.put(self._left(now))
        permit = super().take(input_tokens, output_tokens, requests, concurrent, usd_micros, network_bytes)
        if permit is not None:
            total = input_tokens + output_tokens
            self._calls.append((now, (requests, input_tokens, output_tokens, 0, usd_micros, total, network_bytes)))
        return permit

    def _left(self, now: int) -> Hand:
        """What each window leaves now."""
        self._forget(now)
        left = [self.amounts[d] if self.limited >> d & 1 else UNLIMITED for d in ALL]
        for at, amounts in self._calls:
            for d in ALL:
                if now - at <= self.windows[d]:
                    left[d] -= amounts[d]
        left[CONCURRENT] = self.concurrent
        r, i, o, c, u, t, b = (
            amount if d == CONCURRENT or self.windows[d] or not self.limited >> d & 1 else 0
            for d, amount in enumerate(left)
        )
        return (r, i, o, c, u, t, b)

    def _forget(self, now: int) -> int:
        """Drop the calls that no window can hold any more; returns how many."""
        longest, gone = max(self.windows), 0
        while self._calls and now - self._calls[0][0] > longest:
            self._calls.popleft()
            gone += 1
        return gone


class OpenLease(HeldLease):
    """Everything passes. `HeldLease.take` counts it: what is missing from the hand was taken."""

    __slots__ = ("calls",)

    def __init__(self, book: Book, clock: Callable[[], int] = clock_ns) -> None:
        super().__init__(book, clock)
        self.calls = 0

    def take(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        requests: int = 1,
        concurrent: int = 1,
        usd_micros: int = 0,
        network_bytes: int = 0,
    ) -> LocalPermit | None:
        if not self.until:
            self.put((UNLIMITED,) * 7)
            self.until = 1 << 62
        permit = super().take(input_tokens, output_tokens, requests, concurrent, usd_micros, network_bytes)
        self.calls += permit is not None
        return permit

    def count(self) -> tuple[int, Hand]:
        """How many calls there were since the last count, and what they have used, or reserved so far."""
        hand = self.hand if self.until else (UNLIMITED,) * 7
        r, i, o, _, u, t, b = (UNLIMITED - amount for amount in hand)
        calls, self.calls = self.calls, 0
        self.put((UNLIMITED, UNLIMITED, UNLIMITED, self.concurrent, UNLIMITED, UNLIMITED, UNLIMITED))
        return calls, (max(0, r), max(0, i), max(0, o), 0, max(0, u), max(0, t), max(0, b))
