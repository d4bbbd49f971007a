"""What one team, agent or program has had and has, and what it may have: the accounts of the ledger (`fairness`)."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

SCALE: Final = 1_000
"""Virtual time is in thousandths, so that weights divide well."""


class Who(NamedTuple):
    """Whose task it is. Programs belong to their agent, agents to their team."""

    team: str
    agent: str
    program: str


class Quota(NamedTuple):
    """``weight``: share of what all want. ``slots``: its own; 0 with ``borrow`` None: it has none, and no bound.
    ``borrow``: slots beyond its own at most (None: any number). ``lend``: of its own others may use (None: all)."""

    weight: int = 1
    slots: int = 0
    borrow: int | None = None
    lend: int | None = None


FREE: Final = Quota()


class Wakes(Protocol):
    """Something that was passed over because of a quota, and wants to be asked again."""

    def wake(self) -> None: ...


class Paid(NamedTuple):
    """What an attempt is paid for: ``price`` of a second of its slot in micro-dollars, as its worker named it."""

    task_class: str
    worker: str
    kind: str
    preemptible: bool
    price: int


class Spent(NamedTuple):
    """What one agent had of one worker for one class. ``price_ms``: micro-dollars a second times milliseconds."""

    kind: str
    preemptible: bool
    attempts: int
    slot_ms: int
    price_ms: int


class Run(NamedTuple):
    """One attempt that is being charged. ``rate``: slots that it takes; ``path``: ms of calls before it, in its
    program."""

    who: Who
    since: int
    charge: int
    rate: int
    path: int
    of: Paid | None = None


class Group:
    """Those that share one capacity: the teams, or the agents of one team. ``virtual``: how far they have been served.
    ``reserved``: slots that their owners do not use and do not lend."""

    __slots__ = ("capacity", "parked", "reserved", "used", "virtual")

    def __init__(self) -> None:
        self.capacity = 0
        self.used = 0
        self.reserved = 0
        self.virtual = 0
        self.parked: list[Wakes] = []

    def wake(self) -> None:
        """Slots were given back, or rules have changed."""
        parked, self.parked = self.parked, []
        for waiting in parked:
            waiting.wake()


class Account:
    """``live``: its tasks that wait or run; ``running``: slots; ``settled``: service of ended runs; ``waited``: of its
    started calls in ms; ``critical``: the longest path of calls in ms, and ``paths`` when those that run would have
    begun. ``changed``: who wants to know when its service falls."""

    __slots__ = (
        "_charged", "_rate", "_started", "changed", "critical", "group", "live", "paths", "quota", "running", "settled",
        "waited",
    )  # fmt: skip

    def __init__(self, group: Group | None = None, quota: Quota = FREE) -> None:
        self.group = group
        self.quota = quota
        self.live = 0
        self.running = 0
        self.settled = 0
        self.waited = 0
        self.critical = 0
        self.paths: list[tuple[int, str]] = []
        self.changed: dict[Any, None] = {}
        self._charged = 0
        self._rate = 0
        self._started = 0
        if group is not None:
            group.reserved += self.unlent

    def service(self, now: int) -> int:
        """Slot milliseconds, weighted by rate; never falls but at the end of a run."""
        return self.settled + max(self._charged, self._rate * now - self._started)

    def virtual(self, now: int) -> int:
        return self.service(now) * SCALE // self.quota.weight

    @property
    def unlent(self) -> int:
        """Own slots that are free and not lent."""
        quota = self.quota
        return 0 if quota.lend is None else max(0, quota.slots - quota.lend - self.running)

    @property
    def borrows(self) -> bool:
        """Whether the next slot is beyond its own."""
        return self.running >= self.quota.slots

    def has_right(self) -> bool:
        """Whether it may have one more slot now."""
        quota, group = self.quota, self.group
        if group is None or self.running < quota.slots:
            return True
        if quota.borrow is not None and self.running >= quota.slots + quota.borrow:
            return False
        return not group.reserved or group.used < group.capacity - group.reserved

    def add(self, run: Run, sign: int) -> None:
        """A run begins (1) or ends (-1)."""
        before = self.unlent
        self._charged += sign * run.charge
        self._rate += sign * run.rate
        self._started += sign * run.rate * run.since
        self.running += sign * run.rate
        if self.group is not None:
            self.group.used += sign * run.rate
            self.group.reserved += self.unlent - before

    def set_quota(self, quota: Quota) -> None:
        """Another weight does not move what has been: its virtual time stays."""
        before = self.unlent
        self.settled = self.settled * quota.weight // self.quota.weight
        self.quota = quota
        if self.group is not None:
            self.group.reserved += self.unlent - before

    def catch_up(self) -> None:
        """It was idle: it goes on where the others are."""
        if self.group is not None:
            self.settled = max(self.settled, self.group.virtual * self.quota.weight // SCALE)

    def tell(self) -> None:
        for node in self.changed:
            node.wake()
