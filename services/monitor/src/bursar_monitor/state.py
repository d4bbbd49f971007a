"""The monitor's state: what the journal rebuilds (rules, alerts, silences, what is expected to be there), and beside
it the volatile picture of the fleet, which live traffic makes again after a take-over.

`dump` is canonical: equal histories give equal dumps, whatever was observed in between. `load` is its inverse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from bursar.contracts.base import Message
from bursar.contracts.monitor import HostSample
from bursar.contracts.monitor_picture import InstanceRow
from bursar.contracts.monitor_policy import Policy, Rule, Slo
from bursar_monitor.burn import Series
from bursar_monitor.samples import HostView
from bursar_monitor.track import Track

MAX_ALERTS: Final = 1_000
"""Alerts that fire at a time; more are counted and not opened."""
MAX_SILENCES: Final = 1_000
MAX_KNOWN: Final = 4_096
"""Hosts, services and instances that are expected; more are shown while they are heard, and not missed."""
MAX_TRACKS: Final = 20_000
MAX_SERIES: Final = 256
"""Error budgets; readings of more subjects are not counted."""
RECENT: Final = 100
"""Alerts that are over and still remembered."""

UNTOLD, TOLD, TELL_AGAIN = 0, 1, 2

Key = tuple[str, str]
"""(rule, subject) of an alert; (kind, name) of what is expected."""


class Alert(NamedTuple):
    """``told``: whether its firing was broadcast, or has to be once more. Times in ms of the decider's clock."""

    rule: str
    subject: str
    severity: str
    fired_at: int
    since: int
    value: int
    at_least: int
    told: int
    acknowledged_by: str = ""
    acknowledged_at: int = 0


class Silence(NamedTuple):
    """``rule`` "": any."""

    rule: str
    subject: str
    until: int
    by: str
    reason: str

    def covers(self, rule: str, subject: str) -> bool:
        return self.rule in {"", rule} and matches(self.subject, subject)


class Ended(NamedTuple):
    alert: str
    rule: str
    subject: str
    fired_at: int
    ended_at: int
    why: str


class Page(NamedTuple):
    """A service's own status, as rows. ``at``: when it came; ``answers``: whether the last question was answered."""

    at: int | None
    answers: bool
    rows: Mapping[str, Sequence[Message]]


class Drawn(NamedTuple):
    """The whole picture at one moment: rows by section, ages of the sources, the newest sample of each host."""

    at: int
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    sources: Mapping[str, int | None]
    samples: Mapping[str, HostSample]


class State:
    """Durable: ``at`` (time of the last event) to ``series`` (error budgets: (objective, subject) -> counts).
    ``firing``: (rule, subject) -> alert. The rest is volatile: ``look`` (what an evidence has changed for), ``news``
    (what is not known yet), ``fresh`` (readings that have not become durable)."""

    __slots__ = (
        "alerts", "at", "burn_at", "by_signal", "count_at", "drawn", "ended", "firing", "fresh", "heard", "hosts",
        "instances", "known", "look", "news", "overflow", "pages", "policy", "queues", "rules", "series", "silences",
        "slos_of", "source", "swept_at", "tell", "tick_at", "tracks",
    )  # fmt: skip

    def __init__(self) -> None:
        self.at = 0
        self.source = ""
        self.policy = Policy()
        self.known: dict[Key, int] = {}
        self.alerts: dict[str, Alert] = {}
        self.silences: dict[str, Silence] = {}
        self.ended: deque[Ended] = deque(maxlen=RECENT)
        self.series: dict[Key, Series] = {}
        self.rules: dict[str, Rule] = {}
        self.firing: dict[Key, str] = {}
        self.by_signal: dict[str, list[Rule]] = {}
        self.slos_of: dict[str, list[Slo]] = {}
        self.fresh: dict[Key, list[int]] = {}
        self.count_at = 0
        self.burn_at = 0
        self.hosts: dict[str, HostView] = {}
        self.instances: dict[Key, tuple[InstanceRow, int]] = {}
        self.heard: dict[Key, int] = {}
        self.swept_at: int | None = None
        self.pages: dict[str, Page] = {}
        self.queues: dict[str, deque[tuple[int, int]]] = {}
        self.tracks: dict[Key, Track] = {}
        self.look: dict[Key, None] = {}
        self.news: dict[Key, None] = {}
        self.drawn: Drawn | None = None
        self.tell = True
        self.tick_at = 0
        self.overflow = 0

    def set_policy(self, policy: Policy) -> None:
        self.policy = policy
        self.rules = {rule.name: rule for rule in policy.rules}
        self.by_signal, self.slos_of = {}, {}
        for rule in policy.rules:
            self.by_signal.setdefault(rule.signal, []).append(rule)
        for slo in policy.slos:
            self.slos_of.setdefault(slo.signal, []).append(slo)

    def silenced_by(self, rule: str, subject: str, now: int) -> str | None:
        """The silence that covers an alert now; None when nobody silenced it."""
        for name, silence in self.silences.items():
            if now < silence.until and silence.covers(rule, subject):
                return name
        return None


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern covers a subject: exactly, or by what stands before a ``*`` at its end."""
    return subject.startswith(pattern[:-1]) if pattern.endswith("*") else subject == pattern


def dump(state: State) -> dict[str, Any]:
    return {
        "at": state.at,
        "source": state.source,
        "policy": state.policy.model_dump(mode="json"),
        "known": [[kind, name, at] for (kind, name), at in state.known.items()],
        "alerts": [[key, *alert] for key, alert in state.alerts.items()],
        "silences": [[key, *silence] for key, silence in state.silences.items()],
        "ended": [list(ended) for ended in state.ended],
        "series": [[*key, series.dump()] for key, series in state.series.items()],
    }


def load(value: Any) -> State:
    state = State()
    state.at, state.source = value["at"], value["source"]
    state.set_policy(Policy.model_validate(value["policy"], strict=False))
    state.known = {(kind, name): at for kind, name, at in value["known"]}
    state.alerts = {key: Alert(*fields) for key, *fields in value["alerts"]}
    state.firing = {(alert.rule, alert.subject): key for key, alert in state.alerts.items()}
    state.silences = {key: Silence(*fields) for key, *fields in value["silences"]}
    state.ended.extend(Ended(*fields) for fields in value["ended"])
    state.series = {(slo, subject): Series.load(tiers) for slo, subject, tiers in value["series"]}
    return state


def validate(state: State) -> None:
    """Raise AssertionError unless the parts of the state agree with one another."""
    assert {(a.rule, a.subject): key for key, a in state.alerts.items()} == state.firing, (
        "one alert per rule and subject"
    )
    assert len(state.alerts) <= MAX_ALERTS
    assert len(state.silences) <= MAX_SILENCES
    assert len(state.known) <= MAX_KNOWN
    assert len(state.tracks) <= MAX_TRACKS
    assert len(state.series.keys() | state.fresh.keys()) <= MAX_SERIES
    assert {name for name, _ in state.series} <= {slo.name for slo in state.policy.slos}
    assert sorted(rule.name for rules in state.by_signal.values() for rule in rules) == sorted(state.rules)
    for alert in state.alerts.values():
        assert alert.since <= alert.fired_at <= state.at, "an alert fires before its evidence"
        assert alert.told in {UNTOLD, TOLD, TELL_AGAIN}
    assert not {ended.alert for ended in state.ended} & state.alerts.keys(), "an alert fires and is over"
