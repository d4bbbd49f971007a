"""Tasks for the tests of the order, and the order said again without any heap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bursar_scheduler.accounts import Who
from bursar_scheduler.fairness import Ledger
from bursar_scheduler.ordering import Line, choose, late_at, rank, start_by


class Call:
    """A task as the order sees it."""

    def __init__(
        self, order: int, who: Who, at: int = 0, *, band: int = 1, deadline_at: int = 0, expected_ms: int = 0
    ) -> None:
        self.order = order
        self.who = who
        self.submitted_at = at
        self.band = band
        self.deadline_at = deadline_at
        self.expected_ms = expected_ms
        self.listed = False
        self.token = f"1.1.{order}"

    def __repr__(self) -> str:
        return f"{self.who.agent}/{self.who.program}#{self.order}"


class Yard:
    """Lanes, their ledger, and slots that any call may have."""

    def __init__(self, lanes: int = 1, rule: str = "plas") -> None:
        self.ledger = Ledger(rule)
        self.lines: list[Line[Call]] = [Line(self.ledger) for _ in range(lanes)]
        self.lane_of: dict[int, int] = {}
        self.waiting: list[Call] = []
        self.running: list[Call] = []
        self.now = 0

    def submit(self, call: Call, lane: int = 0) -> Call:
        self.ledger.admit(call.who)
        self.lane_of[call.order] = lane
        self.put(call)
        return call

    def put(self, call: Call) -> None:
        call.listed = True
        self.lines[self.lane_of[call.order]].join(call, self.now)
        self.waiting.append(call)

    def next(self, lanes: Sequence[int] | None = None) -> Call | None:
        return choose([self.lines[lane] for lane in lanes or range(len(self.lines))], self.now)

    def take(self, call: Call, charge: int = 1) -> None:
        call.listed = False
        self.lines[self.lane_of[call.order]].leave(call)
        self.waiting.remove(call)
        self.running.append(call)
        waited = self.now - call.submitted_at
        self.ledger.begin(call.who, call.token, self.now, charge, waited=waited)

    def end(self, call: Call) -> None:
        self.running.remove(call)
        self.ledger.end(call.token, self.now)
        self.ledger.retire(call.who)

    def preempt(self, call: Call) -> None:
        """It stops and waits again."""
        self.running.remove(call)
        self.ledger.end(call.token, self.now)
        self.put(call)


def chosen_plainly(yard: Yard, lanes: Sequence[int]) -> Call | None:
    """What `choose` has to say, by looking at everything; without programs that starve."""
    for band in range(3):
        mine = [_in(yard, lane, band) for lane in lanes]
        heads = [head for calls in mine for head in _heads(yard, calls)]
        if not heads:
            continue
        chosen = min(heads, key=lambda call: _key(yard, call))
        below = [_oldest(yard, _in(yard, lane, lower)) for lane in lanes for lower in range(band + 1, 3)]
        aged = min((rank(call) for call in below if call), default=None)
        first = min([rank(chosen), *(rank(call) for calls in mine if (call := _oldest(yard, calls)))])
        if aged is None or first <= aged:
            return chosen
        return next(call for call in below if call and rank(call) == aged)
    return None


def _in(yard: Yard, lane: int, band: int) -> list[Call]:
    return [call for call in yard.waiting if yard.lane_of[call.order] == lane and call.band == band]


def _oldest(yard: Yard, calls: list[Call]) -> Call | None:
    """The one that has waited for longest, if no quota keeps it."""
    oldest = min(calls, key=_age, default=None)
    return None if oldest is None or yard.ledger.held(oldest.who) else oldest


def _heads(yard: Yard, calls: list[Call]) -> list[Call]:
    """The one that goes first of each team in a lane."""
    heads = []
    for team in {call.who.team: None for call in calls}:
        free = [call for call in calls if call.who.team == team and not yard.ledger.held(call.who)]
        agents = {call.who.agent: [other for other in free if other.who.agent == call.who.agent] for call in free}
        if agents:
            agent = min(agents.values(), key=lambda calls: (_share(yard, calls[0]), min(map(_age, calls))))
            heads.append(min(agent, key=lambda call: _key(yard, call)))
    return heads


def _age(call: Call) -> tuple[int, int]:
    return call.submitted_at, call.order


def _share(yard: Yard, call: Call) -> tuple[Any, ...]:
    team, agent = yard.ledger.team(call.who), yard.ledger.agent(call.who)
    return team.borrows, team.virtual(yard.now), agent.borrows, agent.virtual(yard.now)


def _key(yard: Yard, call: Call) -> tuple[Any, ...]:
    """Of a late call its own, else that of the first call of its program in its lane, which stands for the others."""
    if call.deadline_at and late_at(call) <= yard.now:
        return (*_share(yard, call), -1, late_at(call), call.order)
    siblings = [other for other in _in(yard, yard.lane_of[call.order], call.band) if other.who == call.who]
    head = min(siblings, key=lambda other: (start_by(other), other.order))
    level = yard.ledger.level(yard.ledger.program(call.who), yard.now)
    return (*_share(yard, call), level, *_age(head), 0 if head is call else 1)
