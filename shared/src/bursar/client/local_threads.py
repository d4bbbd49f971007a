"""Held leases for threads: the same arithmetic, under the lock of the book.

A permit is taken in one thread and may end in another, while the thread of the event loop reports and renews; all of
them go through the lock, so each sees the account of `bursar.client.local_book` whole.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from types import TracebackType

from bursar.client.local import HeldLease
from bursar.client.local_book import Book
from bursar.client.local_permit import LocalPermit
from bursar.client.local_rate import RateLease
from bursar.client.time import clock_ns


class LockedPermit(LocalPermit):
    """A permit that may end in any thread."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lease.book.lock:
            LocalPermit.__exit__(self, kind, error, trace)

    def end(
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        usd_micros: int | None = None,
        requests: int | None = None,
        network_bytes: int | None = None,
    ) -> None:
        with self.lease.book.lock:
            LocalPermit.end(self, input_tokens, output_tokens, usd_micros, requests, network_bytes)

    def check(self) -> None:
        try:
            LocalPermit.check(self)
        except (KeyError, RuntimeError):  # a freeze has just come or gone, in the thread of the loop
            LocalPermit.check(self)

    def cancel_now(self) -> None:
        with self.lease.book.lock:
            LocalPermit.cancel_now(self)


class LockedLease(HeldLease):
    """A held lease whose permits may be taken in any thread."""

    __slots__ = ()

    def __init__(self, book: Book, clock: Callable[[], int] = clock_ns) -> None:
        super().__init__(book, clock)
        book.lock = RLock()

    def take(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        requests: int = 1,
        concurrent: int = 1,
        usd_micros: int = 0,
        network_bytes: int = 0,
    ) -> LocalPermit | None:
        with self.book.lock:
            permit = super().take(input_tokens, output_tokens, requests, concurrent, usd_micros, network_bytes)
        if permit is not None:
            permit.__class__ = LockedPermit
        return permit


class LockedRateLease(LockedLease, RateLease):
    """The same with a pace."""

    __slots__ = ()
