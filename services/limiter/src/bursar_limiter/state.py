"""The limiter's state: what the journal rebuilds, and beside it the volatile part (lines, counters of refusals).

`dump` is canonical: it tells the durable part as of the last event, so that equal histories give equal dumps,
whatever was asked and refused in between. `load` is its inverse. `validate` checks what must hold between the parts.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from heapq import heapify, heappush
from typing import Any, NamedTuple

from bursar.contracts.limiter import BudgetSpec
from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.budget import Budget, Reservation
from bursar_limiter.dimensions import Quantities
from bursar_limiter.waiting import Waiter

REMEMBER_MS = 600_000
"""Ended reservations are remembered for at least so long (unless more end than `REMEMBER_COUNT`)."""

REMEMBER_COUNT = 50_000

NOTED = 10_000
"""So many requests that left a line are remembered, for their withdrawal."""

WITHDRAWN = ""
"""In place of a reservation: the request was withdrawn."""

NOTHING: Quantities = (0, 0, 0, 0, 0)


class Ended(NamedTuple):
    """How a reservation ended. ``amounts``: what was charged at the time-out, to tell a late report's overage."""

    principal: str
    state: str
    at: int
    budget: str
    amounts: Quantities


class State:
    """All that the decider knows. Durable: ``at`` (time of the last event) to ``lost_at`` (when entries were found
    lost; -1: never); the rest is volatile or made from the durable part (``agenda``: the next time-out of each
    budget; ``decided``: see `note`; ``orphans``: who has been sent away from a line and is to be told so)."""

    __slots__ = (
        "agenda",
        "at",
        "budgets",
        "deadlines",
        "decided",
        "ended",
        "ended_before",
        "ended_since",
        "handed",
        "live",
        "lost_at",
        "order",
        "orphans",
        "source",
        "standing",
        "tidy_at",
    )

    def __init__(self) -> None:
        self.at = 0
        self.budgets: dict[str, Budget] = {}
        self.live: dict[str, Reservation] = {}
        self.ended: dict[str, Ended] = {}
        self.ended_before: dict[str, Ended] = {}
        self.ended_since = 0
        self.source = ""
        self.lost_at = -1
        self.agenda: list[tuple[int, str]] = []
        self.deadlines: list[tuple[int, int, Waiter]] = []
        self.decided: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.standing: dict[str, Budget] = {}
        self.orphans: deque[Waiter] = deque()
        self.handed: Waiter | None = None
        self.order = 0
        self.tidy_at = 64

    def how_ended(self, reservation: str) -> Ended | None:
        return self.ended.get(reservation) or self.ended_before.get(reservation)

    def remember(self, reservation: str, ended: Ended) -> None:
        """Keep how it ended; two generations, so that forgetting costs nothing per entry."""
        if ended.at - self.ended_since >= REMEMBER_MS or len(self.ended) >= REMEMBER_COUNT:
            self.ended_before, self.ended, self.ended_since = self.ended, {}, ended.at
        self.ended[reservation] = ended

    def wait(self, budget: Budget, waiter: Waiter) -> None:
        """Note that a waiter stands in a budget's line, and until when."""
        self.standing[budget.name] = budget
        if len(self.deadlines) >= self.tidy_at:
            self.deadlines = [entry for entry in self.deadlines if not entry[2].gone]
            heapify(self.deadlines)
            self.tidy_at = 2 * len(self.deadlines) + 64
        heappush(self.deadlines, (waiter.deadline, waiter.order, waiter))

    def send_away(self, budget: Budget, waiter: Waiter, why: str) -> None:
        """Take somebody out of line; `due` hands him out, to be told why."""
        budget.line.leave(waiter)
        if not budget.line:
            del self.standing[budget.name]
        waiter.why = why
        self.orphans.append(waiter)

    def note(self, key: tuple[str, str], what: str) -> None:
        """What has become of a request that stood, or might yet stand, in line: a reservation, or `WITHDRAWN`."""
        self.decided[key] = what
        if len(self.decided) > NOTED:
            self.decided.popitem(last=False)

    def schedule(self, budget: Budget) -> None:
        """See to it that the agenda has the next time-out of this budget."""
        upcoming = budget.next_expiry()
        if upcoming is None:
            budget.agenda_at = 0
        elif not budget.agenda_at or upcoming[0] < budget.agenda_at:
            budget.agenda_at = upcoming[0]
            heappush(self.agenda, (upcoming[0], budget.name))


def dump(state: State) -> dict[str, Any]:
    return {
        "at": state.at,
        "source": state.source,
        "lost_at": state.lost_at,
        "budgets": [_dump_budget(budget, state.at) for budget in state.budgets.values()],
        "live": [
            [key, *entry[:4], *entry.amounts, entry.charged]
            for key, entry in ({} if seeded(bugs.NOT_DUMPED) else state.live).items()
        ],
        "ended": [[key, *entry[:4], *entry.amounts] for key, entry in state.ended.items()],
        "ended_before": [[key, *entry[:4], *entry.amounts] for key, entry in state.ended_before.items()],
        "ended_since": state.ended_since,
    }


def load(value: Any) -> State:
    state = State()
    state.at, state.source, state.lost_at = value["at"], value["source"], value["lost_at"]
    state.ended_since = value["ended_since"]
    for key, budget, principal, granted_at, expires_at, r, i, o, c, u, charged in value["live"]:
        state.live[key] = Reservation(budget, principal, granted_at, expires_at, (r, i, o, c, u), charged)
    for generation, entries in ((state.ended, value["ended"]), (state.ended_before, value["ended_before"])):
        for key, principal, how, at, budget, r, i, o, c, u in entries:
            generation[key] = Ended(principal, how, at, budget, (r, i, o, c, u))
    for entry in value["budgets"]:
        budget = _load_budget(entry, state.live)
        state.budgets[budget.name] = budget
    for key, reservation in state.live.items():
        budget = state.budgets[reservation.budget]
        budget.hold(reservation.principal, 1)
        budget.expiries.append((reservation.expires_at, key))
        for meter in budget.meters:
            meter.in_flight += reservation.amounts[meter.index]
    for budget in state.budgets.values():
        if seeded(bugs.EXPIRY_LOST):
            budget.expiries.clear()
        heapify(budget.expiries)
        state.schedule(budget)
    return state


def _dump_budget(budget: Budget, at: int) -> list[Any]:
    meters = [meter.dump(at) for meter in budget.meters]
    spec = budget.spec.model_dump(mode="json", exclude_defaults=True)
    return [spec, budget.retired, budget.granted, budget.recovering_until, meters]


def _load_budget(value: Any, live: dict[str, Reservation]) -> Budget:
    spec, retired, granted, recovering_until, meters = value
    budget = Budget(BudgetSpec.model_validate(spec), live)
    budget.retired, budget.granted, budget.recovering_until = retired, granted, recovering_until
    for meter, kept in zip(budget.meters, meters, strict=True):
        meter.load(kept)
    return budget


def validate(state: State, now: int) -> None:
    """Raise AssertionError unless the parts of the state agree with one another."""
    assert not state.live.keys() & (state.ended.keys() | state.ended_before.keys()), "a reservation lives and has ended"
    for budget in state.budgets.values():
        mine = [entry for entry in state.live.values() if entry.budget == budget.name]
        assert budget.count == len(mine), f"{budget.name}: count of reservations"
        keys = {key for key, entry in state.live.items() if entry.budget == budget.name}
        assert keys <= {key for _, key in budget.expiries}, f"{budget.name}: time-outs"
        assert not mine or 0 < budget.agenda_at <= min(entry.expires_at for entry in mine), f"{budget.name}: agenda"
        for meter in budget.meters:
            flying = sum(entry.amounts[meter.index] for entry in mine)
            assert meter.in_flight == flying, f"{budget.name}: in flight of dimension {meter.index}"
            meter.validate(now)
        assert budget.held == Counter(entry.principal for entry in mine), f"{budget.name}: who holds how many"
        budget.line.validate()
        assert (budget.name in state.standing) == bool(budget.line), f"{budget.name}: standing"
