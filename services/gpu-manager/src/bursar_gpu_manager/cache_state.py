"""The model cache: which weights are where, and how events change that.

An entry is one copy of a model's weights at one place: a card (``host/uuid``) or the memory of a host (``host``).

::

    loading -> ready -> evicting -> (gone)          and  evicting -> quarantined -> (gone)
       +-> (gone): the load failed and nobody waits

A host is bounded per tier, 8 GB (8 * 10^9 bytes) unless it is set. What is larger than the bound is served and not
kept: it is `transient`, shared like any other while somebody uses it, and not counted to what is cached. A file that is
mapped (``mmap``) is in the page cache, which the kernel takes back by itself: it is listed and not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from bursar_gpu_manager.cache_policy import priority
from bursar_gpu_manager.eviction import TIME_MS, Eviction

Tier = Literal["gpu", "ram", "mmap"]
Phase = Literal["loading", "ready", "evicting", "quarantined"]

DEFAULT_BOUND: Final = 8 * 10**9
HOLD_MS: Final = 10_000
"""Weights are not evicted for so long after they were used."""
MODELS: Final = 4_096
"""Of so many models it is known how long they take to load."""


class Entry:
    """One copy. ``loader``: who loads it; ``load``: number of the load, so that a late report of another is known;
    ``waiting``: who wants it when it is there. ``users``: who uses it, and how often. Times are ms."""

    __slots__ = (
        *("eviction", "load", "loader", "load_ms", "model", "phase", "pinned", "place", "priority", "size"),
        *("tier", "transient", "until", "used_at", "users", "uses", "waiting"),
    )

    def __init__(self, model: str, place: str, tier: Tier, size: int) -> None:
        self.model = model
        self.place = place
        self.tier: Tier = tier
        self.size = size
        self.phase: Phase = "loading"
        self.transient = False
        self.pinned = False
        self.loader = ""
        self.load = 0
        self.until = 0
        self.load_ms = 0
        self.used_at = 0
        self.uses = 0
        self.priority = 0
        self.users: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        self.eviction: Eviction | None = None

    @property
    def key(self) -> str:
        return key_of(self.model, self.place, self.tier)

    @property
    def host(self) -> str:
        return self.place.partition("/")[0]

    @property
    def counts(self) -> bool:
        """Whether it is part of what the host's bound is for."""
        return self.tier != "mmap" and not self.transient


def key_of(model: str, place: str, tier: Tier) -> str:
    return f"{tier} {place} {model}"


class Began(NamedTuple):
    """A load began: ``loader`` ("": ahead of anybody who wants it) loads ``size`` bytes, until ``until``."""

    key: tuple[str, str, Tier]
    size: int
    transient: bool
    loader: str
    load: int
    at: int
    until: int


class Joined(NamedTuple):
    """Somebody waits for a load."""

    key: str
    who: str


class Loaded(NamedTuple):
    """The weights are there, after ``took`` ms; loader and those who waited use them."""

    key: str
    size: int
    transient: bool
    took: int
    at: int


class Failed(NamedTuple):
    """The load failed, or its time was over; ``loader`` goes on ("": nobody waits, the entry is gone)."""

    key: str
    loader: str
    load: int
    at: int
    until: int


class Took(NamedTuple):
    """A hit: one user more."""

    key: str
    who: str
    at: int


class Left(NamedTuple):
    """One user less, or one who waited."""

    key: str
    who: str
    at: int


class Pinned(NamedTuple):
    key: str
    pinned: bool


class Evicted(NamedTuple):
    """An eviction began or took a step; ``freed`` ends the entry."""

    key: str
    eviction: Eviction


class Bounded(NamedTuple):
    """A host's bound of a tier, in bytes."""

    host: str
    tier: Tier
    size: int


Event = Began | Joined | Loaded | Failed | Took | Left | Pinned | Evicted | Bounded


class CacheState:
    """All copies, bounds, what is known of models, and counters. ``times``: of the steps of an eviction; a setting, and
    no part of the dump."""

    __slots__ = ("bounds", "clock", "counts", "entries", "known", "loads", "times")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.bounds: dict[tuple[str, Tier], int] = {}
        self.known: dict[str, int] = {}
        self.clock = 0
        self.loads = 0
        self.times: Mapping[str, int] = TIME_MS
        names = (
            "hits",
            "shared",
            "misses",
            "ahead",
            "loaded",
            "failed",
            "evicted",
            "quarantined",
            "load_ms",
            "saved_ms",
        )
        self.counts = dict.fromkeys(names, 0)

    def bound(self, host: str, tier: Tier) -> int:
        return self.bounds.get((host, tier), DEFAULT_BOUND)

    def of(self, host: str, tier: Tier) -> Iterator[Entry]:
        return (entry for entry in self.entries.values() if entry.tier == tier and entry.host == host)

    def cached(self, host: str, tier: Tier) -> int:
        """Bytes that count to the bound: loading, there, or not yet given back."""
        return sum(entry.size for entry in self.of(host, tier) if entry.counts)

    def apply(self, event: Event) -> None:
        """The only place that changes anything."""
        if isinstance(event, Began):
            self._began(event)
        elif isinstance(event, Bounded):
            self.bounds[event.host, event.tier] = event.size
        else:
            getattr(self, f"_{type(event).__name__.lower()}")(self.entries[event.key], event)

    def _began(self, event: Began) -> None:
        entry = Entry(*event.key, event.size)
        entry.transient, entry.loader = event.transient, event.loader
        entry.load, entry.until, entry.used_at = event.load, event.until, event.at
        self.loads = event.load
        self.entries[entry.key] = entry
        self.counts["misses" if event.loader else "ahead"] += 1

    def _joined(self, entry: Entry, event: Joined) -> None:
        entry.waiting[event.who] = entry.waiting.get(event.who, 0) + 1
        self.counts["shared"] += 1

    def _loaded(self, entry: Entry, event: Loaded) -> None:
        entry.phase, entry.size, entry.load_ms, entry.until = "ready", event.size, event.took, 0
        entry.transient = event.transient
        self._know(entry.model, event.took)
        users = entry.waiting | ({entry.loader: entry.waiting.get(entry.loader, 0) + 1} if entry.loader else {})
        entry.users, entry.waiting, entry.loader = users, {}, ""
        self._used(entry, event.at, sum(users.values()))
        self.counts["loaded"] += 1
        self.counts["load_ms"] += event.took
        self.counts["saved_ms"] += event.took * max(0, sum(users.values()) - 1)

    def _know(self, model: str, took: int) -> None:
        """The mean of what it took before and now; the model loaded longest ago is forgotten first."""
        before = self.known.pop(model, took)
        self.known[model] = (before + took) // 2
        if len(self.known) > MODELS:
            del self.known[next(iter(self.known))]

    def _failed(self, entry: Entry, event: Failed) -> None:
        self.counts["failed"] += 1
        if not event.loader:
            del self.entries[entry.key]
            return
        self._take_out(entry.waiting, event.loader)
        entry.loader, entry.load, entry.until = event.loader, event.load, event.until
        self.loads = max(self.loads, event.load)

    def _took(self, entry: Entry, event: Took) -> None:
        entry.users[event.who] = entry.users.get(event.who, 0) + 1
        self._used(entry, event.at, 1)
        self.counts["hits"] += 1
        self.counts["saved_ms"] += entry.load_ms

    def _left(self, entry: Entry, event: Left) -> None:
        if not self._take_out(entry.users, event.who):
            self._take_out(entry.waiting, event.who)

    def _pinned(self, entry: Entry, event: Pinned) -> None:
        entry.pinned = event.pinned

    def _evicted(self, entry: Entry, event: Evicted) -> None:
        if entry.eviction is None:
            self.clock = max(self.clock, entry.priority)
        entry.eviction = event.eviction
        if event.eviction.is_over:
            del self.entries[entry.key]
            self.counts["evicted"] += 1
        elif event.eviction.step == "quarantine":
            entry.phase = "quarantined"
            self.counts["quarantined"] += 1
        else:
            entry.phase = "evicting"

    def _used(self, entry: Entry, at: int, times: int) -> None:
        entry.used_at, entry.uses = at, entry.uses + times
        entry.priority = priority(self.clock, entry.uses, entry.load_ms, entry.size)

    @staticmethod
    def _take_out(counts: dict[str, int], who: str) -> bool:
        left = counts.pop(who, 0) - 1
        if left > 0:
            counts[who] = left
        return left >= 0

    # ---- dump and load

    def dump(self) -> Any:
        bounds = [[host, tier, size] for (host, tier), size in sorted(self.bounds.items())]
        rows = [[getattr(entry, name) for name in FIELDS] + _parts(entry) for entry in self.entries.values()]
        return [rows, bounds, list(self.known.items()), self.clock, self.loads, list(self.counts.items())]

    @classmethod
    def load(cls, value: Any) -> CacheState:
        rows, bounds, known, clock, loads, counts = value
        found = cls()
        for row in rows:
            entry = Entry(*row[:4])
            for name, field in zip(FIELDS[4:], row[4 : len(FIELDS)], strict=True):
                setattr(entry, name, field)
            users, waiting, eviction = row[len(FIELDS) :]
            entry.users, entry.waiting = dict(users), dict(waiting)
            entry.eviction = None if eviction is None else Eviction(*eviction)
            found.entries[entry.key] = entry
        found.bounds = {(host, tier): size for host, tier, size in bounds}
        found.known, found.counts = dict(known), dict(counts)
        found.clock, found.loads = clock, loads
        return found


FIELDS: Final = (
    *("model", "place", "tier", "size", "phase", "transient", "pinned", "loader", "load", "until"),
    *("load_ms", "used_at", "uses", "priority"),
)


def _parts(entry: Entry) -> list[Any]:
    eviction = None if entry.eviction is None else list(entry.eviction)
    return [list(entry.users.items()), list(entry.waiting.items()), eviction]
