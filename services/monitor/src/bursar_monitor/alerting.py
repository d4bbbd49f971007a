"""Alerts: they fire when evidence has held, end when it has cleared, and are told unless a silence covers them.

- One alert per rule and subject at a time.
- Whoever was told that an alert fires is told that it is over; whoever was not, is not.
- An alert that still fires when its silence ends is told then.
- A subject that is not heard of any more neither fires nor ends anything, until it has been forgotten.

What the passing of time or an observation has made due is handed out as commands, one after the other; each is decided
on the evidence as it then is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bursar.contracts.monitor import ALERT_KIND
from bursar.kernel.decider import Accept, Broadcast, Command, Fence, Outcome, Refuse
from bursar_monitor import balancing, events, incidents, objectives, observing, scaling
from bursar_monitor.bugs import END_NOT_TOLD, SILENCE_IGNORED, seeded
from bursar_monitor.lifecycle import CLEARED, FORGOTTEN, RULE_REMOVED
from bursar_monitor.state import MAX_ALERTS, MAX_KNOWN, TELL_AGAIN, TOLD, UNTOLD, Alert, Key, State, runbook_of
from bursar_monitor.words import sentence

NOTHING = Refuse({})


class Look(NamedTuple):
    """The evidence for an alert may have changed what is to be said."""

    rule: str
    subject: str


class Tell(NamedTuple):
    """An alert that fires has to be told (again)."""

    alert: str


class EndSilence(NamedTuple):
    """A silence has expired."""

    silence: str


class Expect(NamedTuple):
    """A host, service or instance was heard that was not known."""

    kind: str
    name: str


class Drop(NamedTuple):
    """It has been silent for so long that it is no longer expected."""

    kind: str
    name: str


def due(state: State, now: int) -> Command | None:
    """The next thing to decide; each call hands out another."""
    if now >= state.tick_at:
        for kind, name in observing.tick(state, now):
            return _own(Drop(kind, name))
    for name, silence in state.silences.items():
        if silence.until <= now:
            return _own(EndSilence(name))
    if now >= state.count_at:
        state.count_at = now + objectives.COUNT_MS
        return _own(objectives.Count())
    if state.news:
        kind, name = next(iter(state.news))
        del state.news[kind, name]
        return _own(Expect(kind, name))
    if state.look:
        rule, subject = next(iter(state.look))
        del state.look[rule, subject]
        return _own(Look(rule, subject))
    if state.tell:
        for key, alert in state.alerts.items():
            if alert.told != TOLD and _is_told(state, alert, now):
                return _own(Tell(key))
        state.tell = False
    other = balancing.due(state, now) or incidents.due(state, now) or scaling.due(state, now)
    return None if other is None else _own(other)


def _own(body: Any) -> Command:
    return Command("", "", body)


def wake_at(state: State) -> int:
    if state.look or state.news or state.tell:
        return state.at
    ends = (silence.until for silence in state.silences.values())
    return min([state.tick_at, state.count_at, state.notify_at, state.scale_at, balancing.wake_at(state), *ends])


def decide_look(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    key: Key = (command.body.rule, command.body.subject)
    alert = state.firing.get(key)
    return _end_if_over(state, key, alert, now) if alert is not None else _fire_if_held(state, key, now, fence)


def _fire_if_held(state: State, key: Key, now: int, fence: Fence) -> Outcome:
    rule, track = state.rules.get(key[0]), state.tracks.get(key)
    if rule is None or track is None or not track.has_held(rule) or track.bad_since is None:
        return NOTHING
    if len(state.alerts) >= MAX_ALERTS:
        state.overflow += 1
        return NOTHING
    since = track.bad_since
    alert = Alert(*key, rule.severity, now, since, track.value, rule.at_least, UNTOLD)
    told = _is_told(state, alert, now)
    name = ".".join(map(str, fence))
    event = (events.FIRED, now, name, *key, rule.severity, track.value, rule.at_least, since, int(told))
    return Accept([event], {}, [changed(state, name, alert, now, "firing")] if told else ())


def _end_if_over(state: State, key: Key, name: str, now: int) -> Outcome:
    why = _why_over(state, key, now)
    if why is None:
        return NOTHING
    alert = state.alerts[name]
    told = alert.told != UNTOLD and not seeded(END_NOT_TOLD)
    return Accept([(events.RESOLVED, now, name, why)], {}, [changed(state, name, alert, now, why)] if told else ())


def _why_over(state: State, key: Key, now: int) -> str | None:
    rule, track = state.rules.get(key[0]), state.tracks.get(key)
    if rule is None:
        return RULE_REMOVED
    if track is None:
        return None
    if track.has_cleared(rule):
        return CLEARED
    return FORGOTTEN if track.is_forgotten(now) else None


def decide_tell(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    name = command.body.alert
    alert = state.alerts.get(name)
    if alert is None or alert.told == TOLD or not _is_told(state, alert, now):
        return NOTHING
    return Accept([(events.TOLD, now, name)], {}, [changed(state, name, alert, now, "firing")])


def _is_told(state: State, alert: Alert, now: int) -> bool:
    return seeded(SILENCE_IGNORED) or state.silenced_by(alert.rule, alert.subject, now) is None


def decide_end_silence(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    return Accept([(events.UNSILENCED, now, command.body.silence, "expired")], {})


def decide_expect(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    kind, name = command.body
    if (kind, name) in state.known or len(state.known) >= MAX_KNOWN:
        return NOTHING
    return Accept([(events.KNOWN, now, kind, name)], {})


def decide_drop(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    kind, name = command.body
    return Accept([(events.DROPPED, now, kind, name)], {}) if (kind, name) in state.known else NOTHING


def changed(state: State, name: str, alert: Alert, now: int, why: str) -> Broadcast:
    """The broadcast about an alert: it fires, or is over (and then why)."""
    rule = state.rules.get(alert.rule)
    is_firing = why == "firing"
    body = {
        "v": 1,
        "alert": name,
        "rule": alert.rule,
        "subject": alert.subject,
        "severity": alert.severity,
        "state": "firing" if is_firing else "resolved",
        "value": alert.value,
        "at_least": alert.at_least,
        "since_ms": alert.since,
        "at_ms": now,
        "why": "" if is_firing else why,
        "text": sentence("" if rule is None else rule.signal, alert.subject, alert.value, alert.at_least),
        "runbook": runbook_of(state, alert.rule),
        "again": alert.told == TELL_AGAIN,
    }
    return Broadcast(ALERT_KIND, alert.rule, body)
