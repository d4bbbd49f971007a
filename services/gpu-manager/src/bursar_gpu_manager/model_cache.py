"""Who may use which weights, who loads them, and what makes room: decisions over `cache_state`.

Nothing here changes the state: a decision gives events, `CacheState.apply` folds them. What it promises:

1. **Loaded once.** Of all that want the same weights at the same place, one loads and the others wait; when the loader
   fails or is silent past its time, the next of those who wait loads. A report of an earlier load counts for nothing.
2. **Bounded.** No load takes a host over its bound: room is there before it begins, and what turns out larger than it
   was said to be is not kept. Memory that is being given back counts until it is back.
3. **Nobody's weights go while they are used**, nor pinned ones, nor those used within the last 10 s.
4. What goes is worth least by `cache_policy`; it goes by `eviction`, and is gone when the card says so.

Loading is lazy: weights come when they are wanted. `ahead` names what `predicting` foretells, and only for room that is
free. From where to load is a question of tiers: another card of the host, its memory, a mapped file, the disk, the
network; `source` says which is quickest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from bursar.errors import CallerError
from bursar_gpu_manager.cache_policy import Candidate, to_evict
from bursar_gpu_manager.cache_state import (
    HOLD_MS,
    Began,
    Bounded,
    CacheState,
    Entry,
    Event,
    Evicted,
    Failed,
    Joined,
    Left,
    Loaded,
    Pinned,
    Tier,
    Took,
    key_of,
)
from bursar_gpu_manager.eviction import advance, begin

LOAD_MS: Final = 600_000
"""A load that is not done by then has failed."""

MOST: Final = 65_536
"""Copies in all."""

MOST_USES: Final = 256
"""Uses of one copy by one principal, or waits for it, at a time: who never leaves must not fill the ledger."""

BANDWIDTH: Final[Mapping[str, int]] = {
    "peer": 20 << 20,
    "ram": 10 << 20,
    "mmap": 3 << 20,
    "disk": 2 << 20,
    "network": 256 << 10,
}
"""Bytes per ms from each source (20 GiB/s to 256 MiB/s), where nothing was measured."""


Use = tuple[str, str]
"""A copy, by its key, and who uses it, waits for it, or loads it."""


class Want(NamedTuple):
    """``who`` wants a model of ``size`` bytes at a place: a card (``host/uuid``), or a host for its memory."""

    model: str
    place: str
    size: int
    who: str
    tier: Tier = "gpu"


class Answer(NamedTuple):
    """``hit``: use it. ``wait``: somebody loads it. ``load``: load it (``load`` is the number to report with), once
    ``evict`` are gone. ``room``: it has to be asked again when ``evict`` are gone. ``refused``: what is there is used,
    pinned, or held."""

    what: Literal["hit", "wait", "load", "room", "refused"]
    events: tuple[Event, ...]
    load: int = 0
    evict: tuple[str, ...] = ()


def want(state: CacheState, ask: Want, now: int) -> Answer:
    """Raises `CallerError`: ``bad_request`` when the size is none, ``too_many_uses`` when it has `MOST_USES`."""
    if ask.size <= 0:
        raise CallerError("bad_request", "weights have a size")
    key = key_of(ask.model, ask.place, ask.tier)
    entry = state.entries.get(key)
    if entry is not None and max(entry.users.get(ask.who, 0), entry.waiting.get(ask.who, 0)) >= MOST_USES:
        raise CallerError("too_many_uses", f"{ask.who} uses these weights {MOST_USES} times already", count=MOST_USES)
    if entry is not None and entry.phase == "ready":
        return Answer("hit", (Took(key, ask.who, now),))
    if entry is not None and entry.phase == "loading":
        return Answer("wait", (Joined(key, ask.who),), entry.load)
    if entry is not None:
        return Answer("room", (), 0, (key,))
    host = ask.place.partition("/")[0]
    transient = ask.tier != "mmap" and ask.size > state.bound(host, ask.tier)
    missing = 0
    if ask.tier != "mmap" and not transient:
        missing = state.cached(host, ask.tier) + ask.size - state.bound(host, ask.tier)
    if missing > 0:
        return _make_room(state, host, ask.tier, missing, now)
    if len(state.entries) >= MOST:
        return Answer("refused", ())
    load = state.loads + 1
    began = Began((ask.model, ask.place, ask.tier), ask.size, transient, ask.who, load, now, now + LOAD_MS)
    return Answer("load", (began,), load)


def _make_room(state: CacheState, host: str, tier: Tier, missing: int, now: int) -> Answer:
    leaving = [entry for entry in state.of(host, tier) if entry.phase == "evicting" and entry.counts]
    keys = tuple(entry.key for entry in leaving)
    missing -= sum(entry.size for entry in leaving)
    if missing <= 0:
        return Answer("room", (), 0, keys)
    chosen = to_evict(evictable(state.of(host, tier), now), missing)
    if chosen is None:
        return Answer("refused", ())
    events = tuple(evict(state, candidate.key, state.entries[candidate.key].size, now) for candidate in chosen)
    return Answer("room", events, 0, (*keys, *(candidate.key for candidate in chosen)))


def evictable(entries: Iterable[Entry], now: int) -> list[Candidate]:
    """Those that nobody uses, waits for, pinned, or used a moment ago."""
    return [
        Candidate(entry.priority, entry.used_at, entry.key, entry.size)
        for entry in entries
        if is_evictable(entry, now)
    ]  # fmt: skip


def is_evictable(entry: Entry, now: int) -> bool:
    if entry.phase != "ready" or entry.users or entry.pinned:
        return False
    return entry.transient or now >= entry.used_at + HOLD_MS


def loaded(state: CacheState, key: str, load: int, size: int, took: int, now: int) -> list[Event]:
    """The loader says that the weights are there: ``size`` bytes, after ``took`` ms. Raises `CallerError` (conflict)
    for a load that is not the present one."""
    entry = _loading(state, key, load)
    others = state.cached(entry.host, entry.tier) - (entry.size if entry.counts else 0)
    is_over = entry.tier != "mmap" and size > entry.size and others + size > state.bound(entry.host, entry.tier)
    return [Loaded(entry.key, max(1, size), entry.transient or is_over, max(0, took), now)]


def failed(state: CacheState, key: str, load: int, now: int) -> list[Event]:
    """The loader says that it failed; the next one loads. Raises as `loaded`."""
    return [_next_loader(state, _loading(state, key, load), now)]


def _loading(state: CacheState, key: str, load: int) -> Entry:
    entry = state.entries.get(key)
    if entry is None or entry.phase != "loading" or entry.load != load:
        raise CallerError("conflict", "this load counts no more", load=load)
    return entry


def _next_loader(state: CacheState, entry: Entry, now: int, gone: Container[Use] = ()) -> Failed:
    loader = next((who for who in entry.waiting if (entry.key, who) not in gone), "")
    return (
        Failed(entry.key, loader, state.loads + 1, now, now + LOAD_MS) if loader else Failed(entry.key, "", 0, now, 0)
    )


def leave(state: CacheState, key: str, who: str, now: int) -> list[Event]:
    """Somebody uses the weights no more, or does not wait any longer. A loader that leaves has failed; a transient copy
    whose last user leaves is evicted. Nothing happens when it is gone, or when it was not used."""
    entry = state.entries.get(key)
    if entry is None:
        return []
    if entry.phase == "loading" and entry.loader == who and who not in entry.waiting:
        return [_next_loader(state, entry, now)]
    if who not in entry.users and who not in entry.waiting:
        return []
    events: list[Event] = [Left(key, who, now)]
    if entry.transient and entry.phase == "ready" and entry.users == {who: 1} and not entry.pinned:
        events.append(evict(state, key, entry.size, now))
    return events


def pin(state: CacheState, key: str, pinned: bool) -> list[Event]:
    """Raises `CallerError` (unknown) when it is not there."""
    entry = state.entries.get(key)
    if entry is None:
        raise CallerError("unknown", "these weights are not there")
    return [] if entry.pinned == pinned else [Pinned(key, pinned)]


def bound(state: CacheState, host: str, tier: Tier, size: int, now: int) -> list[Event]:
    """Set a host's bound; what is too much goes as far as it may, the rest when it is used no more (`trim`)."""
    if size < 0:
        raise CallerError("bad_request", "a bound is not negative")
    return [Bounded(host, tier, size), *_trim(state, host, tier, size, now)]


def trim(state: CacheState, now: int) -> list[Event]:
    """What has to go because a bound became smaller; and transient copies that nobody uses."""
    events: list[Event] = []
    for host, tier in sorted({(entry.host, entry.tier) for entry in state.entries.values()}):
        events += _trim(state, host, tier, state.bound(host, tier), now)
    unused = [entry for entry in state.entries.values() if entry.transient and is_evictable(entry, now)]
    return [*events, *(evict(state, entry.key, entry.size, now) for entry in unused)]


def _trim(state: CacheState, host: str, tier: Tier, size: int, now: int) -> list[Event]:
    if tier == "mmap":
        return []
    kept = [entry for entry in state.of(host, tier) if entry.counts and entry.phase != "evicting"]
    over = sum(entry.size for entry in kept) - size
    events: list[Event] = []
    for candidate in sorted(evictable(kept, now)):
        if over > 0:
            events.append(evict(state, candidate.key, candidate.size, now))
            over -= candidate.size
    return events


def to_free(state: CacheState, place: str, needed: int, now: int) -> list[str] | None:
    """Keys of cached copies on one card to evict so that a lease of other work fits; None when they are not enough."""
    here = [entry for entry in state.entries.values() if entry.place == place and entry.tier == "gpu"]
    chosen = to_evict(evictable(here, now), needed)
    return None if chosen is None else [candidate.key for candidate in chosen]


def evict(state: CacheState, key: str, observed: int, now: int) -> Evicted:
    """Begin an eviction; ``observed``: bytes that the card says it has."""
    assert key in state.entries
    return Evicted(key, begin(key, observed, now, state.times))


def observe(state: CacheState, key: str, observed: int | None, now: int) -> list[Event]:
    """What an observation of memory (None: unknown) and the time say of an eviction."""
    entry = state.entries.get(key)
    if entry is None or entry.eviction is None:
        return []
    after = advance(entry.eviction, observed, now, state.times)
    return [] if after == entry.eviction else [Evicted(key, after)]


def overdue(state: CacheState, now: int, gone: Container[Use] = ()) -> list[Failed]:
    """Loads whose time is over, or whose loader is ``gone``; the next of those who wait, and are not, loads."""
    late = [
        entry
        for entry in state.entries.values()
        if entry.phase == "loading" and (now >= entry.until or (entry.key, entry.loader) in gone)
    ]
    found: list[Failed] = []
    for entry in late:
        failed = _next_loader(state, entry, now, gone)
        found.append(failed._replace(load=failed.load + len(found)) if failed.loader else failed)
    return found


def lapsed(state: CacheState, gone: Container[Use], now: int) -> list[Event]:
    """Of uses, waits and loads that nobody stands behind any more: they end as if their holders had left."""
    events: list[Event] = []
    for entry in state.entries.values():
        for counts in (entry.users, entry.waiting):
            for who, count in counts.items():
                if (entry.key, who) in gone:
                    events += [Left(entry.key, who, now)] * count
    return [*events, *overdue(state, now, gone)]


def uses(state: CacheState) -> Iterator[Use]:
    """Who uses, waits for, or loads what."""
    for entry in state.entries.values():
        for who in dict.fromkeys((*entry.users, *entry.waiting, *((entry.loader,) if entry.loader else ()))):
            yield entry.key, who


def wake_at(state: CacheState) -> int | None:
    """When something is due by time: the end of a load, the next step of an eviction."""
    times = [entry.until for entry in state.entries.values() if entry.phase == "loading"]
    times += [entry.eviction.until for entry in state.entries.values() if entry.eviction and entry.eviction.until]
    return min(times, default=None)


class Copy(NamedTuple):
    """One copy, for people and for placement."""

    model: str
    place: str
    tier: Tier
    phase: str
    size: int
    users: int
    pinned: bool


def where(state: CacheState, model: str | None = None) -> list[Copy]:
    """Who has which weights where; of one model or of all."""
    return [
        Copy(e.model, e.place, e.tier, e.phase, e.size, sum(e.users.values()), e.pinned)
        for e in state.entries.values()
        if model is None or e.model == model
    ]


class Source(NamedTuple):
    """``kind``: peer, ram, mmap, disk or network. ``ms``: estimated time to load."""

    kind: str
    place: str
    ms: int


def source(state: CacheState, ask: Want, on_disk: bool, measured: Mapping[str, int] | None = None) -> Source:
    """The quickest place to load from. ``measured``: bytes per ms by kind, where it is known. A copy that is not ready
    is none."""
    host = ask.place.partition("/")[0]
    rates = {**BANDWIDTH, **(measured or {})}
    kinds = {"disk": host} if on_disk else {"network": ""}
    for entry in state.entries.values():
        if entry.model == ask.model and entry.host == host and entry.phase == "ready" and entry.place != ask.place:
            kinds["peer" if entry.tier == "gpu" else entry.tier] = entry.place
        elif entry.model == ask.model and entry.place == ask.place == host and entry.tier == "mmap":
            kinds["mmap"] = entry.place
    timed = ((ask.size // max(1, rates[kind]), kind, place) for kind, place in kinds.items())
    ms, kind, place = min(timed)
    return Source(kind, place, ms)


def ahead(state: CacheState, ask: Want, now: int) -> Answer | None:
    """Load a foretold model, if there is free room for it; None otherwise. It is nobody's until somebody wants it."""
    host = ask.place.partition("/")[0]
    is_known = key_of(ask.model, ask.place, ask.tier) in state.entries
    if is_known or ask.size <= 0 or state.cached(host, ask.tier) + ask.size > state.bound(host, ask.tier):
        return None
    return want(state, ask._replace(who=""), now)


class Report(NamedTuple):
    """``hit_rate``: wants that found weights there, or on their way, of all; ``mean_load_ms``: of a load;
    ``saved_ms``: loading that was not necessary."""

    hit_rate: float
    mean_load_ms: float
    saved_ms: int
    cached: int


def report(state: CacheState) -> Report:
    counts = state.counts
    found = counts["hits"] + counts["shared"]
    wants = found + counts["misses"]
    cached = sum(entry.size for entry in state.entries.values() if entry.counts)
    mean = counts["load_ms"] / counts["loaded"] if counts["loaded"] else 0.0
    return Report(found / wants if wants else 0.0, mean, counts["saved_ms"], cached)
