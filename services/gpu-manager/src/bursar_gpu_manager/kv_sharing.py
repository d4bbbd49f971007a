"""Pools of KV pages: engines of one card share the pages of one lease for ``kv_cache``.

The lease is charged as any other, so whatever engines take of it is granted already; inside of it `kv_pages` keeps what
each engine was promised and lends the rest. What an engine holds is durable; what it uses of that is what it told last.
When one cannot have what it wants, those who were lent more than they were promised are asked for it, durably and once,
as long as it goes on wanting it.

Who may join is the holder and whom it names. Pages are an engine's for a time (``keep_ms``) after it said something
last, and not longer than the lease is its holder's; it stops at that time by its own clock, measured from when it sent
what it said. Here it has left a margin later. That time is settled when the pool is opened: the setting
``cache_use_ms`` then, and at most the longest time to live. A pool ends with its lease.

After a loss of entries a pool, or what engines took of it, may be among what was lost. Its holder opens it again, and
engines join again with what they are ``holding``: with a fence that they were given after the lease was granted and
before the loss, so that nobody has pages who never had to do with this manager. Until all of them must have done so, or
have stopped (`recovery`), nobody else joins, and nobody takes more.

Events: ``open`` [page, total, who may join, time], ``join`` [engine, promised, limit, blocks in a page], ``set``
[engine, pages], ``asked`` [by whom, [from whom, pages]s], ``leave`` [engine].
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bursar.contracts import gpu_kv as wire
from bursar.contracts.gpu import SERVICE
from bursar.errors import CallerError
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_gpu_manager import events
from bursar_gpu_manager.gate import numbers_of
from bursar_gpu_manager.holding import ended, not_held, unknown_lease
from bursar_gpu_manager.kv_pages import Pages, PageUse, packed_pages, to_give_up, waste
from bursar_gpu_manager.kv_pool import Pool
from bursar_gpu_manager.state import State

KV_CACHE: Final = "kv_cache"
MILLION: Final = 1_000_000
ASKED_MS: Final = 10_000
"""Pages are asked back from others for so long after somebody has wanted them last."""


class Lapse(NamedTuple):
    """Internal: an engine has been silent for too long, or (``asked``) wants no more what is asked of others for it."""

    lease: str
    engine: str
    asked: bool = False


# ---- the holder of the lease


def decide_open(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.KvOpen = command.body
    lease = state.leases.get(body.lease)
    refusal = not_held(state, command, lease, body.lease, body.fence)
    if refusal is not None:
        return refusal
    assert lease is not None
    total = lease.devices[0][1] // body.page
    if lease.taken or lease.purpose != KV_CACHE or len(lease.devices) != 1 or total < 1:
        text = "A pool is a lease for kv_cache that holds, on one device, of a page or more."
        return Reject("conflict", text, {"lease": body.lease})
    reply = {"ok": True, "lease": body.lease, "pages": total}
    pool = state.pools.get(body.lease)
    if pool is None:
        keep_ms = min(state.settings.cache_use_ms, state.settings.max_ttl_ms)
        return Accept([_event(now, body.lease, "open", [body.page, total, list(body.engines), keep_ms])], reply)
    if (pool.page, pool.engines) == (body.page, body.engines):
        return Refuse(reply)
    return Reject("conflict", f"Lease {body.lease} is a pool already, with other pages or engines.", {})


# ---- engines


def _pool(state: State, key: str, principal: str, now: int) -> Pool | Reject:
    """The pool, if this engine may have to do with it."""
    lease, pool = state.leases.get(key), state.pools.get(key)
    if lease is None:
        before = state.how_ended(key)
        return unknown_lease(key) if before is None else ended(key, before.outcome)
    if pool is None:
        return Reject("conflict", f"Lease {key} is not opened as a pool.", {"lease": key})
    if principal != lease.principal and principal not in pool.engines:
        return Reject("not_yours", f"The pool of lease {key} is for others.", {"lease": key})
    return ended(key, lease.taken or "expired") if lease.taken or now >= lease.expires_at else pool


def decide_join(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.KvJoin = command.body
    pool = _pool(state, body.lease, command.principal, now)
    if isinstance(pool, Reject):
        return pool
    if body.holding is not None and not _was_there(body, fence):
        return Reject("bad_fence", "Pages that are held already need a fence from before the loss.", {})
    who, after = command.principal, pool.copy()
    happened: list[Event] = []
    there = pool.pages.engines.get(who)
    if there is None:
        refusal = _add(state, pool, after, command, now)
        if refusal is not None:
            return refusal
        happened.append(_event(now, body.lease, "join", [who, body.promised, body.limit, body.per_page]))
    elif (there.promised, there.limit, there.per_page) != (body.promised, body.limit, body.per_page):
        return Reject("conflict", "This engine has joined already, with other numbers.", {"lease": body.lease})
    _hear(state, pool, who, now)
    before = after.engines[who].pages
    if body.holding is not None:
        after.put(who, min(body.holding, body.limit, before + max(0, after.lendable(who))))
    if after.engines[who].pages != before:
        happened.append(_event(now, body.lease, "set", [who, after.engines[who].pages]))
    reply = _held(state, pool, body.lease, who, after, now)
    return Accept(happened, reply) if happened else Refuse(reply)


def _was_there(body: wire.KvJoin, fence: Fence) -> bool:
    """Whether its fence, which the host has found genuine, is of after the grant of the lease and before a loss."""
    return body.fence is not None and numbers_of(body.lease) < numbers_of(body.fence) < (fence[0],)


def _hear(state: State, pool: Pool, who: str, now: int) -> None:
    pool.heard[who] = now
    state.kv_look_at = min(state.kv_look_at, now + min(ASKED_MS, pool.keep_ms))


def _add(state: State, pool: Pool, after: Pages, command: Command, now: int) -> Outcome | None:
    """A new engine in ``after``; or why not."""
    body: wire.KvJoin = command.body
    no = {"ok": False, "lease": body.lease, "lendable": 0}
    if now < state.recovering_until and body.holding is None:
        return Refuse(no | {"reason": "recovering"})
    try:
        after.add(command.principal, body.promised, body.limit, body.per_page)
    except CallerError as error:
        if error.code == "no_pages":
            return Refuse(no | {"reason": "no_pages", "lendable": max(0, pool.pages.lendable(""))})
        return Reject(error.code, error.text, dict(error.facts))
    return None


def decide_pages(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.KvPages = command.body
    who = command.principal
    pool = _pool(state, body.lease, who, now)
    if isinstance(pool, Reject):
        return pool
    if who not in pool.pages.engines:
        return Reject("conflict", "This engine has not joined, or was silent for too long.", {"lease": body.lease})
    after = pool.copy()
    try:
        after.use(who, body.blocks)
        after.give(who, body.give)
    except CallerError:
        return Reject("conflict", f"{body.blocks} blocks do not fit into the pages that are left.", {})
    _hear(state, pool, who, now)
    pool.pages.use(who, body.blocks)
    may_take = not body.take or now >= state.recovering_until
    taken = may_take and after.take(who, body.take)
    mine = after.engines[who]
    asked = {} if taken or not may_take or mine.pages + body.take > mine.limit else after.reclaim(who, body.take)
    if asked:
        pool.asked_at[who] = now
    reply = _held(state, pool, body.lease, who, after, now, body, asked) | {"taken": taken and body.take > 0}
    happened = []
    if after.engines[who].pages != pool.pages.engines[who].pages:
        happened.append(_event(now, body.lease, "set", [who, after.engines[who].pages]))
    told = []
    if asked != pool.asked_by(who) and not taken:
        happened.append(_event(now, body.lease, "asked", [who, [list(pair) for pair in asked.items()]]))
        told = [_notice(body.lease, name, pages) for name, pages in asked.items()]
    return Accept(happened, reply, told) if happened else Refuse(reply)


def _held(
    state: State,
    pool: Pool,
    key: str,
    who: str,
    pages: Pages,
    now: int,
    body: wire.KvPages | None = None,
    asked: dict[str, int] | None = None,
) -> dict[str, Any]:
    """What an engine is told of what it has after a decision."""
    mine = pages.engines[who]
    given = 0 if body is None else body.give
    wanted = min(max(0, pool.wanted(who) - given), max(0, mine.pages - mine.promised))
    held = () if body is None else body.held
    empty = to_give_up([PageUse(page.page, page.blocks, page.busy, page.used_at_ms) for page in held], wanted)
    return {
        "ok": True,
        "lease": key,
        "promised": mine.promised,
        "pages": mine.pages,
        "taken": False,
        "asked": sum((asked or {}).values()),
        "wanted": wanted,
        "empty": empty,
        "lendable": max(0, min(pages.lendable(who), mine.limit - mine.pages)),
        "waste": int(mine.waste * MILLION),
        "packed": mine.packed,
        "keep_ms": min(pool.keep_ms, state.leases[key].expires_at - now),
    }


def _notice(key: str, engine: str, pages: int) -> Notice:
    return Notice(engine, {"v": 1, "service": SERVICE, "what": "kv_wanted", "lease": key, "pages": pages})


def decide_leave(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    key, pool = command.body.lease, state.pools.get(command.body.lease)
    if pool is None or command.principal not in pool.pages.engines:
        return Refuse({"ok": True, "lease": key, "was_there": False})
    return Accept([_event(now, key, "leave", [command.principal])], {"ok": True, "lease": key, "was_there": True})


def decide_status(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    key: str = command.body.lease
    pool = state.pools.get(key)
    if pool is None:
        lease_is_there = key in state.leases
        return Reject("conflict", f"Lease {key} is no pool.", {"lease": key}) if lease_is_there else unknown_lease(key)
    engines = pool.pages.engines
    used = sum(packed_pages(held.blocks, held.per_page) for held in engines.values())
    rows = [
        {
            "engine": name,
            "promised": held.promised,
            "limit": held.limit,
            "pages": held.pages,
            "blocks": held.blocks,
            "waste": int(held.waste * MILLION),
            "packed": held.packed,
        }
        for name, held in engines.items()
    ]
    told = {"page": pool.page, "pages": pool.pages.total, "free": pool.pages.free, "engines": rows}
    part = waste(used, pool.pages.total - pool.pages.free)
    return Refuse({"ok": True, "lease": key, **told, "waste": int(part * MILLION)})


# ---- engines that say nothing any more


def next_lapse(state: State, now: int) -> Command | None:
    """An engine whose time is over; one that this owner has not heard has its whole time from now on."""
    if not state.pools or now < state.kv_look_at:
        return None
    first = now + ASKED_MS
    for key, pool in state.pools.items():
        pool.heard = {name: pool.heard.get(name, now) for name in pool.pages.engines}
        pool.asked_at = {name: pool.asked_at.get(name, now) for name in pool.asked}
        silent_ms = pool.keep_ms + state.settings.margin_ms
        ends = [(at + silent_ms, Lapse(key, name)) for name, at in pool.heard.items()]
        ends += [(at + ASKED_MS, Lapse(key, name, asked=True)) for name, at in pool.asked_at.items()]
        for at, lapse in ends:
            if now >= at:
                return Command("", "", lapse)
            first = min(first, at)
    state.kv_look_at = first
    return None


def look_at(state: State) -> int | None:
    return state.kv_look_at if state.pools else None


def decide_lapse(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Lapse = command.body
    pool = state.pools.get(body.lease)
    if pool is None or body.engine not in pool.pages.engines:
        return Refuse({})
    if body.asked:
        return Accept([_event(now, body.lease, "asked", [body.engine, []])], {})
    return Accept([_event(now, body.lease, "leave", [body.engine])], {})


# ---- events


def _event(now: int, key: str, what: str, row: list[Any]) -> Event:
    return (events.KV, now, key, what, row)


def apply_kv(state: State, event: Event) -> None:
    _, now, key, what, row = event
    state.at = now
    if what == "open":
        page, total, engines, keep_ms = row
        state.pools[key] = Pool(page, tuple(engines), keep_ms, Pages(total))
    else:
        state.pools[key].apply(what, row)
