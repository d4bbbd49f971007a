"""Permits without asking: what a held lease lets this process decide by itself, in about a microsecond.

A lease is an advance that the limiter has already charged to every budget object on its path, so whoever holds it may
spend it without a word, until it ends. `HeldLease.take` is one synchronous call: it looks at the clock, checks all
dimensions, debits all of them, and returns a permit; or it changes nothing and returns None. Amounts are plain
integers, and the arithmetic is written out per dimension, since a loop over them costs twice as much.

Why the sum of all holders never exceeds a limit:

* Only `HeldLease.grant` adds to the hand, with what the limiter has charged for it. `take` lets no dimension fall below
  zero; only usage beyond a reservation can, and then nothing is taken until that is covered.
* From ``until`` on nothing is taken. It is a time of this machine's clock, which also counts suspension, and lies
  before the end that the limiter keeps to by more than two clocks drift apart (`bursar.client.offset`). A process that
  was stopped finds out at its next `take`; one that was stopped right behind it finds its permit void.
* What a call did not use comes back into the hand only within the report period in which it was taken: so long the
  limiter holds it for this lease. Later it has been charged to a window, and a refund must leave that same window, so
  it is told to the limiter (`bursar.client.local_book`) instead of being spent in another one.
* Calls in flight, and output that is charged as it is produced, count until the call has ended, in whatever period.

Nothing here awaits, so one event loop needs no lock; `bursar.client.local_threads` is the same for threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from bursar.client.local_permit import HELD, LocalPermit
from bursar.client.time import clock_ns
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.local_book import Book

Hand = tuple[int, int, int, int, int, int, int]
"""An amount of each dimension, in the order of `FIELDS`."""

FIELDS: Final = (
    "requests", "input_tokens", "output_tokens", "concurrent", "usd_micros", "total_tokens", "network_bytes",
)  # fmt: skip

CONCURRENT: Final = FIELDS.index("concurrent")

NOTHING: Final[Hand] = (0, 0, 0, 0, 0, 0, 0)

UNLIMITED: Final = 1 << 60
"""The hand of a dimension that no object on the path limits: more than any period can take."""


_new: Final = object.__new__


def hand_of(amounts: Mapping[str, int]) -> Hand:
    """Amounts by name as a hand; total tokens that are not told are the sum."""
    told = amounts.get
    i, o = told("input_tokens", 0), told("output_tokens", 0)
    total = told("total_tokens", 0) or i + o
    return (told("requests", 0), i, o, told("concurrent", 0), told("usd_micros", 0), total, told("network_bytes", 0))


class HeldLease:
    """An advance in one process, for the path of budget objects of ``book.budget``.

    One integer a dimension says what may still be taken (the hand). ``until``: ns of the clock from which nothing may
    be. ``good_for``: ns within which a permit must be sent. ``period``: counts the reports to the limiter. ``book``:
    what the next report will say beside the hand.
    """

    __slots__ = (
        "book", "clock", "concurrent", "good_for", "input_tokens", "network_bytes", "output_tokens", "period",
        "requests", "total_tokens", "until", "usd_micros",
    )  # fmt: skip

    def __init__(self, book: Book, clock: Callable[[], int] = clock_ns) -> None:
        self.book = book
        self.clock = clock
        self.until = self.good_for = self.period = 0
        self.requests = self.input_tokens = self.output_tokens = self.total_tokens = 0
        self.concurrent = self.network_bytes = self.usd_micros = 0

    def __repr__(self) -> str:
        left = max(0, self.until - self.clock()) // 1_000_000
        return f"<{type(self).__name__} of {self.book.budget}, {left} ms left>"

    def take(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        requests: int = 1,
        concurrent: int = 1,
        usd_micros: int = 0,
        network_bytes: int = 0,
    ) -> LocalPermit | None:
        """A permit for one call, of all dimensions or none; None when the hand is too small or the lease is over.

        Total tokens are input and output together. Raises `CallerError` (``bad_amount``) for a negative amount, and
        TypeError for what is not an integer.
        """
        now = self.clock()
        if now >= self.until:
            return None
        if (requests | input_tokens | output_tokens | concurrent | usd_micros | network_bytes) < 0:  # any of them
            raise CallerError("bad_amount", "an amount to reserve is negative")
        tokens = input_tokens + output_tokens
        if (
            requests > self.requests
            or input_tokens > self.input_tokens
            or output_tokens > self.output_tokens
            or tokens > self.total_tokens
            or concurrent > self.concurrent
            or usd_micros > self.usd_micros
            or network_bytes > self.network_bytes
        ):
            return None
        self.requests -= requests
        self.input_tokens -= input_tokens
        self.output_tokens -= output_tokens
        self.total_tokens -= tokens
        self.concurrent -= concurrent
        self.usd_micros -= usd_micros
        if network_bytes:
            self.network_bytes -= network_bytes
        permit = _new(LocalPermit)  # written out: a call of its own costs a tenth of all this
        permit.lease = self
        permit.period = self.period
        permit.send_by_ns = now + self.good_for
        permit.requests = requests
        permit.input_tokens = input_tokens
        permit.output_tokens = output_tokens
        permit.concurrent = concurrent
        permit.usd_micros = usd_micros
        permit.network_bytes = network_bytes
        permit.status = HELD
        permit.usage = None
        return permit

    @property
    def hand(self) -> Hand:
        """What may still be taken; below zero where calls have used more than they had reserved."""
        return (
            self.requests, self.input_tokens, self.output_tokens, self.concurrent, self.usd_micros, self.total_tokens,
            self.network_bytes,
        )  # fmt: skip

    def put(self, hand: Hand) -> None:
        """Replace the hand. Only `bursar.client.local_book` does that."""
        (
            self.requests, self.input_tokens, self.output_tokens, self.concurrent, self.usd_micros, self.total_tokens,
            self.network_bytes,
        ) = hand  # fmt: skip
