"""What goes on while the limiter cannot be reached: a slice that was set aside, or calls without permits.

`IslandLease` spends a slice: so much of each dimension in any window, and J beside it. It keeps what it has let pass
for as long as that may count, to the call, so that no window, wherever it starts, sees more than the slice; calls in
flight count until they end. Nothing that a call did not use comes back: the window is not looked up again. What one
used beyond its reservation counts from its end on.

`OpenLease` lets everything pass and counts it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bursar.client.local import CONCURRENT, FIELDS, UNLIMITED, Hand, HeldLease
from bursar.client.local_book import Book, reserved_of
from bursar.client.local_permit import LocalPermit
from bursar.client.time import clock_ns

MS: Final = 1_000_000
ALL: Final = range(len(FIELDS))
MAX_KEPT: Final = 100_000
"""Calls that a slice remembers; further ones wait until the oldest have left."""


class IslandLease(HeldLease):
    """A slice: ``amounts`` in each of ``windows`` (ns, J included; 0: at any moment), of the dimensions whose bit is
    set in ``limited``. The calls of each window stand in a line of their own, so that a take costs the same however
    many there are. Its book is an `IslandBook`."""

    __slots__ = ("_lines", "_spent", "amounts", "limited", "windows")

    def __init__(self, book: Book, clock: Callable[[], int] = clock_ns) -> None:
        super().__init__(book, clock)
        self._lines: dict[int, tuple[list[int], deque[tuple[int, Hand]]]] = {}
        self._spent = [0] * len(FIELDS)
        self.amounts: Sequence[int] = (0,) * len(FIELDS)
        self.windows: Sequence[int] = (0,) * len(FIELDS)
        self.limited = 0

    def hold(
        self, amounts: Sequence[int], windows_ms: Sequence[int], jitter_ms: int, limited: int, until: int, good_for: int
    ) -> None:
        """Keep this slice; what was let pass before still counts. ``until``, ``good_for``: ns."""
        before = self.amounts[CONCURRENT]
        self.amounts = amounts
        self.limited = limited
        self.until, self.good_for = until, good_for
        self.concurrent = self.concurrent + amounts[CONCURRENT] - before if limited >> CONCURRENT & 1 else UNLIMITED
        windows = [(window + jitter_ms) * MS if window else 0 for window in windows_ms]
        if windows != self.windows:
            self._line_up(windows)

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
        self.put(self._left(now))
        if any(len(calls) >= MAX_KEPT for _, calls in self._lines.values()):
            return None
        permit = super().take(input_tokens, output_tokens, requests, concurrent, usd_micros, network_bytes)
        if permit is not None:
            self._count(now, reserved_of(permit))
        return permit

    def ended(self, permit: LocalPermit, used: Hand) -> None:
        """A call has ended; what it has used beyond its reservation counts from now on."""
        self.concurrent += permit.concurrent
        r, i, o, c, u, t, b = (max(0, mine - asked) for mine, asked in zip(used, reserved_of(permit), strict=True))
        if r | i | o | c | u | t | b:
            self._count(self.clock(), (r, i, o, c, u, t, b))

    def _count(self, now: int, amounts: Hand) -> None:
        for dimensions, calls in self._lines.values():
            calls.append((now, amounts))
            for d in dimensions:
                self._spent[d] += amounts[d]

    def _line_up(self, windows: Sequence[int]) -> None:
        """Count what was let pass in these windows."""
        longest = max(self._lines, default=0)
        calls = self._lines[longest][1] if longest else ()
        self.windows, self._lines, self._spent = windows, {}, [0] * len(FIELDS)
        for d in ALL:
            if windows[d]:
                self._lines.setdefault(windows[d], ([], deque(calls)))[0].append(d)
                self._spent[d] = sum(amounts[d] for _, amounts in calls)

    def _left(self, now: int) -> Hand:
        """What each window leaves now."""
        for window, (dimensions, calls) in self._lines.items():
            while calls and now - calls[0][0] > window:
                _, amounts = calls.popleft()
                for d in dimensions:
                    self._spent[d] -= amounts[d]
        left = [0] * len(FIELDS)
        for d in ALL:
            if not self.limited >> d & 1:
                left[d] = UNLIMITED
            elif self.windows[d]:
                left[d] = self.amounts[d] - self._spent[d]
        left[CONCURRENT] = self.concurrent
        r, i, o, c, u, t, b = left
        return (r, i, o, c, u, t, b)


class IslandBook(Book):
    """The book of a slice: every end is told to the lease."""

    __slots__ = ()

    def __init__(self, budget: str) -> None:
        super().__init__(budget)
        self.produced = True  # no permit ends without the book

    def _settle(self, permit: LocalPermit, used: Hand) -> None:
        lease = permit.lease
        assert isinstance(lease, IslandLease)
        lease.ended(permit, used)


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
