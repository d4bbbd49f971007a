"""What the probes say. A report is volatile: it changes what is known of a host's devices now, and nothing else.

What follows from it durably is decided as commands of its own, which `due` hands out: devices that are new, changed,
back, or gone (`Announce`), and devices of a host that has been silent for too long (`Silence`).

The manager's own pause is not the host's silence. If nobody looked for longer than twice the usual, the time in
between does not count: the reports of that time are waiting to be read. But they are as old as they are (`ageing`):
what a card had free when one of them was made is no reason to grant anything now.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from bursar.contracts import gpu as wire
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Notice, Outcome, Refuse
from bursar_gpu_manager import events
from bursar_gpu_manager.ageing import Lag, heard, made_at
from bursar_gpu_manager.alarming import suspect
from bursar_gpu_manager.claiming import lower
from bursar_gpu_manager.device import View, view_of
from bursar_gpu_manager.lifecycle import DEVICE_LOST
from bursar_gpu_manager.state import Sight, State
from bursar_gpu_manager.telling import lost

SCAN_MS: Final = 500
"""How often silence is looked for."""

PAST_BOOTS: Final = 8

MAX_OF_HOST: Final = 128
"""Devices of one host in the ledger, the lost ones included; of those the first without leases make room for new ones,
which a card has that came back under another name, or was divided in another way."""

KIND: Final = "device"
"""Kind of the broadcast that says that a device is lost or there; its name is the host."""


class Announce(NamedTuple):
    """Internal: the last report of a host differs from the ledger."""

    host: str


class Silence(NamedTuple):
    """Internal: a host has not been heard of for too long."""

    host: str


# ---- reports


def decide_report(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Never an entry: see the text above."""
    host, body = command.principal, command.body
    before = state.sights.get(host)
    if before is not None and _is_old(before, body):
        state.old_reports += 1
        return Refuse({})
    lag = _lag(before, body, now)
    at = now if lag is None or body.at_ms is None else made_at(lag, body.at_ms, now)
    views = _views(state, host, body)
    state.sights[host] = Sight(body.boot, body.seq, at, _past(before, body.boot), views, body.gate, lag)
    state.heard[host] = now
    for name, device in state.of_host(host).items():
        state.mark(device)
        if state.floors and name in views:
            lower(state, device, views[name])
    state.changed.pop(host, None)
    if _differs(state, host, body.labels):
        state.changed[host] = body.labels
    state.sheet.see(host, views, body.labels, now, at + state.settings.fresh_ms)
    suspect(state, host)
    state.cache_changed = bool(state.copies)
    return Refuse({})


def _lag(before: Sight | None, body: wire.Report, now: int) -> Lag | None:
    if body.at_ms is None or seeded("gpu_held_up_reports_are_fresh"):
        return None
    return heard(before.lag if before is not None and before.boot == body.boot else None, body.at_ms, now)


def _is_old(before: Sight, body: wire.Report) -> bool:
    if body.boot == before.boot:
        return body.seq <= before.seq
    return body.boot in before.past


def _past(before: Sight | None, boot: str) -> tuple[str, ...]:
    if before is None:
        return ()
    if before.boot == boot:
        return before.past
    return (*before.past, before.boot)[-PAST_BOOTS:]


def _views(state: State, host: str, body: wire.Report) -> dict[str, View]:
    """By name of the device; what is said to be lost is left out, as if it was not in the list. So is a card whose size
    nobody knows; one that has told it before still has it."""
    views: dict[str, View] = {}
    for report in body.devices:
        name, known = f"{host}/{report.uuid}", report
        if report.total is None and name in state.devices:
            known = report.model_copy(update={"total": state.devices[name].total})
        if not report.lost and known.total is not None:
            views.setdefault(name, view_of(known))
    return views


def _differs(state: State, host: str, labels: dict[str, str]) -> bool:
    there = {name: device.row for name, device in state.of_host(host).items() if not device.lost}
    said = {name: _row(view.report) for name, view in state.sights[host].views.items()}
    return said != there or state.labels.get(host, {}) != labels


def _row(report: wire.DeviceReport) -> tuple[str, int, str, int]:
    assert report.total is not None, "a view is of a card whose size is known"
    return (report.uuid, report.index, report.model, report.total)


# ---- what follows


def next_announced(state: State) -> Command | None:
    host = next(iter(state.changed), None)
    return None if host is None else Command("", "", Announce(host))


def decide_announce(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Devices and labels as in the last report; what is not in it is lost."""
    host = command.body.host
    labels, sight = state.changed.pop(host, None), state.sights.get(host)
    if labels is None or sight is None:
        return Refuse({})
    there = {name: device for name, device in state.of_host(host).items() if not device.lost}
    forgotten = _make_room(state, host, sight)
    rows = _welcome(state, host, sight, len(forgotten))
    new = [row for row in rows if (known := there.get(f"{host}/{row[0]}")) is None or known.row != row]
    happened: list[Event] = [(events.FORGOTTEN, now, name) for name in forgotten]
    if new or state.labels.get(host, {}) != labels:
        happened.append((events.ANNOUNCED, now, host, sorted(labels.items()), new))
    told = [Broadcast(KIND, host, {"device": f"{host}/{row[0]}", "state": "ready"}) for row in new]
    gone = [name for name in there if name not in sight.views]
    ends, notices = lose(state, gone, "the probe does not see it any more", now)
    happened += ends
    return Accept(happened, {}, [*told, *notices]) if happened else Refuse({})


def _make_room(state: State, host: str, sight: Sight) -> list[str]:
    """Names of lost devices to forget, so that new ones fit; none that a lease still counts on."""
    known = state.of_host(host)
    missing = len(known) + sum(name not in known for name in sight.views) - MAX_OF_HOST
    idle = (name for name, device in known.items()
            if device.lost and not device.leases and name not in sight.views)  # fmt: skip
    return list(islice(idle, max(0, missing)))


def _welcome(state: State, host: str, sight: Sight, freed: int) -> list[tuple[str, int, str, int]]:
    """The rows that the ledger takes: a probe that makes up names must not fill it."""
    known, rows = state.of_host(host), []
    left = MAX_OF_HOST - len(known) + freed
    for name, view in sight.views.items():
        left -= name not in known
        if name in known or left >= 0:
            rows.append(_row(view.report))
    return rows


def lose(state: State, names: list[str], why: str, now: int) -> tuple[list[Event], list[Broadcast | Notice]]:
    """The events of devices that are lost, and of the leases on them; and who is told."""
    happened: list[Event] = [(events.DEVICE_LOST, now, name, why) for name in names]
    told: list[Broadcast | Notice] = [
        Broadcast(KIND, state.devices[name].host, {"device": name, "state": "lost", "why": why}) for name in names
    ]
    keys = dict.fromkeys(key for name in names for key in state.devices[name].leases)
    for key in keys:
        if not state.leases[key].taken:
            happened.append((events.TAKEN, now, key, DEVICE_LOST))
            told += lost(state, key, DEVICE_LOST)
    return happened, told


# ---- silence


def next_silent(state: State, now: int) -> Command | None:
    """Look for silent hosts, not more often than every `SCAN_MS`."""
    if state.scanned_at < 0 or now >= state.scanned_at + SCAN_MS:
        _scan(state, now)
    return Command("", "", Silence(state.silent.pop())) if state.silent else None


def _scan(state: State, now: int) -> None:
    gap = now - state.scanned_at - SCAN_MS if state.scanned_at >= 0 else 0
    if gap > SCAN_MS:
        state.heard = {host: min(now, at + gap) for host, at in state.heard.items()}
    state.scanned_at = now
    watched = [host for host, devices in state.hosts.items() if not all(device.lost for device in devices.values())]
    limit = state.settings.silence_ms
    state.silent = [host for host in watched if now - state.heard.setdefault(host, now) > limit]


def decide_silence(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    host = command.body.host
    names = [name for name, device in state.of_host(host).items() if not device.lost]
    heard = state.heard.get(host, now)
    if now - heard <= state.settings.silence_ms:
        return Refuse({})
    happened, told = lose(state, names, f"the probe has been silent for {now - heard} ms", now)
    return Accept(happened, {}, told) if happened else Refuse({})
