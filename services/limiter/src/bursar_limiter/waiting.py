"""Standing in line instead of being refused: first come, first served, each with a deadline.

The line is volatile. Nobody in it has been promised anything, and after a take-over the agents ask again. A request
at the head is never overtaken by one that would fit, so that a large one cannot starve; that is also why somebody new
joins the end even when it would fit at once.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice, takewhile

from bursar.kernel.decider import Command
from bursar_limiter.dimensions import Quantities

UNKNOWN = -1
"""`Line.head_at` when something has changed since it was computed."""

NEVER = 1 << 62

COUNTED = 100
"""How far a line is counted for somebody who leaves it from the middle: whoever fills a line so that all deadlines
come in the wrong order must not cost more than that for each."""


class Waiter:
    """One request in line. ``deadline`` in ms of the limiter's clock; ``order`` counts up through all lines."""

    __slots__ = ("amounts", "command", "deadline", "gone", "order")

    def __init__(self, command: Command, amounts: Quantities, deadline: int, order: int) -> None:
        self.command = command
        self.amounts = amounts
        self.deadline = deadline
        self.order = order
        self.gone = False


class Line:
    """The line of one budget, and what those in it ask for together.

    ``head_at`` is when the head will fit if nothing else happens: `UNKNOWN` after a change, `NEVER` if only a
    settlement can help.
    """

    __slots__ = ("head_at", "sums", "waiters")

    def __init__(self) -> None:
        self.waiters: OrderedDict[tuple[str, str], Waiter] = OrderedDict()
        self.sums = [0, 0, 0, 0, 0]
        self.head_at = UNKNOWN

    def __len__(self) -> int:
        return len(self.waiters)

    def find(self, command: Command) -> Waiter | None:
        return self.waiters.get((command.principal, command.request_id))

    def head(self) -> Waiter | None:
        return next(iter(self.waiters.values()), None)

    def join(self, waiter: Waiter) -> None:
        self.waiters[waiter.command.principal, waiter.command.request_id] = waiter
        self._count(waiter, 1)
        if len(self.waiters) == 1:
            self.head_at = UNKNOWN

    def leave(self, waiter: Waiter) -> None:
        if self.head() is waiter:
            self.head_at = UNKNOWN
        del self.waiters[waiter.command.principal, waiter.command.request_id]
        self._count(waiter, -1)
        waiter.gone = True

    def ahead_of(self, waiter: Waiter | None) -> tuple[int, Quantities]:
        """How many stand before this one (None: somebody new), and what they ask for together; for one in the line
        at least so many: no more than `COUNTED` are looked at."""
        if waiter is None:
            return len(self.waiters), (self.sums[0], self.sums[1], self.sums[2], self.sums[3], self.sums[4])
        before = takewhile(lambda other: other is not waiter, islice(self.waiters.values(), COUNTED))
        asked = [other.amounts for other in before]
        r, i, o, c, u = (sum(column) for column in zip((0, 0, 0, 0, 0), *asked, strict=True))
        return len(asked), (r, i, o, c, u)

    def _count(self, waiter: Waiter, sign: int) -> None:
        for index, amount in enumerate(waiter.amounts):
            self.sums[index] += sign * amount
