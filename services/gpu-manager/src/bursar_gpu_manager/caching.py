"""The model cache as part of the ledger: `model_cache` decides, its events are journaled here, and owners are told.

A copy on a card is held under a lease of who loaded it; so it is charged like all memory, ends with that lease, and the
card itself says whether it is gone: an eviction believes what is observed of the lease's processes, and nothing that
anybody says. Its steps are told to the owner; at ``kill`` the lease is taken away and the probe is ordered to end its
processes. What is not back after that is quarantined and told to everybody; it stays charged as long as it is there.

Weights that nobody uses make room for other work: for the first who waits in line.

A copy in a host's memory has no such witness: its owner says that it is gone, or says nothing any more; then its
process is gone, and the copy with it.

Whoever uses weights, waits for them, loads them, or has them in a host's memory says so again now and then
(`CacheKeep`); who is silent for longer
than the setting ``cache_use_ms`` counts as one who has left, so that what a dead agent used can be evicted, and what it
was loading is loaded by another. When somebody was heard last is volatile: after a take-over all have their whole time.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, NamedTuple

from bursar.contracts import gpu_cache as wire
from bursar.contracts.gpu import SERVICE
from bursar.errors import CallerError
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_gpu_manager import cache_state, events, model_cache
from bursar_gpu_manager.cache_looking import observed, owner_in_memory, parts, room_for_the_line, silent
from bursar_gpu_manager.cache_state import Began, Bounded, Evicted, Failed, Joined, Left, Loaded, Pinned, Took, key_of
from bursar_gpu_manager.enforcing import orders
from bursar_gpu_manager.eviction import Eviction, begin
from bursar_gpu_manager.lifecycle import DROPPED
from bursar_gpu_manager.model_cache import Want
from bursar_gpu_manager.state import State

SHOWN: Final = 512
KIND: Final = "cache"
"""Kind of the broadcast about a copy whose memory does not come back; its name is the host."""

KINDS: Final[dict[str, Any]] = {
    kind.__name__: kind for kind in (Began, Joined, Loaded, Failed, Took, Left, Pinned, Evicted, Bounded)
}

HELD: Final = ("hit", "wait", "load")
"""Answers after which somebody uses a copy, waits for it, or loads it."""

MOST_AT_ONCE: Final = 400
"""Events of one look, so that it fits into the journal however many fall silent, or lose their lease, together."""

Told = list[Broadcast | Notice]


class CacheLook(NamedTuple):
    """Internal: a load or a step of an eviction is over, or there is something new to be seen of one."""


# ---- what agents ask


def decide_want(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.CacheWant = command.body
    wrong = _no_place(state, body)
    if wrong is not None:
        return wrong
    ask = Want(body.model, body.place, body.size, command.principal, body.tier)
    if body.ahead:
        answer = model_cache.ahead(state.cache, ask, now) or model_cache.Answer("refused", ())
    else:
        try:
            answer = model_cache.want(state.cache, ask, now)
        except CallerError as error:
            return Reject(error.code, error.text, dict(error.facts))
        state.foretelling.see(ask)
        if answer.what in HELD:
            state.users_heard[_key(body), command.principal] = now
    foretold = None if body.ahead else state.foretelling.next_of(state.cache, ask)
    source = model_cache.source(state.cache, ask, body.on_disk)
    reply = {
        "ok": True,
        "what": answer.what,
        "load": answer.load,
        "evict": list(answer.evict),
        "source": source.kind,
        "source_place": source.place,
        "source_ms": source.ms,
        "next": None if foretold is None else foretold[0],
        "next_size": 0 if foretold is None else foretold[1],
        "keep_ms": state.settings.cache_use_ms,
    }
    return _accept(state, answer.events, reply, now)


def decide_keep(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Changes only when its holder was heard; a use that has lapsed does not come back by this."""
    body: wire.CacheKeep = command.body
    gone = []
    for name in body.copies:
        key, who = _key(name), command.principal
        entry = state.cache.entries.get(key)
        if entry is None or who not in (*entry.users, *entry.waiting, entry.loader, owner_in_memory(state, entry)):
            gone.append({"model": name.model, "place": name.place, "tier": name.tier})
        else:
            state.users_heard[key, who] = now
    return Refuse({"ok": True, "gone": gone, "keep_ms": state.settings.cache_use_ms})


def _no_place(state: State, name: wire.CopyName) -> Reject | None:
    """Why there can be no such copy; a card is a place for one tier, a host for the two others."""
    if name.tier == "gpu":
        device = state.devices.get(name.place)
        if device is None or device.lost:
            return Reject("unknown_device", f"There is no device {name.place}.", {"device": name.place})
    elif name.place not in state.hosts:
        return Reject("unknown_host", f"There is no host {name.place}.", {"host": name.place})
    return None


def decide_loaded(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.CacheLoaded = command.body
    key = _key(body)
    entry = state.cache.entries.get(key)
    if entry is not None and entry.loader not in ("", command.principal):
        return Reject("not_yours", "Somebody else loads these weights.", {})
    lease = state.leases.get(body.lease or "")
    if body.tier == "gpu" and (
        lease is None or lease.principal != command.principal or body.place not in dict(lease.devices)
    ):
        return Reject("unknown_lease", "Weights on a card are held under a lease of who has loaded them.", {})
    try:
        happened = model_cache.loaded(state.cache, key, body.load, body.size, body.took_ms, now)
    except CallerError as error:
        return Reject(error.code, error.text, dict(error.facts))
    waiting = [] if entry is None else list(entry.waiting)
    outcome = _accept(state, happened, {"ok": True, "phase": "ready"}, now, (command.principal, body.lease or ""))
    told = [_notice(who, body, "ready", body.load) for who in waiting if who != command.principal]
    return outcome._replace(broadcasts=[*outcome.broadcasts, *told]) if isinstance(outcome, Accept) else outcome


def decide_failed(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.CacheFailed = command.body
    entry = state.cache.entries.get(_key(body))
    if entry is not None and entry.loader not in ("", command.principal):
        return Reject("not_yours", "Somebody else loads these weights.", {})
    try:
        happened = model_cache.failed(state.cache, _key(body), body.load, now)
    except CallerError as error:
        return Reject(error.code, error.text, dict(error.facts))
    goes_on = entry is not None and bool(entry.waiting)
    return _accept(state, happened, {"ok": True, "phase": "loading" if goes_on else ""}, now)


def decide_leave(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.CacheLeave = command.body
    happened = model_cache.leave(state.cache, _key(body), command.principal, now)
    entry = state.cache.entries.get(_key(body))
    return _accept(state, happened, {"ok": True, "phase": "" if entry is None else entry.phase}, now)


def decide_gone(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Only for what no card can tell."""
    body: wire.CacheGone = command.body
    key = _key(body)
    if body.tier == "gpu":
        return Reject("conflict", "Whether weights on a card are gone is seen there.", {})
    owner, _ = state.copies.get(key, ("", ""))
    if key in state.cache.entries and owner != command.principal:
        return Reject("not_yours", "Somebody else holds these weights.", {})
    entry = state.cache.entries.get(key)
    happened = [] if entry is None else [Evicted(key, _freed(key, entry.eviction))]
    return _accept(state, happened, {"ok": True, "phase": ""}, now)


def decide_where(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.CacheWhere = command.body
    found = [entry for entry in state.cache.entries.values() if body.model is None or entry.model == body.model]
    told = model_cache.report(state.cache)
    return Refuse(
        {
            "ok": True,
            "copies": [_copy(state, entry) for entry in islice(found, SHOWN)],
            "copies_total": len(found),
            "hit_permille": int(told.hit_rate * 1_000),
            "mean_load_ms": int(told.mean_load_ms),
            "saved_ms": told.saved_ms,
            "cached": told.cached,
            "evicted": state.cache.counts["evicted"],
            "quarantined": state.cache.counts["quarantined"],
        }
    )


def _copy(state: State, entry: cache_state.Entry) -> dict[str, Any]:
    return {
        "model": entry.model,
        "place": entry.place,
        "tier": entry.tier,
        "phase": entry.phase,
        "size": entry.size,
        "users": sum(entry.users.values()),
        "pinned": entry.pinned,
        "owner": state.copies.get(entry.key, (entry.loader, ""))[0],
        "load": entry.load,
        "step": "" if entry.eviction is None else entry.eviction.step,
    }


# ---- what operators do


def decide_pin(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.CachePin = command.body
    try:
        happened = model_cache.pin(state.cache, _key(body), body.pinned)
    except CallerError:
        return Reject("unknown_copy", "These weights are not there.", {})
    return _accept(state, happened, {"ok": True, "phase": state.cache.entries[_key(body)].phase}, now)


def decide_bound(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.CacheBound = command.body
    if body.host not in state.hosts:
        return Reject("unknown_host", f"There is no host {body.host}.", {"host": body.host})
    happened = model_cache.bound(state.cache, body.host, body.tier, body.size, now)
    return _accept(state, happened, {"ok": True, "host": body.host, "tier": body.tier, "size": body.size}, now)


# ---- what time and the cards say


def next_look(state: State, now: int) -> Command | None:
    at = wake_at(state)
    if not state.cache.entries or (not state.cache_changed and (at is None or now < at)):
        return None
    state.cache_changed = False
    return Command("", "", CacheLook())


def wake_at(state: State) -> int | None:
    """When a load, a step or a use is over; remembered until something happens. A user who was not heard by this owner
    is looked at at once, and has its whole time from then on."""
    if state.cache_wake is None:
        heard, time = state.users_heard, state.settings.cache_use_ms
        times = [heard[use] + time if use in heard else 0 for use in parts(state)]
        at = model_cache.wake_at(state.cache)
        state.cache_wake = min(times if at is None else [*times, at], default=-1)
    return None if state.cache_wake < 0 else state.cache_wake


def decide_look(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    cache = state.cache
    state.cache_wake = None
    gone = silent(state, now)
    happened = model_cache.lapsed(cache, gone, now)
    for key, entry in cache.entries.items():
        lease = state.copies.get(key, ("", ""))[1]
        if (key, owner_in_memory(state, entry)) in gone:
            happened.append(Evicted(key, _freed(key, entry.eviction)))
        elif entry.eviction is not None:
            happened += model_cache.observe(cache, key, observed(state, entry), now)
        elif lease and lease not in state.leases and not seeded("gpu_copy_outlives_its_lease"):
            happened.append(Evicted(key, _freed(key, None)))  # its owner has given the memory back
    happened += model_cache.trim(cache, now)
    happened += room_for_the_line(state, now)
    found = _once(happened)
    state.cache_changed = len(found) > MOST_AT_ONCE  # the rest is looked at in the next decision
    return _accept(state, found[:MOST_AT_ONCE], {}, now)


def _once(happened: list[cache_state.Event]) -> list[cache_state.Event]:
    """Of evictions only the first one of a copy: what has gone, or is leaving already, is not asked again."""
    leaving: set[str] = set()
    found: list[cache_state.Event] = []
    for one in happened:
        if not isinstance(one, Evicted) or one.key not in leaving:
            found.append(one)
        if isinstance(one, Evicted):
            leaving.add(one.key)
    return found


def _freed(key: str, before: Eviction | None) -> Eviction:
    return begin(key, 0, 0) if before is None else before._replace(step="freed", until=0)


# ---- events


def _accept(
    state: State,
    happened: Iterable[cache_state.Event],
    reply: dict[str, Any],
    now: int,
    owner: tuple[str, str] = ("", ""),
) -> Accept | Refuse:
    """The cache's events as the journal's, with what owners and those who wait are told of them."""
    found = list(happened)
    if not found:
        return Refuse(reply)
    journal: list[Event] = [(events.CACHE, now, type(one).__name__, _row(one), *owner) for one in found]
    told: Told = []
    for one in found:
        if isinstance(one, Failed) and one.loader:
            told.append(_notice(one.loader, state.cache.entries[one.key], "load", one.load))
        elif isinstance(one, Evicted):
            taken, said = _evicted(state, one, now)
            journal += taken
            told += said
    return Accept(journal, reply, told)


def _evicted(state: State, event: Evicted, now: int) -> tuple[list[Event], Told]:
    entry, step = state.cache.entries[event.key], event.eviction.step
    owner, key = state.copies.get(event.key, ("", ""))
    told: Told = [_notice(owner, entry, step, 0)] if owner and step in ("ask", "sleep", "kill") else []
    taken: list[Event] = []
    if step == "kill" and key in state.leases:
        taken.append((events.TAKEN, now, key, state.leases[key].taken or DROPPED))
        told += orders(state.leases[key], key)
    elif step == "quarantine":
        body = {"model": entry.model, "place": entry.place, "state": "quarantined", "bytes": entry.size}
        told.append(Broadcast(KIND, entry.host, body))
    elif step == "freed":
        told += [_notice(who, entry, "lost", 0) for who in (*entry.users, *entry.waiting) if who != owner]
    return taken, told


def _notice(who: str, copy: wire.CopyName | cache_state.Entry, step: str, load: int) -> Notice:
    body = {"v": 1, "service": SERVICE, "what": "cache", "model": copy.model, "place": copy.place, "tier": copy.tier,
            "step": step, "load": load}  # fmt: skip
    return Notice(who, body)


def _key(name: wire.CopyName) -> str:
    return key_of(name.model, name.place, name.tier)


def _row(event: cache_state.Event) -> list[Any]:
    return [list(item) if isinstance(item, tuple) else item for item in event]


def apply_cache(state: State, event: Event) -> None:
    _, now, kind, row, owner, lease = event
    state.at = now
    parts: list[Any] = [tuple(item) if isinstance(item, list | tuple) else item for item in row]
    if kind == "Evicted":
        parts[1] = Eviction(*parts[1])
    state.cache.apply(KINDS[kind](*parts))
    if kind == "Loaded":
        state.copies[parts[0]] = (owner, lease)
    elif kind in ("Evicted", "Failed") and parts[0] not in state.cache.entries:
        state.copies.pop(parts[0], None)
    state.cache_wake = None
