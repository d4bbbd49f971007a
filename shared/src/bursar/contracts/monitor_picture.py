"""The monitor's picture of the fleet on the wire: one query, one answer, rows by section.

Each row carries the age of its numbers (``age_ms``; None: never received). See `bursar.contracts.monitor` for units.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Query
from bursar.contracts.monitor_costs import AdviceRow, CostRow, SavingRow
from bursar.contracts.monitor_policy import Severity
from bursar.contracts.monitor_quota import GroupRow, LeaseRow, PoolRow

MAX_STATUS_BYTES = 60_000
"""A status answer is smaller than this, in whatever encoding; what does not fit is counted in ``left_out``."""

Section = Literal[
    "alerts", "incidents", "slos", "scaling", "silences", "services", "instances", "budgets", "circuits", "devices",
    "queues", "workers", "hosts", "pools", "leases", "processes", "rules", "costs", "savings",
    "advice",
]  # fmt: skip


class Status(Query):
    """The whole picture, or the rows of one section from ``offset`` on."""

    only: Section | None = None
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class AlertRow(Message):
    """``incident``: which it is part of, "" when of none (yet). ``inhibited``: an alert of another rule mutes it."""

    alert: str
    rule: str
    subject: str
    severity: Severity
    value: int
    at_least: int
    since_ms: int
    for_ms: int
    silenced: bool
    acknowledged_by: str
    incident: str
    inhibited: bool
    age_ms: int | None
    text: str


class IncidentRow(Message):
    """Alerts with one cause. ``rule``, ``subject``: the alert that is taken for the cause; ``firing``: how many of its
    alerts fire (0: its end is told soon); ``told_ms``: since the last notification, of which there were ``number``."""

    incident: str
    firing: int
    severity: Severity
    rule: str
    subject: str
    text: str
    for_ms: int
    told_ms: int
    number: int


class SloRow(Message):
    """One error budget. ``subject`` "": that of all subjects together. ``good``, ``bad``: readings of the last 30 days;
    ``left_permille``: what is left of the budget, negative when it is overdrawn. Burn rates in thousandths (1000: the
    budget of a month lasts a month), of the slower of the two windows; None: too few readings. ``p95_ms``: of a
    duration, the 95th percentile of the last half hour to hour; None: nothing was read since the owner took office."""

    slo: str
    subject: str
    signal: str
    objective_ppm: int
    low: int | None
    high: int | None
    good: int
    bad: int
    left_permille: int | None
    p95_ms: int | None
    burn_1h: int | None
    burn_6h: int | None
    burn_1d: int | None
    burn_3d: int | None


class ScaleRow(Message):
    """A pool of workers; ``workers``: their names. ``why``: as in `ScaleWanted`. ``forecast``: demand in slots at the
    time when a worker that is started now is of use; None while "as it is now" is the better forecast. Errors: mean
    absolute ones over the last season, of the seasonal and of the naive forecast, in thousandths of a slot."""

    pool: str
    workers: str = "*"
    desired: int | None
    current: int | None
    least: int
    most: int
    why: str
    slots: int | None
    running: int | None
    waiting: int | None
    forecast: int | None
    forecast_error_milli: int | None
    naive_error_milli: int | None
    age_ms: int | None


class SilenceRow(Message):
    silence: str
    rule: str | None
    subject: str
    left_ms: int
    by: str
    reason: str


class ServiceRow(Message):
    """``owner``: the instance that takes requests; "" when there is none. ``answers``: whether its own status came."""

    name: str
    instances: int
    owner: str
    requests: int
    errors: int
    p99_us: int | None
    rss_bytes: int | None
    answers: bool | None
    age_ms: int | None


class InstanceRow(Message):
    """``age_ms``: since it was last heard. ``open``: accepted requests that wait for their answer."""

    service: str
    instance: str
    version: str
    owner: bool
    requests: int
    errors: int
    open: int
    p50_us: int | None
    p99_us: int | None
    rss_bytes: int | None
    cpu_ms: int | None
    age_ms: int | None = None


class BudgetRow(Message):
    """``foreign``: what others than the fleet have used of the key in the last window."""

    budget: str
    dimension: str
    limit: int
    window_ms: int
    used: int
    in_flight: int
    headroom: int
    waiting: int
    foreign: int = 0
    age_ms: int | None = None


class CircuitRow(Message):
    """``state``: closed, open, half_open, ramping, or by order. ``retry_in_ms``: until the next probe; None when not
    known."""

    target: str
    state: str
    cause: str = ""
    failures_permille: int | None = None
    calls: int | None = None
    retry_in_ms: int | None = None
    age_ms: int | None = None


class DeviceRow(Message):
    """A GPU as the gpu-manager keeps it (``source`` "gpu-manager"), or as a host's probe sees it ("probe")."""

    host: str
    device: str
    name: str = ""
    state: str
    total_bytes: int | None = None
    granted_bytes: int | None = None
    observed_bytes: int | None = None
    leases: int | None = None
    busy_permille: int | None = None
    temperature_c: int | None = None
    source: str = "gpu-manager"
    age_ms: int | None = None


class QueueRow(Message):
    """Tasks of one band (or class) of the scheduler."""

    queue: str
    waiting: int
    running: int
    oldest_ms: int | None = None
    age_ms: int | None = None


class WorkerRow(Message):
    """``preemptible``: its host may be taken away (spot)."""

    worker: str
    kind: str
    state: str
    slots: int | None
    running: int | None
    preemptible: bool = False
    heard_ms: int | None = None
    age_ms: int | None = None


class HostRow(Message):
    """``silent``: no sample for longer than a sample may take. Rates are over the last two samples.

    ``samples`` counts each sample once; ``repeated`` came again, ``late`` after a newer one, ``missed`` never came."""

    host: str
    silent: bool
    cpu_permille: int | None = None
    cores: int | None = None
    load1_milli: int | None = None
    pressure_permille: int | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_used_bytes: int | None = None
    disk_bytes_per_s: int | None = None
    received_bytes_per_s: int | None = None
    sent_bytes_per_s: int | None = None
    gpus: int | None = None
    probe_cpu_ms: int | None = None
    samples: int = 0
    repeated: int = 0
    late: int = 0
    missed: int = 0
    age_ms: int | None = None


class RuleRow(Message):
    rule: str
    signal: str
    at_least: int
    clear_below: int
    hold_ms: int
    clear_ms: int
    severity: Severity
    subjects: str


class StatusReply(Message):
    """The picture. ``sources``: age of the last answer of each service in ms; None when it has not answered.
    ``left_out``: rows per section that did not fit; ask for them with ``only`` and ``offset``."""

    ok: Literal[True] = True
    now_ms: int
    sources: dict[str, int | None]
    alerts: list[AlertRow]
    incidents: list[IncidentRow]
    slos: list[SloRow]
    scaling: list[ScaleRow]
    silences: list[SilenceRow]
    services: list[ServiceRow]
    instances: list[InstanceRow]
    budgets: list[BudgetRow]
    circuits: list[CircuitRow]
    devices: list[DeviceRow]
    queues: list[QueueRow]
    workers: list[WorkerRow]
    hosts: list[HostRow]
    pools: list[PoolRow]
    leases: list[LeaseRow]
    processes: list[GroupRow]
    rules: list[RuleRow]
    costs: list[CostRow]
    savings: list[SavingRow]
    advice: list[AdviceRow]
    left_out: dict[str, int]
    fence: str
