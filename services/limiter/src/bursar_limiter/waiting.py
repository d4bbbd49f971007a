"""Standing in line instead of being refused, each with a deadline: in turn among principals, first come first served
among the requests of one.

The line is volatile. Nobody in it has been promised anything, and after a take-over the agents ask again. The request
whose turn it is (the head) is never overtaken by one that would fit, so that a large one cannot starve; that is also
why somebody new joins the line even when it would fit at once.

Nor can one principal fill the line: when it is full, whoever has fewer requests in it takes the last place of him who
has most. Alone, a principal may have all of it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice, takewhile

from bursar.kernel.decider import Command
from bursar_limiter.dimensions import NOTHING, Quantities, as_quantities
from bursar_limiter.turns import Turns

UNKNOWN = -1
"""`Line.head_at` when something has changed since it was computed."""

NEVER = 1 << 62

COUNTED = 100
"""How far a principal's requests are counted for one that leaves from the middle: whoever fills a line so that all
deadlines come in the wrong order must not cost more than that for each."""


class Waiter:
    """One request in line. ``cost``: its largest share of a limit; ``deadline`` in ms of the limiter's clock; ``order``
    counts up through all lines; ``start``: see `turns`; ``why`` it was sent away (empty: it was not)."""

    __slots__ = ("also", "amounts", "command", "cost", "deadline", "gone", "order", "start", "why")

    def __init__(
        self,
        command: Command,
        amounts: Quantities,
        deadline: int,
        order: int,
        cost: int = 1,
        also: tuple[str, ...] = (),
    ) -> None:
        self.command = command
        self.amounts = amounts
        self.deadline = deadline
        self.order = order
        self.cost = cost
        self.also = also
        self.start = 0
        self.gone = False
        self.why = ""


class Queue:
    """What one principal has in a line, in order, and what that asks for together."""

    __slots__ = ("sums", "waiters")

    def __init__(self) -> None:
        self.waiters: OrderedDict[str, Waiter] = OrderedDict()
        self.sums = list(NOTHING)

    def first(self) -> Waiter:
        return next(iter(self.waiters.values()))

    def count(self, waiter: Waiter, sign: int) -> None:
        for index, amount in enumerate(waiter.amounts):
            self.sums[index] += sign * amount


class Line:
    """The line of one budget.

    ``head_at`` is when the head will fit if nothing else happens: `UNKNOWN` after a change, `NEVER` if only a
    settlement can help.
    """

    __slots__ = ("_head", "_most", "_sizes", "_turns", "head_at", "queues", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[tuple[str, str], Waiter] = {}
        self.queues: dict[str, Queue] = {}
        self.head_at = UNKNOWN
        self._head: Waiter | None = None
        self._turns = Turns()
        self._sizes: dict[int, dict[str, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self.waiters)

    def find(self, command: Command) -> Waiter | None:
        return self.waiters.get((command.principal, command.request_id))

    def head(self) -> Waiter | None:
        """Whose turn it is."""
        if self._head is None:
            self._head = self._turns.next()
        return self._head

    def join(self, waiter: Waiter) -> None:
        """Stand behind the other requests of the same principal."""
        principal, request_id, _ = waiter.command
        queue = self.queues.get(principal)
        if queue is None:
            queue = self.queues[principal] = Queue()
        self.waiters[principal, request_id] = queue.waiters[request_id] = waiter
        queue.count(waiter, 1)
        size = len(queue.waiters)
        self._resize(principal, size - 1, size)
        if size == 1:
            self._turns.enter(waiter)
        if len(self.waiters) == 1:
            self.head_at = UNKNOWN

    def leave(self, waiter: Waiter, *, granted: bool = False) -> None:
        """``granted``: it was its turn, and it counts for whose turn is next."""
        principal, request_id, _ = waiter.command
        queue = self.queues[principal]
        was_first = queue.first() is waiter
        del self.waiters[principal, request_id]
        del queue.waiters[request_id]
        queue.count(waiter, -1)
        waiter.gone = True
        size = len(queue.waiters)
        self._resize(principal, size + 1, size)
        if granted:
            self._turns.served(waiter)
        if not size:
            del self.queues[principal]
        elif was_first:
            self._turns.enter(queue.first())
        if self._head is waiter:
            self._head, self.head_at = None, UNKNOWN
        if not self.waiters:
            self._turns.clear()

    def makes_place(self, principal: str) -> Waiter | None:
        """Who has to go from a full line so that this principal gets a place in it; None when it has no right to it."""
        queue = self.queues.get(principal)
        if self._most < (len(queue.waiters) if queue is not None else 0) + 2:
            return None
        most = next(iter(self._sizes[self._most]))
        return next(reversed(self.queues[most].waiters.values()))

    def before(self, principal: str, waiter: Waiter | None = None) -> Quantities:
        """What those ask for together that are certain to go before a request, unless they give up: the head, and the
        principal's own earlier ones (of those no more than `COUNTED`). ``waiter`` None: one that would join now."""
        queue, head = self.queues.get(principal), self.head()
        asked = [] if head is None or head.command.principal == principal or head is waiter else [head.amounts]
        if queue is not None and waiter is None:
            asked.append(as_quantities(queue.sums))
        elif queue is not None:
            earlier = takewhile(lambda other: other is not waiter, islice(queue.waiters.values(), COUNTED))
            asked.extend(other.amounts for other in earlier)
        return as_quantities(sum(column) for column in zip(NOTHING, *asked, strict=True))

    def _resize(self, principal: str, before: int, after: int) -> None:
        """Keep the principals by how many requests they have in line; each step changes that by one."""
        if before:
            del self._sizes[before][principal]
            if not self._sizes[before]:
                del self._sizes[before]
        if after:
            self._sizes.setdefault(after, {})[principal] = None
        if after > self._most or self._most not in self._sizes:
            self._most = after

    def validate(self) -> None:
        """Raise AssertionError unless its parts agree."""
        assert len(self.waiters) == sum(len(queue.waiters) for queue in self.queues.values()), "waiters of a line"
        assert self._most == max((len(queue.waiters) for queue in self.queues.values()), default=0), "longest queue"
        for queue in self.queues.values():
            waiting = [waiter.amounts for waiter in queue.waiters.values()]
            assert queue.sums == [sum(column) for column in zip(*waiting, strict=True)], "sums of a queue"
        assert self._head is None or not self._head.gone, "the head has left"
        assert self.head() is not None or not self.waiters, "nobody's turn"
