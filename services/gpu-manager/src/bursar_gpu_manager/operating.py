"""What operators do: cordon, drop, forget, settings."""

from __future__ import annotations

import hashlib
from typing import Any

from bursar.contracts import gpu as wire
from bursar.contracts.base import Message
from bursar.contracts.gpu import Settings
from bursar.kernel.decider import Accept, Broadcast, Command, Fence, Notice, Outcome, Refuse, Reject
from bursar_gpu_manager import events
from bursar_gpu_manager.enforcing import orders
from bursar_gpu_manager.holding import ended, freed_at, unknown_lease
from bursar_gpu_manager.lifecycle import DROPPED
from bursar_gpu_manager.observing import KIND
from bursar_gpu_manager.recovery import safe_at
from bursar_gpu_manager.state import State
from bursar_gpu_manager.telling import lost

MAX_CORDONED = 4_096


class Adopt(Message):
    """Internal: the settings of the environment. They are taken over once, so that a restart does not undo what an
    operator has changed since."""

    settings: Settings


def digest(settings: Settings) -> str:
    return hashlib.blake2b(settings.model_dump_json().encode(), digest_size=8).hexdigest()


def decide_cordon(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.Cordon | wire.Uncordon = command.body
    on = isinstance(body, wire.Cordon)
    reply = {"ok": True, "target": body.target, "cordoned": on}
    if (body.target in state.cordoned) is on:
        return Refuse(reply)
    if on and len(state.cordoned) >= MAX_CORDONED:
        return Reject("too_many", "So many devices and hosts are cordoned already.", {"count": len(state.cordoned)})
    host = body.target.partition("/")[0]
    told = Broadcast(KIND, host, {"device": body.target, "state": "cordoned" if on else "uncordoned"})
    return Accept([(events.CORDONED, now, body.target, on)], reply, [told])


def decide_drop(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    key = command.body.lease
    lease = state.leases.get(key)
    if lease is None:
        before = state.how_ended(key)
        return unknown_lease(key) if before is None else ended(key, before.outcome)
    told: list[Broadcast | Notice] = [] if lease.taken else [*lost(state, key, DROPPED)]
    if command.body.kill:
        told += orders(lease, key)
    reply = {
        "ok": True,
        "lease": key,
        "principal": lease.principal,
        "freed_in_ms": max(0, freed_at(state, lease.expires_at) - now),
    }
    if lease.taken and not command.body.kill:
        return Refuse(reply)
    return Accept([(events.TAKEN, now, key, lease.taken or DROPPED)], reply, told)


def decide_forget(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    name = command.body.device
    device = state.devices.get(name)
    if device is None:
        return Reject("unknown_device", f"There is no device {name}.", {"device": name})
    if not device.lost or device.leases:
        return Reject("conflict", f"Device {name} is there, or leases on it still count.", {"device": name})
    return Accept([(events.FORGOTTEN, now, name)], {"ok": True, "device": name})


def decide_configure(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.Configure = command.body
    changed = {name: value for name in Settings.model_fields if (value := getattr(body, name, None)) is not None}
    settings = Settings.model_validate(state.settings.model_dump() | changed)
    reply = {"ok": True, "settings": settings.model_dump()}
    if settings == state.settings:
        return Refuse(reply)
    return Accept([(events.SETTINGS, now, settings.model_dump(), state.source)], reply)


def decide_adopt(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    settings: Settings = command.body.settings
    source = digest(settings)
    if source == state.source:
        return Refuse({})
    return Accept([(events.SETTINGS, now, settings.model_dump(), source)], {})


def apply_settings(state: State, event: Any) -> None:
    """A longer time to live may have been in force in what was lost: then the recovery lasts accordingly longer."""
    _, now, settings, source = event
    state.at, state.source = now, source
    before, state.settings = state.settings, Settings.model_validate(settings)
    state.cache.times, state.cache_wake, state.kv_look_at = state.settings.eviction_times, None, 0
    for device in state.devices.values():
        state.mark(device)
    if state.lost_at >= 0 and state.settings.max_ttl_ms > before.max_ttl_ms:
        state.recovering_until = max(state.recovering_until, safe_at(state, state.lost_at))
        state.line.look_at = state.recovering_until
    state.line.changed = True
