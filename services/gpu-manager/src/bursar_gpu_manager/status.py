"""The query: devices, leases, hosts, counters. It changes nothing and tells no fence."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from bursar.contracts.gpu import Status
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_gpu_manager.contention import Load
from bursar_gpu_manager.device import Device, Lease
from bursar_gpu_manager.fitting import charge_of, is_fresh, loading_on, observed_of, room_of
from bursar_gpu_manager.lifecycle import ENDING, HELD
from bursar_gpu_manager.state import State

SHOWN: Final = 512
"""Leases that are listed."""
SHOWN_DEVICES: Final = 1_024
"""Devices that are: the answer has to fit into one message."""


def decide_status(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Status = command.body
    hosts = list(state.hosts) if body.host is None else [body.host] if body.host in state.hosts else []
    devices = [device for host in hosts for device in state.hosts[host].values()]
    leases = state.leases
    if body.host is not None:
        leases = {key: state.leases[key] for device in devices for key in device.leases}
    return Refuse(
        {
            "ok": True,
            "now_ms": now,
            "recovering": now < state.recovering_until,
            "hosts": [_host(state, host, now) for host in hosts],
            "devices": [_device(state, device, now) for device in devices[:SHOWN_DEVICES]],
            "devices_total": len(devices),
            "leases": [_lease(state, key, lease, now) for key, lease in islice(leases.items(), SHOWN)],
            "leases_total": len(leases),
            "leases_unknown": sum(phase_of(state, lease, now) == "unknown" for lease in leases.values()),
            "waiting": len(state.line),
            "counters": {**state.counts, "refused": state.refused},
            "settings": state.settings.model_dump(),
        }
    )


def _age(state: State, host: str, now: int) -> int | None:
    sight = state.sights.get(host)
    return None if sight is None else now - sight.at


def _host(state: State, host: str, now: int) -> dict[str, Any]:
    age = _age(state, host, now)
    return {
        "host": host,
        "cordoned": host in state.cordoned,
        "fresh": age is not None and age <= state.settings.fresh_ms,
        "age_ms": age,
        "labels": dict(state.labels.get(host, {})),
        "gate": None if (sight := state.sights.get(host)) is None or sight.gate is None else sight.gate.model_dump(),
    }


def _device(state: State, device: Device, now: int) -> dict[str, Any]:
    age, view, charge = _age(state, device.host, now), state.view(device), charge_of(state, device)
    fresh = is_fresh(state, device, now) and not device.lost
    report = view.report if view is not None and age is not None and age <= state.settings.fresh_ms else None
    return {
        "device": device.name,
        "host": device.host,
        "uuid": device.uuid,
        "index": device.index,
        "model": device.model,
        "state": "lost" if device.lost else "ready",
        "cordoned": state.is_cordoned(device),
        "fresh": fresh,
        "age_ms": age,
        "total": device.total,
        "reserved": None if view is None else view.report.reserved,
        "used": None if report is None else report.used,
        "granted": sum(device.leases.values()),
        "charged": charge.charged,
        "foreign": charge.foreign if report is not None else None,
        "room": room_of(state, device) if fresh and now >= state.recovering_until else None,
        "leases": len(device.leases),
        "overused": charge.overused,
        "utilisation": None if report is None else report.utilisation,
        "temperature": None if report is None else report.temperature,
        "power_mw": None if report is None else report.power_mw,
        "margin": None if report is None else report.margin,
        "throttle": None if report is None or report.throttle is None else list(report.throttle),
        "sm_activity": None if report is None else report.sm_activity,
        "dram_activity": None if report is None else report.dram_activity,
        "numa_node": None if view is None else view.report.numa_node,
        "emergency": charge.emergency,
        "loading": loading_on(state, device),
        "alarm": state.alarms.get(device.name, 0),
        "heat": state.sheet.heat(device.name).name.lower(),
        "load": (Load.CALM if (seen := state.sheet.loads.get(device.name)) is None else seen.load).name.lower(),
        "role": state.sheet.fleet.cards[device.name].role,
    }


def _lease(state: State, key: str, lease: Lease, now: int) -> dict[str, Any]:
    known = [observed_of(state, state.devices[name]) for name, _ in lease.devices if name in state.devices]
    observed = [row[key] for row in known if key in row]
    return {
        "lease": key,
        "principal": lease.principal,
        "purpose": lease.purpose,
        "note": lease.note,
        "group": lease.group,
        "emergency": lease.emergency,
        "state": ENDING if lease.taken else HELD,
        "phase": phase_of(state, lease, now),
        "devices": [name for name, _ in lease.devices],
        "memory": sum(memory for _, memory in lease.devices),
        "observed": sum(observed) if observed else None,
        "expires_in_ms": max(0, lease.expires_at - now),
    }


def phase_of(state: State, lease: Lease, now: int) -> str:
    """See `bursar.contracts.gpu_status.LeaseStatus`. What was not seen by this owner is unknown, not absent."""
    if lease.taken:
        return ENDING
    devices = [state.devices.get(name) for name, _ in lease.devices]
    views = [None if device is None or not _is_seen(state, device, now) else state.view(device) for device in devices]
    if any(view is None for view in views):
        return "unknown"
    if any(view and not view.seen.isdisjoint(lease.processes) for view in views):
        return "active"
    return "granted" if all(view and view.is_telling for view in views) else "unknown"


def _is_seen(state: State, device: Device, now: int) -> bool:
    sight = state.sights.get(device.host)
    return sight is not None and now - sight.at <= state.settings.fresh_ms
