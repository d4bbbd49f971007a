"""What has happened, as it stands in the journal: short tuples of msgpack values, the kind first, the time second.

| kind | then | means |
|---|---|---|
| ``f`` | alert, rule, subject, severity, value, limit, since, told | an alert fires (``told`` 0: a silence covers it) |
| ``r`` | alert, why | an alert is over |
| ``t`` | alert | an alert that fires is told (a silence is over, or entries were lost) |
| ``k`` | alert, by, note | acknowledged |
| ``s`` | silence, rule or "", subject, until, by, reason | silenced |
| ``u`` | silence, why | a silence is over: "expired" or "lifted" |
| ``n`` | kind, name | a host, service or instance is known, and expected from now on |
| ``d`` | kind, name | no longer expected |
| ``c`` | digest of the file or "", `Policy` as a map | rules, objectives, inhibitions, grouping replaced |
| ``b`` | list of (objective, subject or "", good, bad) | readings of objectives since the last of these |
| ``i`` | incident, list of alerts, notification, fence | an incident begins and is told |
| ``j`` | incident, list of alerts | alerts join it |
| ``m`` | incident, notification, fence | it is told again |
| ``e`` | incident, notification, fence | it is over, which is told |
| ``w`` | number | the webhook has taken all notifications up to this one |
| ``g`` | pool, desired, current, why | how many workers a pool should have |
| ``v`` | pool, slots | the largest demand in a step |
| ``h.`` | | leases of hosts: see `quota_events` |
| ``x`` | | acknowledged entries were lost: all that fires is told again |
"""

from __future__ import annotations

from typing import Any

from bursar_monitor import quota_events

FIRED = "f"
RESOLVED = "r"
TOLD = "t"
ACKNOWLEDGED = "k"
SILENCED = "s"
UNSILENCED = "u"
KNOWN = "n"
DROPPED = "d"
RULES = "c"
LOST = "x"
COUNTED = "b"
OPENED = "i"
JOINED = "j"
NOTIFIED = "m"
CLOSED = "e"
DELIVERED = "w"
SCALED = "g"
DEMANDED = "v"


def in_words(event: tuple[Any, ...]) -> str:
    """One line for an operator."""
    words = _WORDS.get(event[0]) or quota_events.WORDS[event[0]]
    return f"{event[1]} ms: {words(*event[2:])}"


def _fired(alert: str, rule: str, subject: str, severity: str, value: int, limit: int, since: int, told: int) -> str:
    muted = "" if told else ", silenced"
    return f"{severity} {rule} fires for {subject} ({alert}): {value} against {limit} since {since} ms{muted}"


def _resolved(alert: str, why: str) -> str:
    return f"alert {alert} is over: {why}"


def _told(alert: str) -> str:
    return f"alert {alert} is told"


def _acknowledged(alert: str, by: str, note: str) -> str:
    return f"alert {alert} acknowledged by {by}{': ' if note else ''}{note}"


def _silenced(silence: str, rule: str, subject: str, until: int, by: str, reason: str) -> str:
    because = f": {reason}" if reason else ""
    return f"silence {silence} by {by} for {rule or 'any rule'} on {subject} until {until} ms{because}"


def _unsilenced(silence: str, why: str) -> str:
    return f"silence {silence} is over: {why}"


def _known(kind: str, name: str) -> str:
    return f"{kind} {name} is known"


def _dropped(kind: str, name: str) -> str:
    return f"{kind} {name} is no longer expected"


def _rules(source: str, policy: dict[str, Any]) -> str:
    origin = f" from file {source}" if source else ""
    names = [item["name"] for item in (*policy["rules"], *policy["slos"], *policy["scalers"])]
    return f"rules replaced{origin}: {', '.join(names) or 'none'}"


def _counted(counted: list[tuple[str, str, int, int]]) -> str:
    parts = (f"{slo}{subject and ' of '}{subject} {good}/{good + bad}" for slo, subject, good, bad in counted)
    return f"good readings: {', '.join(parts)}"


def _lost() -> str:
    return "entries lost, all that fires is told again"


def _opened(incident: str, alerts: list[str], told: dict[str, Any], fence: list[int]) -> str:
    return f"incident {incident} of {len(alerts)} alerts: {told['text']}"


def _joined(incident: str, alerts: list[str]) -> str:
    return f"{', '.join(alerts)} join incident {incident}"


def _notified(incident: str, told: dict[str, Any], fence: list[int]) -> str:
    return f"incident {incident} is told again ({told['why']}): {told['text']}"


def _closed(incident: str, told: dict[str, Any], fence: list[int]) -> str:
    return f"incident {incident} is over"


def _delivered(number: int) -> str:
    return f"the webhook has taken {number} notifications"


def _scaled(pool: str, desired: int, current: int, why: str) -> str:
    return f"pool {pool} should have {desired} workers and has {current} ({why})"


def _demanded(pool: str, slots: int) -> str:
    return f"pool {pool} was asked for {slots} slots"


_WORDS: dict[str, Any] = {
    FIRED: _fired,
    RESOLVED: _resolved,
    TOLD: _told,
    ACKNOWLEDGED: _acknowledged,
    SILENCED: _silenced,
    UNSILENCED: _unsilenced,
    KNOWN: _known,
    DROPPED: _dropped,
    RULES: _rules,
    LOST: _lost,
    COUNTED: _counted,
    OPENED: _opened,
    JOINED: _joined,
    NOTIFIED: _notified,
    CLOSED: _closed,
    DELIVERED: _delivered,
    SCALED: _scaled,
    DEMANDED: _demanded,
}
