"""From the ledger and the reports to candidates: what each device is charged with, and whether it may be used."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from bursar.contracts import gpu as wire
from bursar.kernel.bugs import seeded
from bursar_gpu_manager.admission import Claim, attribute, charge, foreign, room
from bursar_gpu_manager.device import Device
from bursar_gpu_manager.placement import BestFit, Candidate, Placement
from bursar_gpu_manager.state import State

PLACEMENT: Final[Placement] = BestFit()

MAX_LEASES: Final = 1_024
"""Leases on one device at a time, so that the end of a device fits into one decision."""


class Charge(NamedTuple):
    """Bytes on one device: sum of max(grant, observed) over the leases, foreign (None: not known), and how many
    leases are used beyond what was granted."""

    charged: int
    foreign: int | None
    overused: int


def observed_of(state: State, device: Device) -> dict[str, int]:
    """Bytes observed of each lease on the device, as far as its processes were named and can be told."""
    view = state.view(device)
    if view is None or not view.processes:
        return {}
    return attribute((Claim(key, memory, state.leases[key].processes) for key, memory in device.leases.items()),
                     view.processes)  # fmt: skip


def charge_of(state: State, device: Device) -> Charge:
    """Remembered until the device's leases or its report change."""
    if device.charge is None:
        observed = observed_of(state, device)
        charged = charge((Claim(key, memory, ()) for key, memory in device.leases.items()), observed)
        view = state.view(device)
        used = None if view is None else view.used
        if used is None and view is not None and seeded("gpu_unknown_counts_as_zero"):
            used = 0
        others = -1 if used is None else foreign(used, observed)
        overused = sum(observed[key] > device.leases[key] for key in observed)
        device.charge = (charged, others, overused)
    charged, others, overused = device.charge
    return Charge(charged, None if others < 0 else others, overused)


def is_fresh(state: State, device: Device, now: int) -> bool:
    """Whether there is a report of the device that is young enough, and says how much is in use; and that is newer
    than the time until when somebody whose lease ended by time may have used memory."""
    sight = state.sights.get(device.host)
    if sight is None or device.name not in sight.views or charge_of(state, device).foreign is None:
        return False
    return now - sight.at <= state.settings.fresh_ms and sight.at >= device.unsure_until


def room_of(state: State, device: Device) -> int | None:
    """Bytes that the rule leaves, whether or not the device may be used; None when that is not known."""
    charged, others, _ = charge_of(state, device)
    view = state.view(device)
    if view is None or others is None:
        return None
    total = min(device.total, view.report.total)
    return room(total, view.report.reserved, charged, others, state.settings.reserve)


def matches(state: State, body: wire.Lease, device: Device) -> bool:
    """Whether the device is one that the request would take, and that is there: not lost, not cordoned."""
    if device.lost and not seeded("gpu_lost_device_grants"):
        return False
    if state.is_cordoned(device) or (body.hosts and device.host not in body.hosts):
        return False
    if body.model is not None and body.model.lower() not in device.model.lower():
        return False
    if body.exclude and not {device.host, device.uuid, device.name}.isdisjoint(body.exclude):
        return False
    labels = state.labels.get(device.host, {})
    return all(labels.get(name) == text for name, text in body.labels.items())


def matching(state: State, body: wire.Lease) -> list[Device]:
    return [device for device in state.devices.values() if matches(state, body, device)]


def candidates(state: State, body: wire.Lease, now: int, blocked: AbstractSet[str]) -> Iterator[Candidate]:
    """Devices that match, are known well enough, and are not wanted by somebody earlier in line."""
    lenient = seeded("gpu_lost_device_grants")
    for device in state.devices.values():
        if device.name in blocked or not matches(state, body, device) or len(device.leases) >= MAX_LEASES:
            continue
        if is_fresh(state, device, now) or lenient:
            left = room_of(state, device)
            if left is not None:
                yield Candidate(left, device.host, device.index, device.name)


def place(state: State, body: wire.Lease, now: int, blocked: AbstractSet[str]) -> tuple[str, ...] | None:
    """Names of the devices to grant; None when it does not fit now."""
    if now < state.recovering_until:
        return None
    found = list(candidates(state, body, now, blocked))
    chosen = PLACEMENT.choose(found, body.memory, body.devices, body.one_host)
    return None if chosen is None else tuple(candidate.name for candidate in chosen)
