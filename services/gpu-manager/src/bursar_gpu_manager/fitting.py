"""From the ledger and the reports to a choice: how a device is charged, whether it may be used, which to take."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final, NamedTuple

from bursar.contracts import gpu as wire
from bursar.kernel.bugs import seeded
from bursar.kernel.rights import covers
from bursar_gpu_manager.admission import NOTHING, Claim, attribute, charge, foreign, room
from bursar_gpu_manager.claiming import Floors, before
from bursar_gpu_manager.device import Before, Device, Pid
from bursar_gpu_manager.fleet import Ask, role_for
from bursar_gpu_manager.sheet import Row, Sheet
from bursar_gpu_manager.state import State
from bursar_gpu_manager.thermal import Thermometer
from bursar_gpu_manager.waiting import Kind, kind_of

LOADING: Final = "loading"

MOST_KINDS: Final = 1_024
"""Of so many kinds of requests it is remembered which devices match."""

NO_FLOORS: Final[Floors] = {}

MAX_LEASES: Final = 1_024
"""Leases on one device at a time, so that the end of a device fits into one decision."""


class Charge(NamedTuple):
    """Bytes on one device: sum of max(grant, observed) over the leases, foreign (None: not known); how many leases are
    used beyond what was granted; bytes that were granted from the reserve."""

    charged: int
    foreign: int | None
    overused: int
    emergency: int


def observed_of(state: State, device: Device) -> dict[str, int]:
    """Bytes observed of each lease on the device, as far as its processes were named and can be told."""
    return _attributed(state, device)[0]


def before_of(state: State, name: str) -> list[Before]:
    """What a lease that is granted on the device now remembers of processes that are there already."""
    return before(name, _attributed(state, state.devices[name])[1])


def _attributed(state: State, device: Device) -> tuple[dict[str, int], dict[Pid, int]]:
    view = state.view(device)
    if view is None or not view.processes:
        return {}, {}
    floors: dict[str, Floors] = {} if seeded("gpu_named_strangers_are_hidden") else state.floors
    claims = [
        Claim(key, memory, state.leases[key].processes, floors.get(key, NO_FLOORS).get(device.name, NOTHING))
        for key, memory in device.leases.items()
    ]
    return attribute(claims, view.processes)


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
        emergency = sum(memory for key, memory in device.leases.items() if state.leases[key].emergency)
        device.charge = (charged, others, overused, emergency)
    charged, others, overused, emergency = device.charge
    return Charge(charged, None if others < 0 else others, overused, emergency)


def is_fresh(state: State, device: Device, now: int) -> bool:
    """Whether there is a report of the device that is young enough, and says how much is in use; and that is newer
    than the time until when somebody whose lease ended by time may have used memory."""
    sight = state.sights.get(device.host)
    if sight is None or device.name not in sight.views or charge_of(state, device).foreign is None:
        return False
    return now - sight.at <= state.settings.fresh_ms and sight.at >= device.unsure_until


def room_of(state: State, device: Device, *, emergency: bool = False) -> int | None:
    """Bytes that the rule leaves, whether or not the device may be used; None when that is not known. Of the reserve
    is kept what has not been granted from it; ``emergency``: what is left of it, as far as it is really free."""
    charged, others, _, taken = charge_of(state, device)
    view = state.view(device)
    if view is None or others is None:
        return None
    total, kept = min(device.total, view.visible + view.kept), view.kept
    reserve = max(0, state.settings.reserve - taken)
    if seeded("gpu_reserve_for_everybody"):
        return room(total, kept, charged, others, 0)
    if emergency:
        return min(reserve, room(total, kept, charged, others, 0))
    return room(total, kept, charged, others, reserve)


def loading_on(state: State, device: Device) -> str | None:
    """The lease that is loading there: an engine that starts measures what is free, so that only one may at a time."""
    for key in device.leases:
        if state.leases[key].purpose == LOADING and not seeded("gpu_start_windows_overlap"):
            return key
    return None


def is_urgent(body: wire.Wanted) -> bool:
    return isinstance(body, wire.Emergency)


def matches(state: State, kind: Kind, device: Device) -> bool:
    """Whether the device is one that such a request would take, and that is there: not lost, not cordoned."""
    model, hosts, exclude, wanted, only = kind
    if device.lost and not seeded("gpu_lost_device_grants"):
        return False
    if state.is_cordoned(device) or (hosts and device.host not in hosts):
        return False
    if model is not None and model.lower() not in device.model.lower():
        return False
    if exclude and not {device.host, device.uuid, device.name}.isdisjoint(exclude):
        return False
    if only is not None and not any(covers(pattern, device.name) for pattern in only):
        return False
    labels = state.labels.get(device.host, {})
    return all(labels.get(name) == text for name, text in wanted)


def matching(state: State, kind: Kind) -> dict[str, Device]:
    """By name the devices that such a request would take; remembered until devices change."""
    found = state.matched.get(kind)
    if found is None:
        if len(state.matched) >= MOST_KINDS:
            state.matched.clear()
        found = {name: device for name, device in state.devices.items() if matches(state, kind, device)}
        state.matched[kind] = found
    return found


def is_usable(state: State, device: Device, now: int) -> bool:
    """Whether it is there, known well enough, and not full of leases."""
    if device.lost or state.is_cordoned(device) or len(device.leases) >= MAX_LEASES:
        return seeded("gpu_lost_device_grants") and device.lost
    return is_fresh(state, device, now)


def place(state: State, body: wire.Wanted, now: int, blocked: AbstractSet[str]) -> tuple[str, ...] | None:
    """Names of the devices to grant, none that is ``blocked``: wanted by somebody earlier in line. None when it does
    not fit now."""
    if now < state.recovering_until:
        return None
    ask, allowed = ask_of(state, body), _allowed(state, body, blocked)
    sheet = _urgent_sheet(state, now) if is_urgent(body) else refreshed(state, now)
    chosen = sheet.choose(ask, allowed)
    if chosen is None and seeded("gpu_partial_set_granted") and ask.cards > 1:
        return sheet.choose(ask._replace(cards=1), allowed)
    return chosen


def refreshed(state: State, now: int) -> Sheet:
    """The sheet as of now."""
    state.sheet.refresh(now, partial(_row, state, now, False), state.of_host)
    return state.sheet


def ask_of(state: State, body: wire.Wanted) -> Ask:
    """The request in the words of placement."""
    role = body.role or role_for(body.memory, body.purpose)
    apart = neighbours(state, body) if body.apart != "no" and body.group else ()
    return Ask(
        body.memory, body.devices, body.on_one_host, body.policy, role, body.numa, body.link, apart, body.strictly
    )  # fmt: skip


def neighbours(state: State, body: wire.Wanted) -> tuple[str, ...]:
    """Where other leases of its group are: devices, with all parts of the same card, or hosts."""
    names = dict.fromkeys(
        name for lease in state.leases.values() if lease.group == body.group for name, _ in lease.devices
    )
    if body.apart == "host":
        return tuple(dict.fromkeys(name.partition("/")[0] for name in names))
    return tuple(dict.fromkeys(part for name in names for part in (name, *_parts_beside(state, name))))


def _parts_beside(state: State, name: str) -> list[str]:
    """All parts of the card that the device is a part of; none for a whole card."""
    sight = state.sights.get(name.partition("/")[0])
    parent = "" if sight is None or name not in sight.views else sight.views[name].report.parent
    if sight is None or not parent:
        return []
    return [other for other, view in sight.views.items() if view.report.parent == parent]


def _allowed(state: State, body: wire.Wanted, blocked: AbstractSet[str]) -> list[str] | None:
    """Names of the devices that match; None: all do."""
    loading = body.purpose == LOADING
    there = matching(state, kind_of(body))
    if not (loading or blocked) and len(there) == len(state.devices):
        return None
    return [
        name
        for name, device in there.items()
        if name not in blocked and not (loading and loading_on(state, device) is not None)
    ]


def _row(state: State, now: int, urgent: bool, name: str) -> Row:
    device = state.devices[name]
    room = room_of(state, device, emergency=urgent)
    return Row(-1 if room is None else room, room is not None and is_usable(state, device, now))


def _urgent_sheet(state: State, now: int) -> Sheet:
    """For what is granted from the reserves; that is rare."""
    sheet = Sheet()
    for device in state.devices.values():
        sheet.add(device)
        sheet.heats[device.name] = state.sheet.heats.get(device.name, Thermometer())
    sheet.refresh(now, partial(_row, state, now, True), state.of_host)
    return sheet
