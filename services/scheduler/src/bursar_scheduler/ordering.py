"""Which waiting task goes next.

1. *Band*: reactive before standard before proactive. A standard task that has waited for 60 s goes before a reactive
   one that has just come, a proactive one after 300 s (`HEAD_START`), so that nobody waits for ever.
2. *Team, then agent*: within their own slots before those that borrow; then the lowest virtual time (`fairness`).
3. *Program* of that agent: first calls that come too late if they wait on; then the one in the lowest level of service,
   or that has starved; then first come, first served.
4. *Call* of that program: by the time at which it has to start, which for a call without deadline is `PATIENCE_MS`
   after it came; so deadlines go by least slack, all others in their order, and neither starves the other.

One `Line` holds the waiting tasks of one lane. All of it is volatile and made again from the tasks; what it says is a
function of them, of the ledger and of the time. Costs: a step of a heap (`turns`) on each level, as virtual times and
levels only grow while nothing ends; whoever ends something tells (`wake`).
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, Final, Generic, Protocol, TypeVar

from bursar_scheduler.accounts import Account, Who
from bursar_scheduler.fairness import Ledger
from bursar_scheduler.turns import SPARE, Key, Listing, Turns

HEAD_START: Final = (0, 60_000, 300_000)
"""Milliseconds by which a band stands behind the first one: strict priority, until somebody has waited for so long."""

PATIENCE_MS: Final = 60_000
"""A call without deadline stands in its program as if it had to start by then."""

LEAST_SLACK_MS: Final = 1_000
"""A call is late when its slack is below its expected run time and this."""


class Waiting(Protocol):
    """What the order has to know of a task. ``deadline_at`` 0: none. ``listed``: whether it waits here now."""

    band: int
    order: int
    submitted_at: int
    deadline_at: int
    listed: bool

    @property
    def who(self) -> Who: ...

    @property
    def expected_ms(self) -> int: ...


T = TypeVar("T", bound=Waiting)


class _ProgramLine(Generic[T]):
    """The waiting calls of one program, by when they have to start. ``watched``: it may starve, and is looked at."""

    __slots__ = ("_account", "_agent", "_calls", "_ledger", "count", "promoted", "watched", "who")

    def __init__(self, ledger: Ledger, agent: _AgentLine[T], who: Who) -> None:
        self._ledger = ledger
        self._agent = agent
        self._account: Account = ledger.program(who)
        self._account.changed[self] = None
        self._calls: Listing[T] = Listing()
        self.who = who
        self.count = 0
        self.promoted = False
        self.watched = False

    def close(self) -> None:
        self._account.changed.pop(self, None)

    def wake(self) -> None:
        if self.count:
            self._agent.stale[self] = None

    def join(self, task: T) -> None:
        self.count += 1
        self._calls.add(start_by(task), task)

    def leave(self) -> None:
        self.count -= 1
        self.promoted = False
        self._calls.trim(self.count)

    def head(self) -> T:
        first = self._calls.first()
        assert first is not None, "a line is asked only while somebody waits in it"
        return first

    def key(self, now: int) -> Key:
        head = self.head()
        return (0 if self.promoted else self._ledger.level(self._account, now), head.submitted_at, head.order)

    def starves_at(self, now: int) -> int:
        return self._ledger.starves_at(self._account, self.head().submitted_at, now)


class _AgentLine(Generic[T]):
    """The programs of one agent that have waiting calls, and its calls with deadlines by when they are late. Among
    agents that stand alike the one goes first whose oldest call came first."""

    __slots__ = (
        "_late",
        "_ledger",
        "_oldest",
        "_programs",
        "_starving",
        "_team",
        "_turns",
        "account",
        "count",
        "stale",
    )

    def __init__(self, ledger: Ledger, team: _TeamLine[T], who: Who) -> None:
        self._ledger = ledger
        self._team = team
        self.account: Account = ledger.agent(who)
        self.account.changed[self] = None
        self.count = 0
        self.stale: dict[_ProgramLine[T], None] = {}
        self._programs: dict[str, _ProgramLine[T]] = {}
        self._turns: Turns[_ProgramLine[T]] = Turns()
        self._late: Listing[T] = Listing()
        self._oldest: Listing[T] = Listing()
        self._starving: list[tuple[int, int, _ProgramLine[T]]] = []

    def close(self) -> None:
        self.account.changed.pop(self, None)
        for line in self._programs.values():
            line.close()

    def wake(self) -> None:
        if self.count:
            self._team.stale[self] = None

    def key(self, now: int) -> Key:
        oldest = self._oldest.first()
        assert oldest is not None, "an agent takes turns only while somebody waits in its line"
        return (self.account.borrows, self.account.virtual(now), oldest.submitted_at, oldest.order)

    def join(self, task: T, now: int) -> None:
        self._oldest.add(task.submitted_at, task)
        if self._oldest.first() is task:
            self._team.stale[self] = None
        line = self._programs.get(task.who.program)
        if line is None:
            line = self._programs[task.who.program] = _ProgramLine(self._ledger, self, task.who)
            _drop_idle(self._programs)
        line.join(task)
        self.count += 1
        if line.head() is task:
            self._turns.push(line, now)
        if not line.watched:
            line.watched = True
            heappush(self._starving, (line.starves_at(now), task.order, line))
        if task.deadline_at:
            self._late.add(late_at(task), task)

    def leave(self, task: T) -> None:
        self.count -= 1
        line = self._programs[task.who.program]
        line.leave()
        self.stale[line] = None
        self._late.trim(self.count)
        self._oldest.trim(self.count)

    def head(self, now: int) -> tuple[Key, T]:
        """Its next call, and how it stands against calls of the same agent in other lanes."""
        self._refresh(now)
        late = self._late.first()
        if late is not None and self._late.first_at() <= now:
            return (-1, self._late.first_at(), late.order), late
        first = self._turns.first(now)
        assert first is not None, "an agent is asked only while somebody waits in its line"
        return first[0], first[1].head()

    def _refresh(self, now: int) -> None:
        """Programs whose keys have fallen: calls have ended or left, or it has starved."""
        starving = self._starving
        while starving and starving[0][0] <= now:
            _, order, line = heappop(starving)
            line.watched = bool(line.count)
            if line.count:
                at = line.starves_at(now)
                if at <= now and not line.promoted:
                    line.promoted = True
                    self.stale[line] = None
                heappush(starving, (max(at, now + 1), order, line))
        stale, self.stale = self.stale, {}
        for line in stale:
            if line.count:
                self._turns.push(line, now)


class _TeamLine(Generic[T]):
    """The agents of one team that have waiting tasks."""

    __slots__ = ("_agents", "_ledger", "_turns", "account", "count", "stale")

    def __init__(self, ledger: Ledger, who: Who) -> None:
        self._ledger = ledger
        self.account: Account = ledger.team(who)
        self.count = 0
        self.stale: dict[_AgentLine[T], None] = {}
        self._agents: dict[str, _AgentLine[T]] = {}
        self._turns: Turns[_AgentLine[T]] = Turns()

    def close(self) -> None:
        for line in self._agents.values():
            line.close()

    def key(self, now: int) -> Key:
        return (self.account.borrows, self.account.virtual(now))

    def join(self, task: T, now: int) -> None:
        line = self._agents.get(task.who.agent)
        if line is None:
            line = self._agents[task.who.agent] = _AgentLine(self._ledger, self, task.who)
            _drop_idle(self._agents)
        line.join(task, now)
        self.count += 1

    def leave(self, task: T) -> None:
        self.count -= 1
        self._agents[task.who.agent].leave(task)

    def head(self, now: int) -> tuple[Key, T] | None:
        """The next call of the agent whose turn it is; None when quotas keep all of them."""
        stale, self.stale = self.stale, {}
        for line in stale:
            if line.count:
                self._turns.push(line, now)
        while (first := self._turns.first(now)) is not None:
            (borrows, virtual, *_), agent = first
            if agent.account.has_right():
                key, task = agent.head(now)
                return (borrows, virtual, *key), task
            self._turns.drop_first()
            assert agent.account.group is not None
            agent.account.group.parked.append(agent)
        return None


class _BandLine(Generic[T]):
    """The waiting tasks of one band, by team, and by how long they have waited."""

    __slots__ = ("_ledger", "_oldest", "_teams", "count")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.count = 0
        self._teams: dict[str, _TeamLine[T]] = {}
        self._oldest: Listing[T] = Listing()

    def join(self, task: T, now: int) -> None:
        line = self._teams.get(task.who.team)
        if line is None:
            line = self._teams[task.who.team] = _TeamLine(self._ledger, task.who)
            _drop_idle(self._teams)
        line.join(task, now)
        self.count += 1
        self._oldest.add(task.submitted_at, task)

    def leave(self, task: T) -> None:
        self.count -= 1
        self._teams[task.who.team].leave(task)
        self._oldest.trim(self.count)

    def oldest(self) -> T | None:
        """Who has waited for longest, unless a quota keeps it."""
        task = self._oldest.first()
        return None if task is None or self._ledger.held(task.who) else task

    def head(self, now: int) -> tuple[Key, T] | None:
        heads = [
            ((*team.key(now), *head[0]), head[1])
            for team in self._teams.values()
            if team.count and team.account.has_right() and (head := team.head(now)) is not None
        ]
        return min(heads, key=_by_key, default=None)

    def close(self) -> None:
        for line in self._teams.values():
            line.close()


class Line(Generic[T]):
    """The waiting tasks of one lane. The caller sets ``listed`` of a task before it joins, and clears it before it
    leaves."""

    __slots__ = ("bands", "count")

    def __init__(self, ledger: Ledger) -> None:
        self.bands: tuple[_BandLine[T], ...] = tuple(_BandLine(ledger) for _ in HEAD_START)
        self.count = 0

    def join(self, task: T, now: int) -> None:
        self.count += 1
        self.bands[task.band].join(task, now)

    def leave(self, task: T) -> None:
        self.count -= 1
        self.bands[task.band].leave(task)

    def close(self) -> None:
        """The lane is no more; the ledger forgets it."""
        for band in self.bands:
            band.close()


def choose(lines: Iterable[Line[T]], now: int) -> T | None:
    """The task that goes next among those of several lanes, which share workers; None when quotas keep all."""
    lines = list(lines)
    for band in range(len(HEAD_START)):
        mine = [line.bands[band] for line in lines if line.bands[band].count]
        heads = [head for line in mine if (head := line.head(now)) is not None]
        if not heads:
            continue
        chosen = min(heads, key=_by_key)[1]
        aged = _aged(lines, band + 1)
        if aged is None:
            return chosen
        first = min([rank(chosen), *(rank(task) for line in mine if (task := line.oldest()) is not None)])
        return chosen if first <= rank(aged) else aged
    return None


def _aged(lines: list[Line[T]], above: int) -> T | None:
    """Who has waited for longest in the lower bands, counted from where their bands stand."""
    tasks = [
        task for line in lines for band in line.bands[above:] if band.count and (task := band.oldest()) is not None
    ]
    return min(tasks, key=rank, default=None)


def rank(task: Waiting) -> tuple[int, int]:
    return task.submitted_at + HEAD_START[task.band], task.order


def _by_key(entry: tuple[Key, Any]) -> Key:
    return entry[0]


def start_by(task: Waiting) -> int:
    """When a call has to start, in ms of the scheduler's clock."""
    patient = task.submitted_at + PATIENCE_MS
    return min(patient, task.deadline_at - task.expected_ms) if task.deadline_at else patient


def late_at(task: Waiting) -> int:
    """From when on its slack (deadline, less now, less its expected run time) is too small to let others go first."""
    return task.deadline_at - task.expected_ms - max(task.expected_ms, LEAST_SLACK_MS)


def _drop_idle(lines: dict[str, Any]) -> None:
    """Lines are kept while they are empty, as they soon fill again; of many the empty ones go. A line that has just
    been made is the last one, and stays."""
    if len(lines) <= SPARE or len(lines) & (len(lines) - 1):
        return
    for name, line in list(lines.items())[:-1]:
        if not line.count:
            line.close()
            del lines[name]
