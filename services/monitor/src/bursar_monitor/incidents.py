"""Incidents: alerts that have one cause, told as one.

An alert is a fact; an incident is what somebody is woken for. With Alertmanager's times and words:

- The first notification waits (``wait_ms``, 5 s) for what belongs to it. What belongs together follows from the graph
  of causes (`causes`); its root is what nothing else in it explains.
- What joins later, or is over, is told after ``interval_ms`` (5 min); only what is worse than all that was told, or is
  the cause of what was called the cause, is told at once. An incident that lasts is told again after ``repeat_ms``
  (4 h) unless all of it is acknowledged.
- What fires later than ``together_ms`` after the last change of an incident is another one, however related.
- An alert that is inhibited (an alert of another rule fires, as an `Inhibition` says) may be part of an incident, but
  nobody is told of it, and none begins with it. A silenced alert that was not told does not take part.
- Each incident ends with a notification that says so; whoever was not told of it is not.

Each notification stands in the journal as it was told, so that an output which was down gets it later (`outbox`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from bursar.contracts.monitor import INCIDENT_KIND
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse
from bursar_monitor import events
from bursar_monitor.bugs import INHIBITION_IGNORED, TOLD_TOO_OFTEN, seeded
from bursar_monitor.causes import component, roots
from bursar_monitor.state import MAX_INCIDENTS, SEVERITIES, Alert, Incident, State, fact_of, runbook_of
from bursar_monitor.words import sentence

SHOWN: Final = 20
"""Alerts that a notification lists; the others are counted."""
NEVER: Final = 2**53

NOTHING = Refuse({})


class Gather(NamedTuple):
    """Alerts have waited for long enough to be told."""

    seed: str


class Notify(NamedTuple):
    """Something about an incident has to be told (again)."""

    incident: str


class Delivered(NamedTuple):
    """An output has taken all notifications up to this number."""

    number: int


def due(state: State, now: int) -> Gather | Notify | None:
    """What is to be told now. While nothing is, ``state.notify_at`` says until when: an event sets it back."""
    if now < state.notify_at:
        return None
    state.notify_at = NEVER
    for at, command in _plans(state, now):
        if at <= now:
            state.notify_at = now
            return command
        state.notify_at = min(state.notify_at, at)
    return None


def _plans(state: State, now: int) -> Iterator[tuple[int, Gather | Notify]]:
    """What is to be told, and when, as things are. What is muted is told when an event has changed that."""
    if len(state.incidents) < MAX_INCIDENTS:
        for name in visible(state, state.unplaced, now):
            yield state.alerts[name].fired_at + state.policy.grouping.wait_ms, Gather(name)
    for name, incident in state.incidents.items():
        shown = visible(state, incident.firing, now)
        if shown or not incident.firing:
            at = _next_at(state, incident, shown)
            if at is not None:
                yield at, Notify(name)


def _has_news(incident: Incident, shown: list[str]) -> bool:
    return incident.news or not incident.firing or not set(incident.shown).issuperset(shown)


def _next_at(state: State, incident: Incident, shown: list[str]) -> int | None:
    """When this incident is to be told again, as things are; None: not before something happens."""
    grouping = state.policy.grouping
    if _has_news(incident, shown):
        return incident.told_at if seeded(TOLD_TOO_OFTEN) else incident.told_at + grouping.interval_ms
    if all(state.alerts[name].acknowledged_by for name in incident.firing):
        return None
    return incident.told_at + grouping.repeat_ms


def is_inhibited(state: State, alert: Alert) -> bool:
    """Whether an alert of another rule mutes this one."""
    if seeded(INHIBITION_IGNORED):
        return False
    for rule in state.policy.inhibitions:
        if rule.target not in {"*", alert.rule} or rule.source == alert.rule:
            continue
        for source, subject in state.firing:
            if source == rule.source and _is_equal(rule.equal, subject, alert.subject):
                return True
    return False


def _is_equal(equal: str, one: str, other: str) -> bool:
    if equal == "any":
        return True
    return one == other if equal == "subject" else one.partition("/")[0] == other.partition("/")[0]


def visible(state: State, names: Iterable[str], now: int) -> list[str]:
    """Those that people are told of, the worst first."""
    found = [(name, state.alerts[name]) for name in names]
    shown = [
        (SEVERITIES[alert.severity], alert.since, name)
        for name, alert in found
        if state.silenced_by(alert.rule, alert.subject, now) is None and not is_inhibited(state, alert)
    ]
    return [name for _, _, name in sorted(shown)]


def decide_gather(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Place the alert of the command, and with it whatever waits and belongs to it."""
    seed = command.body.seed
    if seed not in state.unplaced or len(state.incidents) >= MAX_INCIDENTS:
        return NOTHING
    facts = {name: fact_of(state, state.alerts[name]) for name in state.unplaced}
    together = state.policy.grouping.together_ms
    recent = {name: one for name, one in state.incidents.items() if now - one.changed_at <= together}
    known = [past for one in recent.values() for past in one.facts]
    signals = component(state.policy, [*facts.values(), *known], fact_of(state, state.alerts[seed])[0])
    members = [name for name, of in facts.items() if of[0] in signals]
    joined = next((name for name, one in recent.items() if any(past[0] in signals for past in one.facts)), None)
    if joined is not None:
        return _join(state, joined, members, now, fence)
    shown = visible(state, members, now)
    if not shown:
        return NOTHING
    name = ".".join(map(str, fence))
    told = _Telling(name, "new", 1, now, shown, len(members) - len(shown))
    body = told.body(state, now)
    return _told(events.OPENED, body, [members, body], now, fence)


def _join(state: State, name: str, members: list[str], now: int, fence: Fence) -> Outcome:
    incident = state.incidents[name]
    joined: Event = (events.JOINED, now, name, members)
    shown = visible(state, [*incident.firing, *members], now)
    why = _why_at_once(state, incident, members, shown)
    if why is None:
        return Accept([joined], {})
    told = _Telling(name, why, incident.number + 1, incident.opened_at, shown, _hidden(incident, members, shown))
    body = told.body(state, now)
    outcome = _told(events.NOTIFIED, body, [body], now, fence)
    return outcome._replace(events=[joined, *outcome.events])


def _hidden(incident: Incident, members: list[str], shown: list[str]) -> int:
    return len(incident.firing) + len(members) - len(shown)


def _why_at_once(state: State, incident: Incident, members: list[str], shown: list[str]) -> str | None:
    """What joins is worse than all that was told, or the cause is another one."""
    if not shown:
        return None
    name = cause_of(state, shown)
    if SEVERITIES[state.alerts[shown[0]].severity] < SEVERITIES[incident.severity]:
        return "worse"
    is_same = fact_of(state, state.alerts[name])[0] == incident.signal
    return "cause" if name in members and not is_same else None


def decide_notify(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    name = command.body.incident
    incident = state.incidents.get(name)
    if incident is None:
        return NOTHING
    if not incident.firing:
        body = _Telling(name, "over", incident.number + 1, incident.opened_at, [], 0).over(incident, now)
        return _told(events.CLOSED, body, [body], now, fence)
    shown = visible(state, incident.firing, now)
    if not shown:
        return NOTHING
    why = "changed" if _has_news(incident, shown) else "repeat"
    told = _Telling(name, why, incident.number + 1, incident.opened_at, shown, len(incident.firing) - len(shown))
    body = told.body(state, now)
    return _told(events.NOTIFIED, body, [body], now, fence)


def decide_delivered(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    number = command.body.number
    return Accept([(events.DELIVERED, now, number)], {}) if number > state.delivered else NOTHING


def cause_of(state: State, shown: list[str]) -> str:
    """The alert that explains the others: the worst and oldest of those that none explains."""
    facts = {name: fact_of(state, state.alerts[name]) for name in shown}
    found = set(roots(state.policy, facts.values()))
    return next(name for name in shown if facts[name] in found)


def _told(kind: str, body: dict[str, Any], fields: list[Any], now: int, fence: Fence) -> Accept:
    event: Event = (kind, now, body["incident"], *fields, list(fence))
    return Accept([event], {}, [Broadcast(INCIDENT_KIND, body["cause"]["rule"], body)])


class _Telling(NamedTuple):
    """One notification. ``shown``: the alerts that are told, the worst first; ``hidden``: how many are muted."""

    incident: str
    why: str
    number: int
    opened_at: int
    shown: list[str]
    hidden: int

    def body(self, state: State, now: int) -> dict[str, Any]:
        cause = brief(state, cause_of(state, self.shown))
        others = len(self.shown) - 1
        follow = f" {others} more alert{'s' if others > 1 else ''} with it." if others else ""
        return {
            **self._head(now),
            "state": "firing",
            "severity": state.alerts[self.shown[0]].severity,
            "cause": cause,
            "alerts": [brief(state, name) for name in self.shown[:SHOWN]],
            "more": max(0, len(self.shown) - SHOWN),
            "muted": self.hidden,
            "text": f"{cause['text']}{follow}",
        }

    def over(self, incident: Incident, now: int) -> dict[str, Any]:
        cause = incident.told["cause"]
        rest = {"severity": incident.severity, "cause": cause, "alerts": [], "more": 0, "muted": 0}
        return {**self._head(now), "state": "resolved", **rest, "text": f"Over: {incident.told['text']}"}

    def _head(self, now: int) -> dict[str, Any]:
        return {
            "v": 1,
            "incident": self.incident,
            "why": self.why,
            "number": self.number,
            "opened_at_ms": self.opened_at,
            "at_ms": now,
        }


def brief(state: State, name: str) -> dict[str, Any]:
    """An alert as a notification tells it."""
    alert = state.alerts[name]
    return {
        "v": 1,
        "alert": name,
        "rule": alert.rule,
        "subject": alert.subject,
        "severity": alert.severity,
        "since_ms": alert.since,
        "text": sentence(fact_of(state, alert)[0], alert.subject, alert.value, alert.at_least),
        "runbook": runbook_of(state, alert.rule),
    }
