"""The monitor's state: what the journal rebuilds (rules, alerts, silences, what is expected to be there), and beside
it the volatile picture of the fleet, which live traffic makes again after a take-over.

`dump` is canonical: equal histories give equal dumps, whatever was observed in between. `load` is its inverse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.contracts.base import Message
from bursar.contracts.monitor import HostSample
from bursar.contracts.monitor_picture import InstanceRow
from bursar.contracts.monitor_policy import Rule, Slo
from bursar.contracts.monitor_scaling import Policy
from bursar_monitor.burn import Series
from bursar_monitor.quota_state import Quotas
from bursar_monitor.samples import HostView
from bursar_monitor.track import Track

if TYPE_CHECKING:
    from bursar_monitor.advising import Usage
    from bursar_monitor.objectives import Recent
    from bursar_monitor.scaling import PoolView

MAX_ALERTS: Final = 1_000
"""Alerts that fire at a time; more are counted and not opened."""
MAX_SILENCES: Final = 1_000
MAX_KNOWN: Final = 4_096
"""Hosts, services and instances that are expected; more are shown while they are heard, and not missed."""
MAX_TRACKS: Final = 20_000
MAX_SERIES: Final = 256
"""Error budgets; readings of more subjects are not counted."""
MAX_INCIDENTS: Final = 256
MAX_FACTS: Final = 64
"""Alerts of one incident that what fires later is compared with."""
MAX_DEMAND: Final = 4_320
"""Steps of demand that are remembered of a pool: three of the longest seasons."""
OUTBOX: Final = 64
"""Notifications that an output which was down still gets."""
RECENT: Final = 100
"""Alerts that are over and still remembered."""

SEVERITIES: Final = {"critical": 0, "warning": 1, "info": 2}
"""The worst first."""

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


class Incident(NamedTuple):
    """``changed_at``: when something joined or was over; ``number``, ``told``: the last notification; ``severity``: the
    worst that was told; ``signal``: that of the cause; ``facts``: (signal, subject) of what it has had; ``firing``: its
    alerts that fire; ``shown``: those that the last notification counted; ``news``: whether one of these is over."""

    opened_at: int
    told_at: int
    changed_at: int
    number: int
    severity: str
    signal: str
    facts: tuple[Key, ...]
    firing: tuple[str, ...]
    shown: tuple[str, ...]
    news: bool
    told: Mapping[str, Any]


class Posted(NamedTuple):
    """A notification: its number, the fence of the decision, and what was told."""

    number: int
    fence: tuple[int, ...]
    body: Mapping[str, Any]


class Pool(NamedTuple):
    """``desired``: how many workers there should be (0: nothing was decided); ``demand``: the largest in each step, in
    slots."""

    desired: int
    demand: deque[int]


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
    """Durable: ``at`` (time of the last event) to ``delivered`` (number of the last notification that the webhook has
    taken, of ``notified``). ``pools``: by scaler; ``quotas``: leases of hosts; ``series``: error budgets,
    (objective, subject) -> counts. Made of
    these: ``firing``, (rule, subject) -> alert; ``member``, alert -> its incident; ``unplaced``: alerts that were told
    and have none. The rest is volatile: ``look`` (what an evidence has changed for), ``news`` (what is not known yet),
    ``fresh`` (readings that have not become durable), ``recent`` (durations), ``views`` (of pools)."""

    __slots__ = (
        "alerts",
        "at",
        "bill",
        "burn_at",
        "by_signal",
        "count_at",
        "delivered",
        "drawn",
        "ended",
        "firing",
        "fresh",
        "heard",
        "hosts",
        "incidents",
        "instances",
        "known",
        "look",
        "member",
        "news",
        "notified",
        "notify_at",
        "outbox",
        "overflow",
        "pages",
        "policy",
        "pools",
        "queues",
        "quotas",
        "recent",
        "rules",
        "scale_at",
        "series",
        "silences",
        "slos_of",
        "source",
        "swept_at",
        "tell",
        "tick_at",
        "to_scale",
        "tracks",
        "unplaced",
        "usage",
        "views",
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
        self.incidents: dict[str, Incident] = {}
        self.outbox: deque[Posted] = deque(maxlen=OUTBOX)
        self.pools: dict[str, Pool] = {}
        self.quotas = Quotas()
        self.notified = 0
        self.delivered = 0
        self.rules: dict[str, Rule] = {}
        self.firing: dict[Key, str] = {}
        self.member: dict[str, str] = {}
        self.unplaced: dict[str, None] = {}
        self.notify_at = 0
        self.views: dict[str, PoolView] = {}
        self.to_scale: list[str] = []
        self.scale_at = 0
        self.by_signal: dict[str, list[Rule]] = {}
        self.slos_of: dict[str, list[Slo]] = {}
        self.fresh: dict[Key, list[int]] = {}
        self.recent: dict[Key, Recent] = {}
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
        self.bill: tuple[Any, Any] | None = None
        self.usage: dict[Key, Usage] = {}
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


def fact_of(state: State, alert: Alert) -> Key:
    """What an alert says: its signal ("" when its rule is gone), and of what."""
    rule = state.rules.get(alert.rule)
    return ("" if rule is None else rule.signal, alert.subject)


def runbook_of(state: State, name: str) -> str:
    """Where it says what to do about alerts of a rule."""
    rule = state.rules.get(name)
    return f"docs/runbooks/{name}.md" if rule is None else rule.page


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
        "incidents": [[key, *incident] for key, incident in state.incidents.items()],
        "outbox": [list(entry) for entry in state.outbox],
        "pools": [[key, pool.desired, list(pool.demand)] for key, pool in state.pools.items()],
        "notified": state.notified,
        "delivered": state.delivered,
        "quotas": state.quotas.dump(),
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
    for key, *fields in value["incidents"]:
        incident = Incident(*fields)
        facts = tuple((signal, subject) for signal, subject in incident.facts)
        state.incidents[key] = incident._replace(
            facts=facts, firing=tuple(incident.firing), shown=tuple(incident.shown)
        )
    state.member = {alert: key for key, incident in state.incidents.items() for alert in incident.firing}
    state.unplaced = {
        key: None for key, alert in state.alerts.items() if alert.told != UNTOLD and key not in state.member
    }
    state.outbox.extend(Posted(number, tuple(fence), body) for number, fence, body in value["outbox"])
    for key, desired, demand in value["pools"]:
        state.pools[key] = Pool(desired, deque(demand, maxlen=MAX_DEMAND))
    state.notified, state.delivered = value["notified"], value["delivered"]
    state.quotas = Quotas.load(value["quotas"])
    state.series = {(slo, subject): Series.load(tiers) for slo, subject, tiers in value["series"]}
    return state


def validate(state: State) -> None:
    """Raise AssertionError unless the parts of the state agree with one another."""
    state.quotas.validate()
    assert {(a.rule, a.subject): key for key, a in state.alerts.items()} == state.firing, (
        "one alert per rule and subject"
    )
    assert len(state.alerts) <= MAX_ALERTS
    assert len(state.silences) <= MAX_SILENCES
    assert len(state.incidents) <= MAX_INCIDENTS
    assert {alert: key for key, one in state.incidents.items() for alert in one.firing} == state.member
    assert not state.member.keys() & state.unplaced.keys(), "an alert is part of an incident and waits for one"
    told = {key for key, alert in state.alerts.items() if alert.told != UNTOLD}
    assert state.member.keys() | state.unplaced.keys() == told, "an alert was told and nobody is notified"
    assert len(state.known) <= MAX_KNOWN
    assert len(state.tracks) <= MAX_TRACKS
    assert len(state.series.keys() | state.fresh.keys()) <= MAX_SERIES
    assert {name for name, _ in state.series} <= {slo.name for slo in state.policy.slos}
    assert sorted(rule.name for rules in state.by_signal.values() for rule in rules) == sorted(state.rules)
    for alert in state.alerts.values():
        assert alert.since <= alert.fired_at <= state.at, "an alert fires before its evidence"
        assert alert.told in {UNTOLD, TOLD, TELL_AGAIN}
    assert not {ended.alert for ended in state.ended} & state.alerts.keys(), "an alert fires and is over"
