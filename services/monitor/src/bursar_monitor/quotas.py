"""Leases of hosts: who may use how much CPU, memory and disk where, and how much of it right now.

1. The guarantees of a host's leases never exceed what it has to lease: 85 % of its processor, the pool ``context`` of
   its memory, and the disk up to 92 % without what others have there. Nor do the limits, while they move (`sharing`).
2. Lent is processor time that somebody has and does not use, and what nobody has leased; it is back after a bounded
   time. Of memory and disk that somebody has leased nothing is lent: it may be filled at any moment, and files do not
   shrink.
3. A lease ends with its time unless it is renewed, also when nobody is there to say so.
4. Nothing is granted on a host that has not been heard lately, nor more memory than is really free there beside what
   other leases may still take, nor while the pool is full.
5. After a loss of entries nothing is granted until every lease that may have been lost is over.

The probe of the host keeps processes within their limits (`host_limits`); whoever waits asks again. How limits move and
leases end stands in `balancing`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bursar.contracts.monitor_quota import (
    MAX_LEASES,
    QUOTA_KIND,
    HostLease,
    ReleaseHost,
    RenewHost,
    SetQuota,
    pool_bytes,
)
from bursar.kernel.decider import Accept, Broadcast, Command, Fence, Outcome, Refuse, Reject
from bursar_monitor import pools
from bursar_monitor import quota_events as events
from bursar_monitor.bugs import LENT_TWICE, seeded
from bursar_monitor.quota_state import MAX_RULES, USE_FRESH_MS, Lease, QuotaRule, plain
from bursar_monitor.samples import HostView
from bursar_monitor.sharing import Held
from bursar_monitor.state import State

CPU_PERMILLE: Final = 850
DISK_PERMILLE: Final = 920
BUFFER_PERMILLE: Final = 200
SOON_MS: Final = 2_000

NOTHING = Refuse({})


class Room(NamedTuple):
    """What a host has to lease; None: not known."""

    cpu: int | None
    memory: int | None
    disk: int | None


def room_of(view: HostView) -> Room:
    """From its newest sample, which may leave something out."""
    sample = view.sample
    if sample is None:
        return Room(None, None, None)
    cpu = None if sample.cpu is None else sample.cpu.cores * CPU_PERMILLE
    memory = None if sample.memory is None else pool_bytes("context", sample.memory.total_bytes)
    disk = None
    if sample.disk is not None:
        leased = sum(use.disk_bytes or 0 for use in sample.leases)
        foreign = max(0, sample.disk.used_bytes - leased)
        disk = max(0, sample.disk.total_bytes * DISK_PERMILLE // 1_000 - foreign)
    return Room(cpu, memory, disk)


def heard(state: State, host: str, now: int) -> HostView | None:
    """The host, when its numbers say something about now."""
    view = state.hosts.get(host)
    return view if view is not None and view.sample is not None and now - view.heard_at <= USE_FRESH_MS else None


# ---- what agents ask for


def decide_lease(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: HostLease = command.body
    if not (body.cpu_milli or body.memory_bytes or body.disk_bytes):
        return Reject("bad_request", "A lease of nothing.", {"host": body.host})
    view = heard(state, body.host, now)
    refused = _why_not(state, command.principal, body, view, now)
    if refused is not None or view is None:
        return refused or NOTHING
    room, rule = room_of(view), state.quotas.rule_of(command.principal)
    here = [lease for _, lease in state.quotas.on(body.host)]
    cpu = max(0, min(body.cpu_milli, (room.cpu or 0) - sum(lease.cpu_held.at(now) for lease in here)))
    memory = max(0, min(body.memory_bytes, (room.memory or 0) - sum(lease.memory_held.at(now) for lease in here)))
    lease = Lease(
        command.principal,
        body.host,
        body.cpu_milli,
        body.memory_bytes,
        body.disk_bytes,
        _most(body.cpu_milli, body.most_cpu_milli, rule.cpu),
        _most(body.memory_bytes, body.most_memory_bytes, rule.memory),
        body.ttl_ms,
        now + body.ttl_ms,
        _claims(body.processes),
        body.note,
        Held(cpu, 0, 0, now),
        Held(memory, 0, 0, now),
    )
    name = ".".join(map(str, fence))
    reply = {"ok": True, "lease": name, "host": body.host, "ttl_ms": body.ttl_ms, **_limits(lease)}
    return Accept([(events.LEASED, now, name, plain(lease))], reply, [changed(state, body.host)])


def _most(asked: int, most: int | None, bound: int | None) -> int:
    wanted_most = asked if most is None else most
    return max(asked, wanted_most if bound is None else min(bound, wanted_most))


def _claims(processes: Any) -> tuple[tuple[int, int], ...]:
    return tuple((claim.pid, claim.started) for claim in processes)


def _limits(lease: Lease) -> dict[str, int]:
    return {
        "cpu_milli": lease.cpu_held.limit,
        "memory_bytes": lease.memory_held.limit,
        "disk_bytes": lease.disk,
    }


def _why_not(state: State, agent: str, body: HostLease, view: HostView | None, now: int) -> Refuse | None:
    quotas = state.quotas
    if now < quotas.closed_until:
        wait = quotas.closed_until - now
        return _refused(
            "recovering", "", 0, wait, "Leases may have been lost; nothing is granted before they are over."
        )
    if view is None:
        return _refused("not_observed", "", 0, SOON_MS, f"Host {body.host} has not been heard of lately.")
    here = [lease for _, lease in quotas.on(body.host)]
    if len(here) >= MAX_LEASES:
        return _refused("too_many", "", 0, _first_end(here, now), f"There are {MAX_LEASES} leases on {body.host}.")
    asked = {"cpu": body.cpu_milli, "memory": body.memory_bytes, "disk": body.disk_bytes}
    room, rule = room_of(view)._asdict(), quotas.rule_of(agent)._asdict()
    for resource, ask in asked.items():
        if not ask:
            continue
        mine = sum(getattr(lease, resource) for lease in here if lease.agent == agent)
        if rule[resource] is not None and mine + ask > rule[resource]:
            text = f"{agent} may lease {rule[resource]} of {resource} on a host and has {mine}."
            return _refused("over_quota", resource, mine + ask - rule[resource], None, text)
        if room[resource] is None:
            return _refused("not_observed", resource, ask, SOON_MS, f"What {body.host} has of {resource} is not known.")
        if ask > room[resource]:
            return _refused("never_fits", resource, ask - room[resource], None, f"{body.host} has not so much.")
        leased = 0 if seeded(LENT_TWICE) else sum(getattr(lease, resource) for lease in here)
        if leased + ask > room[resource]:
            text = f"Of {room[resource]} of {resource} on {body.host} {leased} are leased."
            return _refused("no_room", resource, leased + ask - room[resource], _first_end(here, now), text)
    return _memory_in_use(state, body, view, here, now) if body.memory_bytes else None


def _memory_in_use(state: State, body: HostLease, view: HostView, here: list[Lease], now: int) -> Refuse | None:
    """Whether the memory that could be leased by the books is used by somebody all the same."""
    sample = view.sample
    if sample is None or sample.memory is None:
        return _refused("not_observed", "memory", body.memory_bytes, SOON_MS, "The host does not tell its memory.")
    over = pools.used(sample)["context"] - pool_bytes("context", sample.memory.total_bytes)
    if over >= 0:
        return _refused("pool_full", "memory", over + 1, SOON_MS, f"The pool of agents on {body.host} is full.")
    owed = 0
    for name, lease in state.quotas.on(body.host):
        use = state.quotas.use_of(name, now)
        owed += max(0, lease.memory - (use.memory_bytes if use is not None else 0))
    buffer = sample.memory.total_bytes * BUFFER_PERMILLE // 1_000
    missing = body.memory_bytes - (sample.memory.available_bytes - owed - buffer)
    if missing > 0:
        return _refused("in_use", "memory", missing, SOON_MS, f"So much memory is not free on {body.host}.")
    return None


def _first_end(here: list[Lease], now: int) -> int | None:
    return max(0, min((lease.until for lease in here), default=now) - now) or None


def _refused(reason: str, resource: str, missing: int, retry: int | None, text: str) -> Refuse:
    return Refuse(
        {"ok": False, "reason": reason, "resource": resource, "missing": missing, "retry_in_ms": retry, "text": text}
    )


def decide_renew(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: RenewHost = command.body
    lease = _mine(state, body.lease, command.principal)
    if isinstance(lease, Reject):
        return lease
    claims = None if body.processes is None else [list(claim) for claim in _claims(body.processes)]
    if claims == [list(claim) for claim in lease.claims]:
        claims = None
    use = state.quotas.use_of(body.lease, now)
    reply = {
        "ok": True,
        "lease": body.lease,
        **_limits(lease),
        "used_cpu_milli": None if use is None else use.cpu_milli,
        "used_memory_bytes": None if use is None else use.memory_bytes,
        "used_disk_bytes": None if use is None else use.disk_bytes,
        "held_by": "nothing" if use is None else use.held_by,
        "ttl_ms": body.ttl_ms,
    }
    event = (events.RENEWED, now, body.lease, now + body.ttl_ms, body.ttl_ms, claims)
    return Accept([event], reply, [] if claims is None else [changed(state, lease.host)])


def decide_release(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: ReleaseHost = command.body
    lease = _mine(state, body.lease, command.principal)
    if isinstance(lease, Reject):
        return lease
    event = (events.ENDED, now, body.lease, "released")
    return Accept([event], {"ok": True, "lease": body.lease}, [changed(state, lease.host)])


def _mine(state: State, name: str, principal: str) -> Lease | Reject:
    lease = state.quotas.leases.get(name)
    if lease is None:
        return Reject("unknown_lease", f"There is no lease {name} (any more).", {"lease": name})
    if lease.agent != principal:
        return Reject("not_yours", f"Lease {name} is somebody else's.", {"lease": name})
    return lease


def decide_set_quota(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: SetQuota = command.body
    quotas = state.quotas
    reply = {"ok": True, "agent": body.agent}
    if body.weight is None:
        return Accept([(events.ALLOWED, now, body.agent, None)], reply) if body.agent in quotas.rules else Refuse(reply)
    if body.agent not in quotas.rules and len(quotas.rules) >= MAX_RULES:
        return Reject("too_many", f"There are {MAX_RULES} quotas; forget some first.", {})
    rule = QuotaRule(body.weight, body.cpu_milli, body.memory_bytes, body.disk_bytes)
    return Accept([(events.ALLOWED, now, body.agent, list(rule))], reply)


# ---- what the probe asks for


def decide_plan(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    rows = [
        {
            "v": 1,
            "lease": name,
            "agent": lease.agent,
            **_limits(lease),
            "weight": state.quotas.rule_of(lease.agent).weight,
            "processes": [{"v": 1, "pid": pid, "started": started} for pid, started in lease.claims],
        }
        for name, lease in state.quotas.on(command.principal)
    ]
    return Refuse({"ok": True, "revision": state.quotas.revision, "leases": rows})


def changed(state: State, host: str) -> Broadcast:
    return Broadcast(QUOTA_KIND, host, {"v": 1, "host": host, "revision": state.quotas.revision + 1})
