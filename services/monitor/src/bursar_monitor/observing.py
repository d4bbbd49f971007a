"""What observations do: they change the picture, and give rules something to look at. Nothing of it is durable.

Samples come from the hosts' probes; sweeps (who of the services is there) and pages (a service's own status) from the
monitor's collector, which runs beside the decider in the owner's process. All are bounded: by hosts and instances that
are expected, and by the rows that fit into a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from bursar.contracts.base import Message
from bursar.contracts.monitor import FLEET, HostSample, Took
from bursar.contracts.monitor_batch import HostBatch
from bursar.contracts.monitor_costs import GpuLeaseUse
from bursar.contracts.monitor_picture import InstanceRow
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_monitor import advising, signals
from bursar_monitor.objectives import BURN_MS, burns, judge
from bursar_monitor.picture import draw
from bursar_monitor.samples import HostView
from bursar_monitor.state import MAX_KNOWN, MAX_TRACKS, Key, Page, State, matches
from bursar_monitor.track import FORGET_MS, Track

TICK_MS: Final = 1_000
HOST_FORGET_MS: Final = 86_400_000
"""A host that has been silent for a day is no longer expected."""
MAX_HOSTS: Final = 2_048
MAX_INSTANCES: Final = 256
MAX_ROWS: Final = 4_096

NOTHING = Refuse({})


class Swept(NamedTuple):
    """The instances that answered a question to all. ``draw``: somebody wants to look at the whole picture.
    ``rtt_ms``: a round trip to the NATS server."""

    instances: Sequence[InstanceRow]
    draw: bool = False
    rtt_ms: int | None = None


class Polled(NamedTuple):
    """A service's own status as rows by section, None when it did not answer; ``took_ms``: within which time."""

    service: str
    rows: Mapping[str, Sequence[Message]] | None
    took_ms: int | None = None


def decide_sample(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    sample: HostSample = command.body
    view = state.hosts.get(command.principal)
    if view is None:
        if len(state.hosts) >= MAX_HOSTS:
            return NOTHING
        view = state.hosts[command.principal] = HostView(command.principal, now)
    before = view.sample
    if view.take(sample, now):
        state.quotas.heard(view.name, sample.leases, now)
        if before is not None and before.boot == sample.boot and sample.looks > 1:
            for signal, subject, value in signals.of_host(view, before, now):
                judge(state, signal, subject, value, now, sample.looks - 1)
        expect(state, "host", view.name)
        see(state, signals.of_host(view, sample, now), now)
        advising.of_host(state, view.name, sample, now)
    return NOTHING


def decide_batch(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """The newest sample, and those before it that were lost on their way. Of a probe that is heard for the first time
    the newest alone: what was before it another owner may have counted."""
    batch: HostBatch = command.body
    view = state.hosts.get(command.principal)
    seen = view.seen.get(batch.boot) if view is not None else None
    if view is not None and seen is not None:
        lost = list(takewhile(lambda sample: sample.seq > seen.highest, batch.older()))
        for sample in reversed(lost):
            _missed(state, view, sample, now)
    return decide_sample(state, Command(command.principal, "", batch.newest), now, fence)


def _missed(state: State, view: HostView, sample: HostSample, now: int) -> None:
    """A sample that comes late, before a newer one: it counts, and says nothing about now."""
    if view.take(sample, now):
        for signal, subject, value in signals.of_host(view, sample, now):
            judge(state, signal, subject, value, now, sample.looks)


def decide_swept(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    state.swept_at = now
    for row in command.body.instances:
        key = (row.service, row.instance)
        if row.service in FLEET and (key in state.instances or len(state.instances) < MAX_INSTANCES):
            state.instances[key] = (row, now)
            expect(state, "service", row.service)
            expect(state, "instance", f"{row.service}/{row.instance}")
    see(state, _presence(state, now), now)
    if command.body.rtt_ms is not None:
        see(state, [("nats_rtt_ms", "nats", command.body.rtt_ms)], now)
    if command.body.draw:
        draw(state, now)
    return NOTHING


def _presence(state: State, now: int) -> Iterable[signals.Reading]:
    """Who that is expected is missing from the sweep that has just come."""
    here = {key for key, (_, at) in state.instances.items() if at == now}
    owned = {row.service for row, at in state.instances.values() if at == now and row.owner}
    for kind, name in state.known:
        if kind == "service":
            yield "owner_missing", name, int(name not in owned)
        elif kind == "instance":
            service, _, instance = name.partition("/")
            if (service, instance) in here:
                state.heard["instance", name] = now
            yield "instance_missing", name, int((service, instance) not in here)


def decide_polled(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Polled = command.body
    before = state.pages.get(body.service)
    if body.took_ms is not None:
        see(state, [("coordination_ms", body.service, body.took_ms)], now)
    if body.rows is None:
        state.pages[body.service] = Page(before.at if before else None, False, before.rows if before else {})
        return NOTHING
    rows = {section: list(rows)[:MAX_ROWS] for section, rows in body.rows.items()}
    state.pages[body.service] = Page(now, True, rows)
    advising.of_leases(state, (row for row in rows.get("gpu_leases", ()) if isinstance(row, GpuLeaseUse)), now)
    for section in rows.values():
        for row in section:
            see(state, signals.of_row(row, state.queues, now), now)
    return NOTHING


def decide_took(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Took = command.body
    see(state, ((f"{body.what}_ms", command.principal, ms) for ms in body.ms), now)
    return NOTHING


def expect(state: State, kind: str, name: str) -> None:
    """Note something that is heard; it is missed from now on (once that is in the journal)."""
    key = (kind, name)
    if key not in state.known and len(state.known) + len(state.news) < MAX_KNOWN:
        state.news[key] = None


def see(state: State, readings: Iterable[signals.Reading], now: int) -> None:
    """Give the readings to the objectives and the rules that look at their signals."""
    for signal, subject, value in readings:
        judge(state, signal, subject, value, now)
        for rule in state.by_signal.get(signal, ()):
            if not matches(rule.subjects, subject):
                continue
            key = (rule.name, subject)
            track = state.tracks.get(key)
            if track is None:
                if len(state.tracks) >= MAX_TRACKS:
                    continue
                track = state.tracks[key] = Track(now)
            track.observe(rule, value, now)
            if track.has_cleared(rule) if key in state.firing else track.has_held(rule):
                state.look[key] = None


def tick(state: State, now: int) -> list[Key]:
    """Once a second: silence is a reading too. What has been silent for so long that it is no longer expected."""
    state.tick_at = now + TICK_MS
    if now >= state.burn_at:
        state.burn_at = now + BURN_MS
        see(state, burns(state, now), now)
        advising.tidy(state, now)
    gone = _silences(state, now)
    for key in state.firing:
        track = state.tracks.get(key)
        if track is None:
            state.tracks[key] = Track(now)
        elif track.is_forgotten(now):
            state.look[key] = None
    for key in [key for key, track in state.tracks.items() if track.is_forgotten(now) and key not in state.firing]:
        del state.tracks[key]
    return gone


def _silences(state: State, now: int) -> list[Key]:
    gone: list[Key] = []
    for kind, name in state.known:
        if kind == "host":
            view = state.hosts.get(name)
            if view is None:  # after a take-over: it gets its time to be heard
                view = state.hosts[name] = HostView(name, now)
            see(state, [("host_silence_ms", name, now - view.heard_at)], now)
            if now - view.heard_at >= HOST_FORGET_MS:
                gone.append((kind, name))
        elif kind == "instance" and now - state.heard.setdefault((kind, name), now) >= FORGET_MS:
            gone.append((kind, name))
    return gone
