"""The picture of the fleet as one message: every number with its age, and smaller than a message may be.

Sections are filled in the order in which they matter, and rows in each likewise (what is wrong first); rows that do
not fit are counted, and can be asked for section by section.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from bursar.contracts.monitor import FLEET
from bursar.contracts.monitor_picture import MAX_STATUS_BYTES, InstanceRow, Status
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_monitor import advising, costing, quota_rows, scaling
from bursar_monitor.bugs import STALE_SHOWN_AS_FRESH, seeded
from bursar_monitor.burn import MONTH, WINDOWS, burn_milli, left_permille
from bursar_monitor.incidents import is_inhibited
from bursar_monitor.samples import HostView
from bursar_monitor.state import SEVERITIES, Drawn, Page, State
from bursar_monitor.words import sentence

Row = dict[str, Any]

ENVELOPE: Final = 2_500
"""Bytes kept for what stands around the rows."""
SILENT_MS: Final = 5_000
"""Without a sample for so long a host is shown as silent."""
GONE_MS: Final = 5_000
"""Without an answer for so long an instance is shown without its role."""


def decide_status(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    return Refuse(picture(state, now, command.body))


def picture(state: State, now: int, asked: Status | None = None) -> dict[str, Any]:
    """The reply to `Status`, without the fence."""
    asked = asked or Status()
    wanted = SECTIONS if asked.only is None else {asked.only: SECTIONS[asked.only]}
    left = MAX_STATUS_BYTES - ENVELOPE
    shown: dict[str, Any] = {section: [] for section in SECTIONS}
    left_out: dict[str, int] = {}
    for section, rows in wanted.items():
        for index, row in enumerate(rows(state, now)):
            if index < asked.offset:
                continue
            size = len(json.dumps(row)) + 2
            if left_out.get(section) or size > left:
                left_out[section] = left_out.get(section, 0) + 1
                continue
            left -= size
            shown[section].append(row)
    return {"ok": True, "now_ms": now, "sources": _sources(state, now), **shown, "left_out": left_out}


def draw(state: State, now: int) -> None:
    """Leave the whole picture in the state, for readers in other threads: nobody changes it afterwards."""
    rows = {section: list(made(state, now)) for section, made in SECTIONS.items()}
    samples = {view.name: view.sample for view in state.hosts.values() if view.sample is not None}
    state.drawn = Drawn(now, rows, _sources(state, now), samples)


def age(now: int, at: int | None) -> int | None:
    """How long ago a number was received, ms; None when it never was."""
    if at is None or seeded(STALE_SHOWN_AS_FRESH):
        return None if at is None else 0
    return max(0, now - at)


def _sources(state: State, now: int) -> dict[str, int | None]:
    polled = {name: age(now, page.at) for name in FLEET if (page := state.pages.get(name)) is not None}
    newest = max((view.heard_at for view in state.hosts.values() if view.sample is not None), default=None)
    return {**polled, "instances": age(now, state.swept_at), "hosts": age(now, newest)}


def _alerts(state: State, now: int) -> Iterator[Row]:
    rows = []
    for name, alert in state.alerts.items():
        track = state.tracks.get((alert.rule, alert.subject))
        rule = state.rules.get(alert.rule)
        heard = track is not None and (track.bad_since is not None or track.good_since is not None)
        value = track.value if track is not None and heard else alert.value
        row = {
            "v": 1,
            "alert": name,
            "rule": alert.rule,
            "subject": alert.subject,
            "severity": alert.severity,
            "value": value,
            "at_least": alert.at_least,
            "since_ms": alert.since,
            "for_ms": max(0, now - alert.fired_at),
            "silenced": state.silenced_by(alert.rule, alert.subject, now) is not None,
            "acknowledged_by": alert.acknowledged_by,
            "incident": state.member.get(name, ""),
            "inhibited": is_inhibited(state, alert),
            "age_ms": age(now, track.at) if track is not None and heard else None,
            "text": sentence("" if rule is None else rule.signal, alert.subject, value, alert.at_least),
        }
        rows.append((SEVERITIES[alert.severity], alert.fired_at, row))
    rows.sort(key=lambda entry: entry[:2])
    yield from (row for _, _, row in rows)


def _silences(state: State, now: int) -> Iterator[Row]:
    for name, silence in state.silences.items():
        yield {
            "v": 1,
            "silence": name,
            "rule": silence.rule or None,
            "subject": silence.subject,
            "left_ms": max(0, silence.until - now),
            "by": silence.by,
            "reason": silence.reason,
        }


def _incidents(state: State, now: int) -> Iterator[Row]:
    """The worst first."""
    found = sorted(state.incidents.items(), key=lambda item: (not item[1].firing, SEVERITIES[item[1].severity]))
    for name, incident in found:
        cause = incident.told["cause"]
        yield {
            "v": 1,
            "incident": name,
            "firing": len(incident.firing),
            "severity": incident.severity,
            "rule": cause["rule"],
            "subject": cause["subject"],
            "text": incident.told["text"],
            "for_ms": max(0, now - incident.opened_at),
            "told_ms": max(0, now - incident.told_at),
            "number": incident.number,
        }


def _slos(state: State, now: int) -> Iterator[Row]:
    for (name, subject), series in state.series.items():
        slo = state.policy.slo(name)
        if slo is None:
            continue
        good, bad = series.within(now, MONTH)
        burn = {at: burn_milli(series, at, now, slo.objective_ppm, slo.at_least_readings) for at in WINDOWS}
        yield {
            "v": 1,
            "slo": name,
            "subject": subject,
            "signal": slo.signal,
            "objective_ppm": slo.objective_ppm,
            "low": slo.low,
            "high": slo.high,
            "good": good,
            "bad": bad,
            "left_permille": left_permille(series, now, slo.objective_ppm),
            "p95_ms": recent.p95(now) if (recent := state.recent.get((name, subject))) is not None else None,
            **burn,
        }


def _services(state: State, now: int) -> Iterator[Row]:
    names = [name for name in FLEET if ("service", name) in state.known or name in state.pages]
    for name in names:
        mine = [(row, at) for row, at in state.instances.values() if row.service == name]
        here = [row for row, at in mine if now - at < GONE_MS]
        page = state.pages.get(name)
        yield {
            "v": 1,
            "name": name,
            "instances": len(here),
            "owner": next((row.instance for row in here if row.owner), ""),
            "requests": sum(row.requests for row in here),
            "errors": sum(row.errors for row in here),
            "p99_us": max((row.p99_us for row in here if row.p99_us is not None), default=None),
            "rss_bytes": _sum(row.rss_bytes for row in here),
            "answers": None if page is None else page.answers,
            "age_ms": age(now, max((at for _, at in mine), default=None)),
        }


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _instances(state: State, now: int) -> Iterator[Row]:
    for row, at in sorted(state.instances.values(), key=lambda entry: _place(entry[0])):
        yield {**row.__dict__, "owner": row.owner and now - at < GONE_MS, "age_ms": age(now, at)}


def _place(row: InstanceRow) -> tuple[int, str]:
    return (FLEET.index(row.service), row.instance)


def _rows_of(section: str) -> Callable[[State, int], Iterator[Row]]:
    """The rows of a section that services tell themselves."""

    def rows(state: State, now: int) -> Iterator[Row]:
        for page in state.pages.values():
            yield from _aged(page, section, now)
        if section == "devices" and not any(page.rows.get(section) for page in state.pages.values()):
            yield from _probed_devices(state, now)

    return rows


def _aged(page: Page, section: str, now: int) -> Iterator[Row]:
    for row in page.rows.get(section, ()):
        yield {**row.__dict__, "age_ms": _older(age(now, page.at), getattr(row, "age_ms", None))}


def _older(since: int | None, before: int | None) -> int | None:
    """The age of a number that was not fresh any more when it was told."""
    return None if since is None else since + (before or 0)


def _probed_devices(state: State, now: int) -> Iterator[Row]:
    """GPUs as the hosts' probes see them, when no gpu-manager says more."""
    for view in state.hosts.values():
        for gpu in view.sample.gpus if view.sample is not None else ():
            yield {
                "v": 1,
                "host": view.name,
                "device": gpu.uuid or f"gpu{gpu.index}",
                "name": gpu.name,
                "state": "lost" if gpu.lost else "ok",
                "total_bytes": gpu.memory_total_bytes,
                "granted_bytes": None,
                "observed_bytes": gpu.memory_used_bytes,
                "leases": None,
                "busy_permille": gpu.busy_permille,
                "temperature_c": gpu.temperature_c,
                "source": "probe",
                "age_ms": age(now, view.heard_at),
            }


def _hosts(state: State, now: int) -> Iterator[Row]:
    views = sorted(state.hosts.values(), key=lambda view: (now - view.heard_at < SILENT_MS, view.name))
    for view in views:
        yield _host(view, now)


def _host(view: HostView, now: int) -> Row:
    sample = view.sample
    cpu, memory, disk, pressure, probe = (
        (sample.cpu, sample.memory, sample.disk, sample.pressure, sample.probe) if sample else (None,) * 5
    )
    return {
        "v": 1,
        "host": view.name,
        "silent": now - view.heard_at >= SILENT_MS,
        "cpu_permille": cpu.used_permille if cpu else None,
        "cores": cpu.cores if cpu else None,
        "load1_milli": cpu.load1_milli if cpu else None,
        "pressure_permille": pressure.cpu_permille if pressure else None,
        "memory_total_bytes": memory.total_bytes if memory else None,
        "memory_used_bytes": max(0, memory.total_bytes - memory.available_bytes) if memory else None,
        "disk_total_bytes": disk.total_bytes if disk else None,
        "disk_used_bytes": disk.used_bytes if disk else None,
        "disk_bytes_per_s": view.rates[0],
        "received_bytes_per_s": view.rates[1],
        "sent_bytes_per_s": view.rates[2],
        "gpus": len(sample.gpus) if sample else None,
        "probe_cpu_ms": probe.cpu_ms if probe else None,
        "samples": view.samples,
        "repeated": view.repeated,
        "late": view.late,
        "missed": view.missed,
        "age_ms": age(now, view.heard_at) if sample else None,
    }


def _rules(state: State, now: int) -> Iterator[Row]:
    for rule in state.rules.values():
        yield {
            "v": 1,
            "rule": rule.name,
            "signal": rule.signal,
            "at_least": rule.at_least,
            "clear_below": rule.clears_below,
            "hold_ms": rule.hold_ms,
            "clear_ms": rule.clear_ms,
            "severity": rule.severity,
            "subjects": rule.subjects,
        }


SECTIONS: Final[Mapping[str, Callable[[State, int], Iterator[Row]]]] = {
    "alerts": _alerts,
    "incidents": _incidents,
    "slos": _slos,
    "scaling": scaling.rows,
    "services": _services,
    "budgets": _rows_of("budgets"),
    "circuits": _rows_of("circuits"),
    "devices": _rows_of("devices"),
    "queues": _rows_of("queues"),
    "workers": _rows_of("workers"),
    "hosts": _hosts,
    "pools": quota_rows.pool_rows,
    "leases": quota_rows.lease_rows,
    "processes": quota_rows.group_rows,
    "instances": _instances,
    "silences": _silences,
    "rules": _rules,
    "savings": costing.saving_rows,
    "advice": advising.rows,
    "costs": costing.rows,
}
"""In the order in which they are filled. Age is that of the answer or sample that the row came with."""
