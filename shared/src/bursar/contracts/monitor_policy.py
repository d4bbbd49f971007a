"""What operators decide about alerts, as data: rules, objectives, inhibitions, and how alerts are grouped.

The terms are those of Prometheus, Alertmanager and Google's SRE workbook. Units stand in the names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message

RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,47}$", max_length=48)]
SubjectPattern = Annotated[str, Field(pattern=r"^[ -~]{1,320}$", max_length=320)]
"""What an alert is about; a ``*`` at the end stands for anything."""

Signal = Literal[
    "host_silence_ms",
    "cpu_permille",
    "memory_permille",
    "allocatable_permille",
    "disk_permille",
    "crashes",
    "leak_permille",
    "pool_permille",
    "gpu_lost",
    "instance_missing",
    "owner_missing",
    "coordination_ms",
    "nats_rtt_ms",
    "budget_permille",
    "foreign_permille",
    "circuit_open",
    "queue_growth",
    "spawn_ms",
    "completion_ms",
    "burn_1h",
    "burn_6h",
    "burn_1d",
    "burn_3d",
]
"""What a rule may look at; `bursar_monitor.signals` says how each is made and what its subjects are."""

Severity = Literal["info", "warning", "critical"]

Positive = Annotated[int, Field(ge=1, le=2**53 - 1)]
Level = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Rule(Message):
    """When to alert: the signal is at ``at_least`` or above for ``hold_ms``; over when it has been below
    ``clear_below`` (``at_least`` unless given) for ``clear_ms``. ``subjects``: which ones, ``*`` at the end for any.
    ``runbook``: where it says what to do about it; empty: docs/runbooks/<name>.md."""

    name: RuleName
    signal: Signal
    at_least: Positive
    clear_below: Positive | None = None
    hold_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 0
    clear_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 5_000
    severity: Severity = "warning"
    subjects: SubjectPattern = "*"
    runbook: Annotated[str, Field(max_length=200)] = ""

    @property
    def page(self) -> str:
        return self.runbook or f"docs/runbooks/{self.name}.md"

    @property
    def clears_below(self) -> int:
        return self.at_least if self.clear_below is None else self.clear_below


class Slo(Message):
    """An objective: of the readings of ``signal``, ``objective_ppm`` millionths are to lie within the band from
    ``low`` to ``high`` (None: no bound). Below ``low`` counts as bad only while somebody waits for what is idle.

    ``each``: every subject has an error budget of its own; otherwise all subjects together have one. Burn rates are
    told only when at least ``at_least_readings`` stand in their short window."""

    name: RuleName
    signal: Signal
    objective_ppm: Annotated[int, Field(ge=1, le=999_999)]
    low: Level | None = None
    high: Level | None = None
    each: bool = False
    subjects: SubjectPattern = "*"
    at_least_readings: Positive = 20


class Inhibition(Message):
    """As long as an alert of rule ``source`` fires, nobody is told of alerts of rule ``target`` (``*``: of any other).
    ``equal``: only of the same subject, of the same first part of a subject (``head``: before the first ``/``), or of
    ``any`` subject."""

    source: RuleName
    target: Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9-]{0,47})$", max_length=48)]
    equal: Literal["subject", "head", "any"] = "subject"


class Grouping(Message):
    """How alerts become notifications. ``wait_ms``: how long the first notification of an incident waits for what
    belongs to it. ``interval_ms``: between two notifications of one incident. ``repeat_ms``: after so long it is told
    again that an incident lasts. ``together_ms``: what fires later than that after the last change of an incident is
    another incident."""

    wait_ms: Annotated[int, Field(ge=0, le=600_000)] = 5_000
    interval_ms: Annotated[int, Field(ge=1_000, le=86_400_000)] = 300_000
    repeat_ms: Annotated[int, Field(ge=1_000, le=604_800_000)] = 14_400_000
    together_ms: Annotated[int, Field(ge=1_000, le=86_400_000)] = 300_000
