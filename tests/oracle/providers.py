"""Three strict providers. Each goes through the charges of one limit and refuses what exceeds it.

What a provider refuses takes no room there, and is a violation by whoever sent it. The proof is a span of time in which
more was charged than the model allows for a span of that length:

* by the clock: a window that begins at a multiple of its length, plus an offset;
* rolling: the window that ends with the charge, ``(at - window, at]``;
* bucket: from the moment when the bucket was last full: its capacity and what has flowed in since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from tests.oracle.history import Limit

Model = Literal["clock", "rolling", "bucket", "purse", "in_flight"]


class Row(NamedTuple):
    """One charge of one limit: when, how much, and whose."""

    at: int
    amount: int
    call: str = ""


class Violation(NamedTuple):
    """In ``[begin, end)`` these rows were charged, and no more than ``allowed`` may be; the last row was too much."""

    limit: Limit
    model: Model
    begin: int
    end: int
    allowed: int
    rows: tuple[Row, ...]

    @property
    def charged(self) -> int:
        return sum(row.amount for row in self.rows)

    def holds(self) -> bool:
        """Whether the proof adds up: every row lies in the span, and together they are too much."""
        return self.charged > self.allowed and all(self.begin <= row.at < self.end for row in self.rows)

    def __str__(self) -> str:
        last = self.rows[-1]
        return (
            f"{self.limit.scope}: {self.charged} {self.limit.dimension} in [{self.begin}, {self.end}), "
            f"{self.allowed} allowed ({self.model}); {len(self.rows)} charges, the last {last.amount} at {last.at} "
            f"by {last.call or 'somebody'}"
        )


def by_the_clock(limit: Limit, rows: Sequence[Row], offset: int = 0) -> Iterator[Violation]:
    """Windows that begin at multiples of their length, plus an offset."""
    index, used, inside = None, 0, list[Row]()
    for row in rows:
        current = (row.at - offset) // limit.window
        if current != index:
            index, used, inside = current, 0, []
        if used + row.amount <= limit.amount:
            used += row.amount
            inside.append(row)
            continue
        begin = current * limit.window + offset
        yield Violation(limit, "clock", begin, begin + limit.window, limit.amount, (*inside, row))


def rolling(limit: Limit, rows: Sequence[Row]) -> Iterator[Violation]:
    """What was charged in the last window counts, to the instant."""
    used, inside = 0, deque[Row]()
    for row in rows:
        while inside and inside[0].at <= row.at - limit.window:
            used -= inside.popleft().amount
        if used + row.amount <= limit.amount:
            used += row.amount
            inside.append(row)
            continue
        yield Violation(limit, "rolling", row.at - limit.window + 1, row.at + 1, limit.amount, (*inside, row))


def bucket(limit: Limit, rows: Sequence[Row]) -> Iterator[Violation]:
    """A bucket, full at the start, refilled at limit/window. Its level is kept in units times the window, exactly."""
    full = limit.capacity * limit.window
    level, last = full, rows[0].at if rows else 0
    since, inside = last, list[Row]()
    for row in rows:
        level += (row.at - last) * limit.amount
        last = row.at
        if level >= full:
            level, since, inside = full, row.at, []
        need = row.amount * limit.window
        if need <= level:
            level -= need
            inside.append(row)
            continue
        allowed = limit.capacity + (row.at - since) * limit.amount // limit.window
        yield Violation(limit, "bucket", since, row.at + 1, allowed, (*inside, row))


def purse(limit: Limit, rows: Sequence[Row]) -> Iterator[Violation]:
    """What is spent is spent."""
    used, inside = 0, list[Row]()
    for row in rows:
        if used + row.amount <= limit.amount:
            used += row.amount
            inside.append(row)
            continue
        yield Violation(limit, "purse", min(rows[0].at, row.at), row.at + 1, limit.amount, (*inside, row))
