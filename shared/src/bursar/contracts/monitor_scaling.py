"""How many workers there should be: what operators decide, and what the monitor says.

The terms and defaults are those of the Kubernetes HorizontalPodAutoscaler (v2): the largest proposal of all metrics
counts, a change within the tolerance is none, and what was proposed within a stabilisation window holds a scale-down.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message
from bursar.contracts.monitor_costs import Costing
from bursar.contracts.monitor_policy import Grouping, Inhibition, Rule, RuleName, Slo, SubjectPattern

SCALE_KIND = "scale"
"""Kind of the broadcasts about how many workers there should be."""

Count = Annotated[int, Field(ge=0, le=10_000)]
Seconds = Annotated[int, Field(ge=0, le=3_600)]


class StepPolicy(Message):
    """How much may change within a period: so many replicas, or so many percent of those at its beginning."""

    unit: Literal["replicas", "percent"]
    value: Annotated[int, Field(ge=1, le=10_000)]
    period_s: Annotated[int, Field(ge=1, le=1_800)] = 15


UP_STEPS = (StepPolicy(unit="percent", value=100), StepPolicy(unit="replicas", value=4))
DOWN_STEPS = (StepPolicy(unit="percent", value=100),)


class Scaler(Message):
    """One pool of workers. ``workers``: their names. ``busy_permille``: how much of their slots should be in use;
    ``waiting_each``: how many tasks may wait for each; None: not looked at. Of the steps the one that allows most
    counts. ``horizon_s``: how long a new worker takes to be of use: for then demand is forecast, when ``predict``;
    ``season_steps``: how many steps of ``step_s`` make a season (a day, unless told otherwise)."""

    name: RuleName
    workers: SubjectPattern = "*"
    least: Count = 5
    most: Annotated[int, Field(ge=1, le=10_000)] = 100
    busy_permille: Annotated[int, Field(ge=1, le=1_000)] | None = 775
    waiting_each: Annotated[int, Field(ge=1, le=1_000_000)] | None = 4
    tolerance_permille: Annotated[int, Field(ge=0, le=1_000)] = 100
    up_window_s: Seconds = 0
    down_window_s: Seconds = 300
    up_steps: Annotated[tuple[StepPolicy, ...], Field(max_length=8)] = UP_STEPS
    down_steps: Annotated[tuple[StepPolicy, ...], Field(max_length=8)] = DOWN_STEPS
    predict: bool = True
    horizon_s: Annotated[int, Field(ge=1, le=3_600)] = 300
    step_s: Annotated[int, Field(ge=1, le=3_600)] = 300
    season_steps: Annotated[int, Field(ge=2, le=1_440)] = 288


class ScaleWanted(Message):
    """How many workers a pool should have. ``why``: what asks for them: "busy", "waiting", "forecast", "least", "most",
    "steady" (a stabilisation window or a step holds it there), "unknown" (nothing is known: it stays)."""

    pool: str
    desired: int
    current: int
    why: str
    at_ms: int
    fence: str = ""


class Policy(Message):
    """All of it: what a file of rules says, and what the monitor keeps."""

    rules: tuple[Rule, ...] = ()
    slos: tuple[Slo, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()
    grouping: Grouping = Grouping()
    scalers: tuple[Scaler, ...] = ()
    costs: Costing = Costing()

    def slo(self, name: str) -> Slo | None:
        return next((slo for slo in self.slos if slo.name == name), None)

    def scaler(self, name: str) -> Scaler | None:
        return next((scaler for scaler in self.scalers if scaler.name == name), None)
