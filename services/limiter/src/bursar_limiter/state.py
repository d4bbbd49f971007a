"""The limiter's state: what the journal rebuilds, and beside it the volatile part (lines, counters of refusals).

`dump` is canonical: it tells the durable part as of the last event, so that equal histories give equal dumps,
whatever was asked and refused in between. `load` is its inverse (`storing`). `validate` checks what must hold between
the parts (`checking`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from heapq import heapify, heappush
from typing import Final, NamedTuple

from bursar.kernel.rights import Rights
from bursar_limiter.adapting_state import Adapting
from bursar_limiter.budget import SPARE, Budget, Reservation
from bursar_limiter.dimensions import Quantities
from bursar_limiter.leasing_records import Leases
from bursar_limiter.path import Path
from bursar_limiter.waiting import Lane, Waiter

REMEMBER_MS: Final = 600_000
"""Ended reservations are remembered for at least so long (unless more end than `REMEMBER_COUNT`)."""

REMEMBER_COUNT: Final = 50_000

NOTED: Final = 10_000
"""So many requests that left a line are remembered, for their withdrawal."""

LEVELS: Final = 12
"""More than the levels of most trees; deeper ones get more."""

MAX_PATHS: Final = 4_096
"""So many paths with objects of the request's own are kept ready."""

WITHDRAWN: Final = ""
"""In place of a reservation: the request was withdrawn."""


class Ended(NamedTuple):
    """How a reservation ended. ``amounts``: what was charged at the time-out, to tell a late report's overage."""

    principal: str
    state: str
    at: int
    budget: str
    amounts: Quantities
    also: tuple[str, ...] = ()


class Gate:
    """Who waits for an object beside the tree: a heap of (order of joining, order of waiting, request, lane).
    ``kept_for``: for whom alone it is; ``alarm_at``: when it is looked at again (0: not by time)."""

    __slots__ = ("alarm_at", "heap", "kept_for")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Waiter, Lane]] = []
        self.kept_for: Waiter | None = None
        self.alarm_at = 0


class State:
    """All that the decider knows. Durable: ``at`` (time of the last event) to ``ordinal`` (grants so far), with
    ``lost_at`` (when entries were found lost; -1: never) and ``spent`` (see `spending`). The rest is volatile or made
    from the durable part:
    ``expiries`` (time-outs of all reservations), ``paths``, ``decided`` (see `note`), ``orphans`` (who has been sent
    away from a line and is to be told so)."""

    __slots__ = (
        "adapting",
        "alarms",
        "at",
        "budgets",
        "deadlines",
        "decided",
        "dirty",
        "dirty_gates",
        "ended",
        "ended_before",
        "ended_since",
        "expiries",
        "gates",
        "handed",
        "leases",
        "live",
        "lost_at",
        "order",
        "ordinal",
        "orphans",
        "parked",
        "paths",
        "rights",
        "source",
        "spent",
        "standing",
        "tidy_at",
        "tidy_expiries",
    )

    def __init__(self) -> None:
        self.at = 0
        self.budgets: dict[str, Budget] = {}
        self.live: dict[str, Reservation] = {}
        self.ended: dict[str, Ended] = {}
        self.ended_before: dict[str, Ended] = {}
        self.ended_since = 0
        self.source = ""
        self.rights: Rights | None = None
        self.lost_at = -1
        self.ordinal = 0
        self.spent: dict[tuple[str, str], list[int]] = {}
        self.adapting = Adapting()
        self.expiries: list[tuple[int, str]] = []
        self.tidy_expiries = SPARE
        self.paths: dict[tuple[str, tuple[str, ...]], Path] = {}
        self.deadlines: list[tuple[int, int, Waiter]] = []
        self.decided: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.dirty: list[dict[str, None]] = [{} for _ in range(LEVELS)]
        self.dirty_gates: dict[str, None] = {}
        self.gates: dict[str, Gate] = {}
        self.alarms: list[tuple[int, str, bool]] = []
        self.standing: dict[str, Budget] = {}
        self.parked: dict[tuple[str, str], Waiter] = {}
        self.orphans: deque[Waiter] = deque()
        self.handed: Waiter | None = None
        self.leases = Leases()
        self.order = 0
        self.tidy_at = SPARE

    # -- paths

    def path_of(self, leaf: Budget, also: tuple[str, ...] = ()) -> Path:
        """All that a reservation of this leaf takes from, with the objects that the request names itself."""
        if not also:
            path = leaf.path
            if path is None:
                path = leaf.path = Path(leaf)
            return path
        found = self.paths.get((leaf.name, also))
        if found is None:
            if len(self.paths) >= MAX_PATHS:
                self.paths.clear()
            declared = [self.budgets[name] for name in also if name in self.budgets]
            named = [budget for budget in declared if budget.base is None]
            found = self.paths[leaf.name, also] = Path(leaf, also, named)
        return found

    def forget_paths(self) -> None:
        """The tree has changed, or something recovers."""
        self.paths.clear()
        for budget in self.budgets.values():
            budget.path = None

    # -- reservations

    def begin(self, key: str, path: Path, reservation: Reservation) -> None:
        """A reservation lives from now on; its amounts are charged by the caller."""
        self.live[key] = reservation
        path.leaf.hold(reservation.principal)
        expires_at = reservation.expires_at
        entry = expires_at, key
        for node in path.watchers:
            if len(node.expiries) >= node.tidy_at:
                node.tidy()
            heappush(node.expiries, entry)
        if len(self.expiries) >= self.tidy_expiries:
            self.expiries = [other for other in self.expiries if other[1] in self.live]
            heapify(self.expiries)
            self.tidy_expiries = 2 * len(self.expiries) + SPARE
        heappush(self.expiries, entry)

    def changed(self, path: Path) -> None:
        """Room was made, or taken, in these objects otherwise than by a grant: lines look at their time again."""
        if self.standing:
            self.mark(path)

    def mark(self, path: Path) -> None:
        """The lines of this path are to be looked at."""
        for node in path.tree:
            if node.has_line:
                self.look_at(node)
        for link in path.links:
            if link.name in self.gates:
                self.dirty_gates[link.name] = None

    def look_at(self, budget: Budget) -> None:
        """The line of one budget is to be looked at: after those below it, so that it knows what these offer."""
        while budget.depth >= len(self.dirty):
            self.dirty.append({})
        self.dirty[budget.depth][budget.name] = None

    def changed_all(self) -> None:
        """As `changed`, everywhere."""
        for budget in self.budgets.values():
            if budget.has_line:
                self.look_at(budget)
        self.dirty_gates.update(dict.fromkeys(self.gates))

    def how_ended(self, reservation: str) -> Ended | None:
        return self.ended.get(reservation) or self.ended_before.get(reservation)

    def remember(self, reservation: str, now: int, ended: Ended) -> None:
        """Keep how it ended; two generations, so that forgetting costs nothing per entry."""
        if now - self.ended_since >= REMEMBER_MS or len(self.ended) >= REMEMBER_COUNT:
            self.ended_before, self.ended, self.ended_since = self.ended, {}, now
        self.ended[reservation] = ended

    # -- lines

    def wait(self, budget: Budget, waiter: Waiter) -> None:
        """Note that a waiter stands in a budget's line, and until when."""
        self.standing[budget.name] = budget
        self.look_at(budget)
        self.parked[waiter.command[:2]] = waiter
        if len(self.deadlines) >= self.tidy_at:
            self.deadlines = [entry for entry in self.deadlines if not entry[2].gone]
            heapify(self.deadlines)
            self.tidy_at = 2 * len(self.deadlines) + SPARE
        heappush(self.deadlines, (waiter.deadline, waiter.order, waiter))

    def note(self, key: tuple[str, str], what: str) -> None:
        """What has become of a request that stood, or might yet stand, in line: a reservation, or `WITHDRAWN`."""
        self.decided[key] = what
        if len(self.decided) > NOTED:
            self.decided.popitem(last=False)
