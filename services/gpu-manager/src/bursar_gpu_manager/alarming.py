"""Foreign memory and overuse that grow are told to everybody, durably and once for each step.

*Foreign* is what no lease explains: what is in use less what is observed of the leases, less what leases were granted
whose processes nobody has named or seen yet (they may be the ones). It counts against everybody from the first report
on, alarm or not. *Overuse* is what the processes of a lease use beyond it.

Each has a level, durable: what was told last. An alarm is raised when the figure is a whole step (``alarm_growth``)
above its level, and the level then follows it; it is cleared when the figure has fallen below one step. In between the
level follows down silently by steps, so that growth after a fall is seen again. One host causes at most one decision in
`AGAIN_MS`: a process that grows and shrinks all the time does not fill the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse
from bursar_gpu_manager import events
from bursar_gpu_manager.device import Device
from bursar_gpu_manager.fitting import charge_of, observed_of
from bursar_gpu_manager.overuse import overuse_of
from bursar_gpu_manager.state import State

AGAIN_MS: Final = 1_000

KIND: Final = "alarm"
"""Kind of the broadcast; its name is the host."""


class Alarm(NamedTuple):
    """Internal: something on a host has grown, or is over."""

    host: str


class Finding(NamedTuple):
    """``subject``: a device or a lease; ``level``: what is to be told now, ``before``: what was."""

    subject: str
    device: Device
    level: int
    before: int


def unexplained(state: State, device: Device) -> int | None:
    """Bytes in use on a device that no lease explains; None when that is not known."""
    others = charge_of(state, device).foreign
    if others is None:
        return None
    observed = observed_of(state, device)
    unseen = sum(memory for key, memory in device.leases.items() if key not in observed)
    return max(0, others - unseen)


def suspect(state: State, host: str) -> None:
    """A report has come: is there anything to be told?"""
    state.suspects.pop(host, None)
    if any(True for _ in _findings(state, host)):
        state.suspects[host] = True


def next_alarm(state: State, now: int) -> Command | None:
    for host in list(state.suspects):
        last = state.alarmed_at.get(host)
        if last is None or now >= last + AGAIN_MS:
            del state.suspects[host]
            state.alarmed_at[host] = now
            return Command("", "", Alarm(host))
    return None


def look_at(state: State) -> int | None:
    """When a host that has to wait for its next alarm may have it."""
    return min((state.alarmed_at.get(host, 0) + AGAIN_MS for host in state.suspects), default=None)


def decide_alarm(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    found = list(_findings(state, command.body.host))
    happened: list[Event] = [(events.ALARMED, now, one.subject, one.level, one.before) for one in found]
    told = [Broadcast(KIND, one.device.host, _told(state, one)) for one in found if _is_news(one)]
    return Accept(happened, {}, told) if happened else Refuse({})


def _is_news(finding: Finding) -> bool:
    return finding.level > finding.before or finding.level == 0


def _told(state: State, finding: Finding) -> dict[str, Any]:
    lease = state.leases.get(finding.subject)
    return {
        "device": finding.device.name,
        "alarm": "foreign" if lease is None else "overuse",
        "state": "raised" if finding.level else "cleared",
        "bytes": finding.level,
        "before": finding.before,
        "lease": None if lease is None else finding.subject,
        "principal": None if lease is None else lease.principal,
    }


def _findings(state: State, host: str) -> Iterator[Finding]:
    for device in state.of_host(host).values():
        if device.lost or state.view(device) is None:
            continue
        others = unexplained(state, device)
        if others is not None and not seeded("gpu_foreign_growth_is_silent"):
            yield from _compare(state, device.name, device, others)
    for key, device in _leases_on(state, host).items():
        over = _overuse(state, key)
        if over is not None:
            yield from _compare(state, key, device, over)


def _leases_on(state: State, host: str) -> dict[str, Device]:
    """Each lease of the host with one of its devices."""
    return {key: device for device in state.of_host(host).values() if not device.lost for key in device.leases}


def _overuse(state: State, key: str) -> int | None:
    """Over all devices of the lease; 0 when none of its processes is seen any more, None when it is not known."""
    lease = state.leases[key]
    over = overuse_of(state, key, lease)
    if over is None and key in state.alarms:
        views = [state.view(state.devices[name]) for name, _ in lease.devices if name in state.devices]
        return 0 if all(view is not None and view.lacks(lease.processes) for view in views) else None
    return over


def _compare(state: State, subject: str, device: Device, amount: int) -> Iterator[Finding]:
    step, before = state.settings.alarm_growth, state.alarms.get(subject, 0)
    level = amount if amount >= step else 0
    if level != before and (level == 0 or abs(amount - before) >= step):
        yield Finding(subject, device, level, before)


def apply_alarmed(state: State, event: Event) -> None:
    _, now, subject, level, before = event
    state.at = now
    if level:
        state.alarms[subject] = level
    else:
        state.alarms.pop(subject, None)
    state.counts["alarms"] += level > before
