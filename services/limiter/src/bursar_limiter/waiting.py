"""Standing in line instead of being refused, each with a deadline: in turn among principals, first come first served
among the requests of one (that have the same priority and name the same objects).

The line is volatile. Nobody in it has been promised anything, and after a take-over the agents ask again. The request
whose turn it is (the head) is never overtaken by one that would fit, so that a large one cannot starve; that is also
why somebody new joins the line even when it would fit at once.

A line stands at every budget of the tree (`lining` says how a request goes from one to the next). In it are the
requests that name this budget, and what the lines of the budgets below offer: their heads, which fit there.

Nor can one principal fill the line: when it is full, whoever has fewer requests in it takes the last place of him who
has most. Alone, a principal may have all of it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice, takewhile
from typing import Final

from bursar.kernel.decider import Command
from bursar_limiter.dimensions import NOTHING, Quantities, as_quantities
from bursar_limiter.turns import Entry, Turns

COUNTED: Final = 100
"""How far a principal's requests are counted for one that leaves from the middle: whoever fills a line so that all
deadlines come in the wrong order must not cost more than that for each."""

STANDARD: Final = 1


class Waiter:
    """One request in line. ``cost``: its largest share of a limit; ``deadline`` in ms of the limiter's clock; ``order``
    counts up through all lines; ``also``: the objects that it names; ``rank``: its priority (0 is best); ``since``:
    when it joined; ``leaf``: the name of the budget in whose line it stands; ``why`` it was sent away (empty: it was
    not)."""

    __slots__ = ("also", "amounts", "command", "cost", "deadline", "gone", "leaf", "order", "rank", "since", "why")

    def __init__(
        self,
        command: Command,
        amounts: Quantities,
        deadline: int,
        order: int,
        cost: int = 1,
        also: tuple[str, ...] = (),
        rank: int = STANDARD,
        since: int = 0,
        leaf: str = "",
    ) -> None:
        self.command = command
        self.amounts = amounts
        self.deadline = deadline
        self.order = order
        self.cost = cost
        self.also = also
        self.rank = rank
        self.since = since
        self.leaf = leaf
        self.gone = False
        self.why = ""


class Lane:
    """The requests of one principal that have the same priority and objects, in order. ``entry``: the first one's place
    among those who take turns; None while it is kept back (``gated``) because an object that it names has no room."""

    __slots__ = ("entry", "gated", "key", "principal", "waiters")

    def __init__(self, principal: str, key: tuple[int, tuple[str, ...]]) -> None:
        self.principal = principal
        self.key = key
        self.waiters: OrderedDict[str, Waiter] = OrderedDict()
        self.entry: Entry | None = None
        self.gated = False

    def first(self) -> Waiter:
        return next(iter(self.waiters.values()))


class Queue:
    """What one principal has in a line, and what that asks for together."""

    __slots__ = ("count", "lanes", "sums")

    def __init__(self) -> None:
        self.lanes: dict[tuple[int, tuple[str, ...]], Lane] = {}
        self.sums = list(NOTHING)
        self.count = 0

    def add(self, waiter: Waiter, sign: int) -> None:
        self.count += sign
        for index, amount in enumerate(waiter.amounts):
            self.sums[index] += sign * amount


class Line:
    """The line of one budget. ``offers``: what the budgets below offer, by their names."""

    __slots__ = ("_head", "_most", "_sizes", "offers", "queues", "turns", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[tuple[str, str], Waiter] = {}
        self.queues: dict[str, Queue] = {}
        self.offers: dict[str, Entry] = {}
        self.turns = Turns()
        self._head: Entry | None = None
        self._sizes: dict[int, dict[str, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        """How many requests that name this budget."""
        return len(self.waiters)

    @property
    def is_idle(self) -> bool:
        """Whether nobody takes turns here: then a new request that fits may go at once."""
        return not self.turns.count

    def find(self, command: Command) -> Waiter | None:
        return self.waiters.get((command.principal, command.request_id))

    def head(self, now: int = 0) -> Waiter | None:
        """Whose turn it is."""
        entry = self.head_entry(now)
        return None if entry is None else entry.waiter

    def head_entry(self, now: int) -> Entry | None:
        if self._head is None or self._head.gone:
            self._head = self.turns.next(now)
        return self._head

    # -- requests that name this budget

    def join(self, waiter: Waiter, *, gated: bool = False) -> Lane:
        """Stand behind the other requests of the same principal. ``gated``: it may not take turns yet."""
        principal, request_id, _ = waiter.command
        queue = self.queues.get(principal)
        if queue is None:
            queue = self.queues[principal] = Queue()
        key = waiter.rank, waiter.also
        lane = queue.lanes.get(key)
        if lane is None:
            lane = queue.lanes[key] = Lane(principal, key)
        self.waiters[principal, request_id] = lane.waiters[request_id] = waiter
        queue.add(waiter, 1)
        self._resize(principal, queue.count - 1, queue.count)
        if len(lane.waiters) == 1:
            lane.gated = gated
            if not gated:
                self.admit(lane, waiter.since)
        return lane

    def admit(self, lane: Lane, now: int) -> None:
        """The first one of a lane takes turns from now on."""
        lane.gated = False
        first = lane.first()
        lane.entry = Entry(lane.principal, first, first.rank, now, first.cost)
        self._enter(lane.entry)

    def keep_back(self, lane: Lane) -> None:
        """The first one of a lane takes no turns for now."""
        if lane.entry is not None:
            self._remove(lane.entry)
        lane.entry, lane.gated = None, True

    def leave(self, waiter: Waiter, *, granted: bool = False, now: int = 0, gated: bool = False) -> Lane | None:
        """``granted``: it was its turn, and it counts for whose turn is next. Returns the lane if its next one is kept
        back (``gated``) for now."""
        principal, request_id, _ = waiter.command
        queue = self.queues[principal]
        lane = queue.lanes[waiter.rank, waiter.also]
        was_first = lane.first() is waiter
        del self.waiters[principal, request_id]
        del lane.waiters[request_id]
        queue.add(waiter, -1)
        waiter.gone = True
        self._resize(principal, queue.count + 1, queue.count)
        if was_first and lane.entry is not None:
            if granted:
                self.turns.served(lane.entry)
            self._remove(lane.entry)
            lane.entry = None
        if not lane.waiters:
            del queue.lanes[lane.key]
            if not queue.count:
                del self.queues[principal]
        elif was_first:
            lane.gated = gated
            if not gated:
                self.admit(lane, now)
        self._rest()
        return lane if lane.waiters and was_first and gated else None

    # -- what the budgets below offer

    def offer(self, child: str, waiter: Waiter, rank: int, now: int, cost: int, weight: int) -> bool:
        """The head of a line below fits there; returns whether that is new here."""
        known = self.offers.get(child)
        if known is not None and known.waiter is waiter and not known.gone:
            return False
        self.retract(child)
        entry = self.offers[child] = Entry(f"/{child}", waiter, rank, now, cost, weight)
        self._enter(entry)
        return True

    def retract(self, child: str, *, granted: bool = False) -> bool:
        """The line below offers nothing any more; returns whether it had."""
        entry = self.offers.pop(child, None)
        if entry is None:
            return False
        if granted:
            self.turns.served(entry)
        self._remove(entry)
        self._rest()
        return True

    def _enter(self, entry: Entry) -> None:
        head = self._head
        self.turns.enter(entry)
        if head is not None and not head.gone and entry.rank < head.rank:
            self.turns.put_back(head)
            self._head = None

    def _remove(self, entry: Entry) -> None:
        self.turns.remove(entry)
        if self._head is entry:
            self._head = None

    def _rest(self) -> None:
        if not self.waiters and not self.offers:
            self.turns.clear()
            self._head = None

    # -- how much, and whose

    def makes_place(self, principal: str) -> Waiter | None:
        """Who has to go from a full line so that this principal gets a place in it; None when it has no right to it."""
        queue = self.queues.get(principal)
        if self._most < (queue.count if queue is not None else 0) + 2:
            return None
        most = self.queues[next(iter(self._sizes[self._most]))]
        return max((next(reversed(lane.waiters.values())) for lane in most.lanes.values()), key=lambda last: last.order)

    def before(self, principal: str, waiter: Waiter | None = None, now: int = 0) -> Quantities:
        """What those ask for together that are certain to go before a request, unless they give up: the head, and the
        principal's own earlier ones (of those no more than `COUNTED`). ``waiter`` None: one that would join now."""
        queue, head = self.queues.get(principal), self.head(now)
        asked = [] if head is None or head.command.principal == principal or head is waiter else [head.amounts]
        if queue is not None and waiter is None:
            asked.append(as_quantities(queue.sums))
        elif queue is not None and waiter is not None:
            lane = queue.lanes[waiter.rank, waiter.also]
            earlier = takewhile(lambda other: other is not waiter, islice(lane.waiters.values(), COUNTED))
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
        lanes = [lane for queue in self.queues.values() for lane in queue.lanes.values()]
        assert len(self.waiters) == sum(len(lane.waiters) for lane in lanes), "waiters of a line"
        assert self._most == max((queue.count for queue in self.queues.values()), default=0), "longest queue"
        for queue in self.queues.values():
            waiting = [waiter.amounts for lane in queue.lanes.values() for waiter in lane.waiters.values()]
            assert queue.count == len(waiting), "count of a queue"
            assert queue.sums == [sum(column) for column in zip(*waiting, strict=True)], "sums of a queue"
        entered = [lane for lane in lanes if lane.entry is not None]
        assert all(lane.entry is not None and lane.entry.waiter is lane.first() for lane in entered), "who takes turns"
        assert all(lane.gated != (lane.entry is not None) for lane in lanes), "kept back, or taking turns"
        assert self.turns.count == len(entered) + len(self.offers), "how many take turns"
        assert self._head is None or self._head.gone or self._head.weight >= 1, "the head"
