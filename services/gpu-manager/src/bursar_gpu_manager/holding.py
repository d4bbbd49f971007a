"""Holding a lease: renewed, given back, expired."""

from __future__ import annotations

from heapq import heappop
from typing import Final, NamedTuple

from bursar.contracts import gpu as wire
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Refuse, Reject
from bursar_gpu_manager import events
from bursar_gpu_manager.claiming import own
from bursar_gpu_manager.device import Lease
from bursar_gpu_manager.fitting import LOADING, loading_on
from bursar_gpu_manager.lifecycle import EXPIRED, RELEASED
from bursar_gpu_manager.overuse import overuse_of
from bursar_gpu_manager.state import State
from bursar_gpu_manager.telling import over

MAC: Final = 17
"""Length of a fence's last part, with its dot."""


class Expire(NamedTuple):
    """Internal: a lease's time and the margin have passed."""

    lease: str


def decide_renew(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.Renew = command.body
    lease = state.leases.get(body.lease)
    refusal = not_held(state, command, lease, body.lease, body.fence)
    if refusal is not None:
        return refusal
    assert lease is not None
    if lease.taken or now >= lease.expires_at:
        return ended(body.lease, lease.taken or "expired")
    if lease.adopted and now >= state.recovering_until and _is_crowded(state, lease):
        return ended(body.lease, "crowded_out")
    ttl = min(body.ttl_ms or lease.ttl, state.settings.max_ttl_ms)
    expires_at = max(lease.expires_at, now + ttl)
    if body.purpose == LOADING != lease.purpose and (other := _loading_beside(state, lease)) is not None:
        return Reject("conflict", f"Lease {other} is loading there.", {"lease": body.lease, "loading": other})
    processes = None
    if body.processes is not None:
        named = ((process.pid, process.started) for process in body.processes)
        processes = own(state, command.principal, lease.devices, named)
    reply = {
        "ok": True,
        "lease": body.lease,
        "ttl_ms": ttl,
        "expires_at_ms": expires_at,
        "overuse": overuse_of(state, body.lease, lease) or 0,
    }
    return Accept([(events.RENEWED, now, body.lease, ttl, expires_at, processes, body.purpose)], reply)


def decide_release(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.Release = command.body
    lease = state.leases.get(body.lease)
    ended_before = state.how_ended(body.lease) if lease is None else None
    if ended_before is not None:
        if ended_before.principal != command.principal:
            return not_yours(body.lease)
        return Refuse({"ok": True, "lease": body.lease, "outcome": ended_before.outcome})
    refusal = not_held(state, command, lease, body.lease, body.fence)
    if refusal is not None:
        return refusal
    reply = {"ok": True, "lease": body.lease, "outcome": RELEASED}
    return Accept([(events.RELEASED, now, body.lease)], reply, over(state, body.lease, RELEASED))


def not_held(state: State, command: Command, lease: Lease | None, key: str, sealed: str) -> Reject | None:
    """Why this principal with this fence may do nothing with the lease; None when it may."""
    if lease is None:
        before = state.how_ended(key)
        if before is None:
            return unknown_lease(key)
        return not_yours(key) if before.principal != command.principal else ended(key, before.outcome)
    if lease.principal != command.principal:
        return not_yours(key)
    if sealed[:-MAC] != key and not seeded("gpu_stale_fence_renews"):
        return Reject("bad_fence", f"The fence is not that of lease {key}.", {"lease": key})
    return None


def _is_crowded(state: State, lease: Lease) -> bool:
    """Whether the leases alone are more than one of the lease's devices offers: only adopting can do that."""
    devices = [state.devices[name] for name, _ in lease.devices if name in state.devices]
    return any(sum(device.leases.values()) + state.settings.reserve > device.total for device in devices)


def _loading_beside(state: State, lease: Lease) -> str | None:
    devices = [state.devices[name] for name, _ in lease.devices if name in state.devices]
    return next((key for device in devices if (key := loading_on(state, device)) is not None), None)


# ---- the end by time


def next_expired(state: State, now: int) -> Command | None:
    """A lease whose time and the margin have passed."""
    agenda = state.agenda
    while agenda and freed_at(state, agenda[0][0]) <= now:
        expires_at, key = agenda[0]
        lease = state.leases.get(key)
        if lease is not None and lease.expires_at == expires_at:
            return Command("", "", Expire(key))
        heappop(agenda)
    return None


def freed_at(state: State, expires_at: int) -> int:
    """When the memory of a lease is free again: its holder stops before it expires, by a clock that may drift."""
    if seeded("gpu_expired_regranted_early"):
        return expires_at - 1_000
    return expires_at + state.settings.margin_ms


def decide_expire(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    key = command.body.lease
    lease = state.leases.get(key)
    if lease is None or freed_at(state, lease.expires_at) > now:
        return Refuse({})
    return Accept([(events.EXPIRED, now, key)], {}, over(state, key, EXPIRED))


# ---- errors


def ended(key: str, why: str) -> Reject:
    return Reject("lease_ended", f"Lease {key} has ended: {why}.", {"lease": key, "why": why})


def not_yours(key: str) -> Reject:
    return Reject("not_yours", f"Lease {key} belongs to another principal.", {"lease": key})


def unknown_lease(key: str) -> Reject:
    text = f"There is no lease {key}; it may have ended long ago, or been lost with the log."
    return Reject("unknown_lease", text, {"lease": key})
