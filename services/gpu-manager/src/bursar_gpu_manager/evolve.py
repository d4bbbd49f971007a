"""Applying events: the only writer of the durable state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Event
from bursar.kernel.rights import RIGHTS, apply_rights
from bursar_gpu_manager import events
from bursar_gpu_manager.advising import apply_advised, apply_measured
from bursar_gpu_manager.alarming import apply_alarmed
from bursar_gpu_manager.caching import apply_cache
from bursar_gpu_manager.defragmenting import apply_movable, apply_moved, apply_planned
from bursar_gpu_manager.device import Choice, Device, Lease
from bursar_gpu_manager.kv_sharing import apply_kv
from bursar_gpu_manager.lifecycle import DEVICE_LOST, DROPPED, EXPIRED, RELEASED
from bursar_gpu_manager.operating import apply_settings
from bursar_gpu_manager.recovery import apply_lost
from bursar_gpu_manager.state import Ended, State


def apply_announced(state: State, event: Event) -> None:
    _, now, host, labels, rows = event
    state.at = now
    state.labels[host] = dict(labels)
    for uuid, index, model, total in rows:
        device = state.devices.get(f"{host}/{uuid}")
        if device is None:
            device = Device(host, uuid, index, model, total)
            state.add(device)
            _find_leases(state, device)
        device.index, device.model, device.total, device.lost = index, model, total, False
        state.mark(device)
    state.change_devices()


def _find_leases(state: State, device: Device) -> None:
    """A device that was lost with the log may have leases that were adopted."""
    for key, lease in state.leases.items():
        for name, memory in lease.devices:
            if name == device.name:
                device.leases[key] = memory


def apply_device_lost(state: State, event: Event) -> None:
    _, now, name, _ = event
    state.at = now
    state.devices[name].lost = True
    state.mark(state.devices[name])
    state.counts["devices_lost"] += 1
    state.change_devices()


def apply_forgotten(state: State, event: Event) -> None:
    _, now, name = event
    state.at = now
    device = state.devices.pop(name)
    state.sheet.remove(name)
    state.alarms.pop(name, None)
    del state.hosts[device.host][name]
    if not state.hosts[device.host]:
        del state.hosts[device.host]
        state.labels.pop(device.host, None)
    state.change_devices()


def apply_granted(state: State, event: Event) -> None:
    state.counts["granted"] += 1
    _hold(state, event[1], event[2], _lease(*event[3:]))


def apply_adopted(state: State, event: Event) -> None:
    _hold(state, event[1], event[2], _lease(*event[3:])._replace(adopted=True))


def _lease(principal: str, ttl: int, expires_at: int, devices: Event, processes: Event, *more: Any) -> Lease:
    shares = tuple((name, memory) for name, memory in devices)
    purpose, note, emergency, group, choice, there = more
    own = (purpose, note, emergency, group, Choice.of_row(choice))
    return Lease(principal, ttl, expires_at, shares, _pids(processes), *own, before=tuple(map(tuple, there)))


def _pids(processes: Event) -> tuple[tuple[int, int], ...]:
    return tuple((pid, started) for pid, started in processes)


def _hold(state: State, now: int, key: str, lease: Lease) -> None:
    state.at = now
    state.hold(key, lease)
    for name, memory in lease.devices:
        if name in state.devices:
            state.devices[name].leases[key] = memory
    state.touch(lease)
    state.schedule(key, lease)


def apply_renewed(state: State, event: Event) -> None:
    _, now, key, ttl, expires_at, processes, purpose = event
    state.at = now
    lease = state.leases[key]._replace(ttl=ttl, expires_at=expires_at)
    if purpose is not None:
        lease = lease._replace(purpose=purpose)
        state.line.changed = True
    if processes is not None:
        state.claims.remove(lease)
        lease = lease._replace(processes=_pids(processes))
        state.claims.add(lease)
        state.touch(lease)
    state.leases[key] = lease
    state.schedule(key, lease)


def apply_released(state: State, event: Event) -> None:
    _, now, key = event
    state.counts["released"] += 1
    _end(state, now, key, RELEASED)


def apply_expired(state: State, event: Event) -> None:
    """Its holder may have used memory until the very end: only a report from after it says that this is over."""
    _, now, key = event
    lease = state.leases[key]
    for name, _ in lease.devices:
        if name in state.devices:
            device = state.devices[name]
            device.unsure_until = max(device.unsure_until, min(now, lease.expires_at))
    state.counts["expired"] += 1
    _end(state, now, key, lease.taken or EXPIRED)


def _end(state: State, now: int, key: str, outcome: str) -> None:
    state.at = now
    lease = state.leases.pop(key)
    state.claims.remove(lease)
    state.floors.pop(key, None)
    for name, _ in lease.devices:
        if name in state.devices:
            state.devices[name].leases.pop(key, None)
    state.touch(lease)
    state.sheet.end(key, (name for name, _ in lease.devices))
    state.cache_changed = bool(state.copies)
    state.alarms.pop(key, None)
    state.movable.pop(key, None)
    state.pools.pop(key, None)
    state.remember(key, Ended(lease.principal, outcome))
    state.line.changed = True


def apply_taken(state: State, event: Event) -> None:
    _, now, key, why = event
    state.at = now
    if state.leases[key].taken:
        return  # an order to its hosts, said again
    state.counts[DEVICE_LOST if why == DEVICE_LOST else DROPPED] += 1
    if seeded("gpu_ended_by_loss_is_free"):
        _end(state, now, key, why)
        return
    state.leases[key] = state.leases[key]._replace(taken=why)


def apply_cordoned(state: State, event: Event) -> None:
    _, now, target, on = event
    state.at = now
    if on:
        state.cordoned[target] = True
    else:
        state.cordoned.pop(target, None)
    for device in state.of_host(target.partition("/")[0]).values():
        state.mark(device)
    state.change_devices()


APPLY: dict[str, Callable[[State, Event], None]] = {
    events.ANNOUNCED: apply_announced,
    events.DEVICE_LOST: apply_device_lost,
    events.FORGOTTEN: apply_forgotten,
    events.GRANTED: apply_granted,
    events.RENEWED: apply_renewed,
    events.RELEASED: apply_released,
    events.EXPIRED: apply_expired,
    events.TAKEN: apply_taken,
    events.CORDONED: apply_cordoned,
    events.SETTINGS: apply_settings,
    events.LOST: apply_lost,
    events.ADOPTED: apply_adopted,
    events.ALARMED: apply_alarmed,
    events.CACHE: apply_cache,
    events.MOVABLE: apply_movable,
    events.PLANNED: apply_planned,
    events.MOVED: apply_moved,
    events.ADVISED: apply_advised,
    events.MEASURED: apply_measured,
    events.KV: apply_kv,
    RIGHTS: apply_rights,
}
