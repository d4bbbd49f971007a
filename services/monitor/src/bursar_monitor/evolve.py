"""Applying events: the only writer of the durable state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from bursar.contracts.monitor_scaling import Policy
from bursar.kernel.decider import Event
from bursar_monitor import events, quota_events
from bursar_monitor.burn import Series
from bursar_monitor.incidents import visible
from bursar_monitor.state import (
    MAX_DEMAND,
    MAX_FACTS,
    SEVERITIES,
    TELL_AGAIN,
    TOLD,
    Alert,
    Ended,
    Incident,
    Pool,
    Posted,
    Silence,
    State,
    fact_of,
)


def _fired(
    state: State, now: int, alert: str, rule: str, subject: str, severity: str, value: int, limit: int, since: int,
    told: int,
) -> None:  # fmt: skip
    state.alerts[alert] = Alert(rule, subject, severity, now, since, value, limit, told)
    state.firing[rule, subject] = alert
    if told:
        state.unplaced[alert] = None


def _resolved(state: State, now: int, alert: str, why: str) -> None:
    was = state.alerts.pop(alert)
    del state.firing[was.rule, was.subject]
    state.unplaced.pop(alert, None)
    name = state.member.pop(alert, None)
    if name is not None:
        incident = state.incidents[name]
        firing = tuple(other for other in incident.firing if other != alert)
        state.incidents[name] = incident._replace(
            firing=firing, changed_at=now, news=incident.news or alert in incident.shown
        )
    state.ended.append(Ended(alert, was.rule, was.subject, was.fired_at, now, why))


def _told(state: State, now: int, alert: str) -> None:
    state.alerts[alert] = state.alerts[alert]._replace(told=TOLD)
    if alert not in state.member:
        state.unplaced[alert] = None


def _acknowledged(state: State, now: int, alert: str, by: str, note: str) -> None:
    state.alerts[alert] = state.alerts[alert]._replace(acknowledged_by=by, acknowledged_at=now)


def _silenced(state: State, now: int, silence: str, rule: str, subject: str, until: int, by: str, reason: str) -> None:
    state.silences[silence] = Silence(rule, subject, until, by, reason)


def _unsilenced(state: State, now: int, silence: str, why: str) -> None:
    del state.silences[silence]
    state.tell = True


def _known(state: State, now: int, kind: str, name: str) -> None:
    state.known[kind, name] = now


def _dropped(state: State, now: int, kind: str, name: str) -> None:
    del state.known[kind, name]
    state.heard.pop((kind, name), None)
    if kind == "host":
        state.hosts.pop(name, None)
    elif kind == "instance":
        service, _, instance = name.partition("/")
        state.instances.pop((service, instance), None)


def _rules(state: State, now: int, source: str, policy: dict[str, Any]) -> None:
    state.source = source or state.source
    state.set_policy(Policy.model_validate(policy, strict=False))
    kept = {(slo.name, slo.each) for slo in state.policy.slos}
    state.series = {key: series for key, series in state.series.items() if (key[0], key[1] != "") in kept}
    state.fresh = {key: counts for key, counts in state.fresh.items() if (key[0], key[1] != "") in kept}
    state.recent = {key: recent for key, recent in state.recent.items() if (key[0], key[1] != "") in kept}
    pools = {scaler.name for scaler in state.policy.scalers}
    state.pools = {name: pool for name, pool in state.pools.items() if name in pools}
    state.views.clear()
    state.tracks.clear()
    for key in state.firing:
        if key[0] not in state.rules:
            state.look[key] = None


def _lost(state: State, now: int) -> None:
    """Alerts that were told may be missing from the state, and the reverse: whatever fires is told again."""
    for key, alert in state.alerts.items():
        if alert.told == TOLD:
            state.alerts[key] = alert._replace(told=TELL_AGAIN)
    again_at = now - state.policy.grouping.interval_ms
    for name, incident in state.incidents.items():
        state.incidents[name] = incident._replace(told_at=min(incident.told_at, again_at), news=True)
    state.tell = True
    state.quotas.close(now)


def _opened(state: State, now: int, name: str, alerts: list[str], told: dict[str, Any], fence: list[int]) -> None:
    state.incidents[name] = Incident(now, now, now, 0, "info", "", (), (), (), False, {})
    _joined(state, now, name, alerts)
    _notified(state, now, name, told, fence)


def _joined(state: State, now: int, name: str, alerts: list[str]) -> None:
    incident = state.incidents[name]
    facts = dict.fromkeys(incident.facts)
    for alert in alerts:
        del state.unplaced[alert]
        state.member[alert] = name
        facts[fact_of(state, state.alerts[alert])] = None
    kept, firing = tuple(facts)[:MAX_FACTS], (*incident.firing, *alerts)
    state.incidents[name] = incident._replace(facts=kept, firing=firing, changed_at=now)


def _notified(state: State, now: int, name: str, told: dict[str, Any], fence: list[int]) -> None:
    incident = state.incidents[name]
    state.incidents[name] = incident._replace(
        told_at=now,
        number=told["number"],
        severity=min(incident.severity, told["severity"], key=SEVERITIES.__getitem__),
        signal=fact_of(state, state.alerts[told["cause"]["alert"]])[0],
        shown=tuple(visible(state, incident.firing, now)),
        news=False,
        told=told,
    )
    _post(state, told, fence)


def _closed(state: State, now: int, name: str, told: dict[str, Any], fence: list[int]) -> None:
    del state.incidents[name]
    _post(state, told, fence)


def _post(state: State, told: dict[str, Any], fence: list[int]) -> None:
    state.notified += 1
    state.outbox.append(Posted(state.notified, tuple(fence), told))


def _delivered(state: State, now: int, number: int) -> None:
    state.delivered = number


def _counted(state: State, now: int, counted: list[tuple[str, str, int, int]]) -> None:
    for slo, subject, good, bad in counted:
        series = state.series.get((slo, subject))
        if series is None:
            series = state.series[slo, subject] = Series()
        series.add(now, good, bad)


def _scaled(state: State, now: int, name: str, desired: int, current: int, why: str) -> None:
    demand = _pool(state, name).demand
    state.pools[name] = Pool(desired, demand)


def _demanded(state: State, now: int, name: str, slots: int) -> None:
    _pool(state, name).demand.append(slots)


def _pool(state: State, name: str) -> Pool:
    return state.pools.setdefault(name, Pool(0, deque(maxlen=MAX_DEMAND)))


APPLY: dict[str, Callable[..., None]] = {
    events.FIRED: _fired,
    events.RESOLVED: _resolved,
    events.TOLD: _told,
    events.ACKNOWLEDGED: _acknowledged,
    events.SILENCED: _silenced,
    events.UNSILENCED: _unsilenced,
    events.KNOWN: _known,
    events.DROPPED: _dropped,
    events.RULES: _rules,
    events.LOST: _lost,
    events.COUNTED: _counted,
    events.OPENED: _opened,
    events.JOINED: _joined,
    events.NOTIFIED: _notified,
    events.CLOSED: _closed,
    events.DELIVERED: _delivered,
    events.SCALED: _scaled,
    events.DEMANDED: _demanded,
}


_TELLS_NOTHING: Final = frozenset({events.KNOWN, events.COUNTED, events.DELIVERED, events.SCALED, events.DEMANDED})
"""After these nothing is to be told that was not before."""


def apply(state: State, event: Event) -> None:
    state.at = event[1]
    quota = quota_events.APPLY.get(event[0])
    if quota is not None:
        quota(state.quotas, *event[2:])
        return
    APPLY[event[0]](state, *event[1:])
    if event[0] == events.FIRED:
        state.notify_at = min(state.notify_at, state.at + state.policy.grouping.wait_ms)
    elif event[0] not in _TELLS_NOTHING:
        state.notify_at = 0
