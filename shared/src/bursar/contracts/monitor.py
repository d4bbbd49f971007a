"""The monitor on the wire: samples of hosts come in, a picture of the fleet and alerts go out.

Units stand in the names: ``_ms`` milliseconds, ``_bytes``, ``_permille`` thousandths. A number that is not known is
None, never 0. ``age_ms`` says how long ago the numbers of a row were received; times that end in ``_at_ms`` are those
of the monitor's own clock, which never goes back and has nothing to do with the wall clock.

A host's probe publishes `HostSample` on ``bursar.node.<host>.host``; who it is stands in the subject. Alerts are
broadcast, signed, as `AlertChanged` on ``bursar.evt.monitor.alert.<rule>``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message, Request
from bursar.contracts.monitor_costs import Costing
from bursar.contracts.monitor_host import Cores, GroupSample, LeaseUse, NumaSample, ProcessSample
from bursar.contracts.monitor_policy import Grouping, Inhibition, Rule, RuleName, Severity, Slo, SubjectPattern
from bursar.contracts.monitor_scaling import Scaler

SERVICE = "monitor"

FLEET = ("limiter", "breaker", "gpu-manager", "scheduler", "monitor")
"""The services of Bursar, in the order in which people look at them."""

SAMPLE_KIND = "host"
"""Last token of the subject of a host's samples."""
ALERT_KIND = "alert"
"""Kind of the broadcasts about alerts."""
INCIDENT_KIND = "incident"
"""Kind of the broadcasts about incidents: what people are notified of."""

Permille = Annotated[int, Field(ge=0, le=1000)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", max_length=64)]
Label = Annotated[str, Field(max_length=96)]
Boot = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
AlertId = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]


# ---- samples of hosts


class CpuSample(Message):
    """Over the time since the look before. ``load1_milli``: thousandths of the load average of a minute; ``each``:
    how busy each core was, of at most 256."""

    used_permille: Permille
    iowait_permille: Permille | None = None
    steal_permille: Permille | None = None
    cores: Annotated[int, Field(ge=1, le=65_536)]
    load1_milli: Amount | None = None
    each: Cores = ()


class MemorySample(Message):
    total_bytes: Amount
    available_bytes: Amount
    swap_total_bytes: Amount | None = None
    swap_used_bytes: Amount | None = None


class DiskSample(Message):
    """Space of one file system, and what all disks have moved since the host started."""

    total_bytes: Amount
    used_bytes: Amount
    read_bytes: Amount | None = None
    written_bytes: Amount | None = None


class NetworkSample(Message):
    """All interfaces but the loopback, since the host started."""

    received_bytes: Amount
    sent_bytes: Amount
    errors: Amount
    dropped: Amount


class PressureSample(Message):
    """Share of the last ten seconds in which some task waited for this resource (Linux pressure stall information);
    ``_full``: in which all tasks did."""

    cpu_permille: Permille | None = None
    memory_permille: Permille | None = None
    io_permille: Permille | None = None
    memory_full_permille: Permille | None = None
    io_full_permille: Permille | None = None


class GpuSample(Message):
    """One device as its driver sees it. ``lost``: it was there, and does not answer any more."""

    index: Annotated[int, Field(ge=0, le=255)]
    uuid: Word | None = None
    name: Label = ""
    lost: bool = False
    memory_total_bytes: Amount | None = None
    memory_used_bytes: Amount | None = None
    busy_permille: Permille | None = None
    temperature_c: Annotated[int, Field(ge=-100, le=1000)] | None = None
    power_mw: Amount | None = None


class ProbeCost(Message):
    """What the probe itself has used since it started."""

    cpu_ms: Amount
    rss_bytes: Amount | None = None


class HostSample(Message):
    """One look at one host. ``boot`` and ``seq`` name it: ``boot`` is made when the probe starts, ``seq`` counts from
    1; whatever arrives twice counts once. ``uptime_ms``: since the probe's start, on a clock that never goes back.
    ``looks``: how many looks, all like the sample before but the last, it stands for."""

    boot: Boot
    seq: Annotated[int, Field(ge=1, le=2**53 - 1)]
    uptime_ms: Amount
    looks: Annotated[int, Field(ge=1, le=3_600)] = 1
    cpu: CpuSample | None = None
    memory: MemorySample | None = None
    disk: DiskSample | None = None
    network: NetworkSample | None = None
    pressure: PressureSample | None = None
    gpus: Annotated[tuple[GpuSample, ...], Field(max_length=32)] = ()
    numa: Annotated[tuple[NumaSample, ...], Field(max_length=64)] = ()
    groups: Annotated[tuple[GroupSample, ...], Field(max_length=64)] = ()
    processes: Annotated[tuple[ProcessSample, ...], Field(max_length=64)] = ()
    leases: Annotated[tuple[LeaseUse, ...], Field(max_length=64)] = ()
    probe: ProbeCost | None = None


class Took(Message):
    """How long things took that only who did them knows: from the order to start a worker until it was ready
    (``spawn``), from the submission of a task to its result (``completion``)."""

    what: Literal["spawn", "completion"]
    ms: Annotated[tuple[Annotated[int, Field(ge=0, le=86_400_000)], ...], Field(min_length=1, max_length=64)]


# ---- alerts


class AlertChanged(Message):
    """An alert fires or is over. ``again``: it was told before, and something in between may have been missed.

    Of two messages about one alert the one with the later ``at_ms`` counts: an owner that was replaced may say late
    what it had committed before. ``why`` of an end: "cleared", "forgotten" (nothing was heard of its subject for long,
    or an operator said so), "rule removed"."""

    alert: AlertId
    rule: str
    subject: str
    severity: Severity
    state: Literal["firing", "resolved"]
    value: int
    at_least: int
    since_ms: int
    at_ms: int
    why: str
    text: str
    runbook: str
    again: bool = False
    fence: str = ""


class AlertBrief(Message):
    """An alert as a notification tells it."""

    alert: AlertId
    rule: str
    subject: str
    severity: Severity
    since_ms: int
    text: str
    runbook: str


class IncidentChanged(Message):
    """A notification: alerts with one cause, told as one. ``number`` counts the notifications of the incident.

    ``why``: it is "new"; it has become "worse", or another "cause" was found; it has "changed" otherwise; it lasts
    ("repeat"); it is "over". ``cause``: the alert that nothing else in it explains. ``alerts``: what fires, the worst
    first, at most 20 (``more``: how many there are beyond); ``muted``: alerts that are silenced or inhibited."""

    incident: AlertId
    state: Literal["firing", "resolved"]
    why: Literal["new", "worse", "cause", "changed", "repeat", "over"]
    number: int
    severity: Severity
    cause: AlertBrief
    alerts: list[AlertBrief]
    more: int
    muted: int
    opened_at_ms: int
    at_ms: int
    text: str
    fence: str = ""


# ---- administration


class Silence(Request):
    """Tell nobody of these alerts for a while. None for ``rule``: any rule."""

    rule: RuleName | None = None
    subject: SubjectPattern = "*"
    for_ms: Annotated[int, Field(ge=1_000, le=2_592_000_000)]
    reason: Annotated[str, Field(max_length=200)] = ""


class Silenced(Message):
    """``muted``: how many alerts that fire now are covered."""

    ok: Literal[True] = True
    silence: AlertId
    until_ms: int
    muted: int
    fence: str


class Unsilence(Request):
    """End a silence before its time."""

    silence: AlertId


class Unsilenced(Message):
    ok: Literal[True] = True
    silence: AlertId
    fence: str


class Acknowledge(Request):
    """Somebody is looking at this alert. It goes on firing, and says who."""

    alert: AlertId
    note: Annotated[str, Field(max_length=200)] = ""


class Acknowledged(Message):
    """``by``, ``at_ms``: who acknowledged it first, and when."""

    ok: Literal[True] = True
    alert: AlertId
    by: str
    at_ms: int
    fence: str


class Forget(Request):
    """A host, service or instance is gone for good: expect it no more. One that is heard of again is known again."""

    kind: Literal["host", "service", "instance"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_/-]{0,127}$", max_length=128)]


class Forgotten(Message):
    ok: Literal[True] = True
    kind: str
    name: str
    fence: str


class SetRules(Request):
    """Replace the set of rules; of the objectives, inhibitions, scalers, costs and the grouping, those that are given
    (None: they stay as they are). What fires by a rule that is no longer there is over."""

    rules: Annotated[tuple[Rule, ...], Field(max_length=128)]
    slos: Annotated[tuple[Slo, ...], Field(max_length=32)] | None = None
    inhibitions: Annotated[tuple[Inhibition, ...], Field(max_length=64)] | None = None
    grouping: Grouping | None = None
    scalers: Annotated[tuple[Scaler, ...], Field(max_length=16)] | None = None
    costs: Costing | None = None


class RulesSet(Message):
    ok: Literal[True] = True
    added: list[str]
    changed: list[str]
    removed: list[str]
    fence: str
