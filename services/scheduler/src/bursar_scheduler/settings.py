"""What the scheduler can be told, beyond what every service can."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bursar.contracts.scheduler_words import BackgroundName, PolicyName, SlotsName, TickName
from bursar.kernel.settings import ServiceSettings
from bursar_scheduler.task import Config

_DEFAULT = Config()


class SchedulerSettings(ServiceSettings):
    """Environment variables begin with ``BURSAR_``. They are applied once: an operator's `configure` stays until other
    settings are given. `bursar.contracts.scheduler.Configure` says what each means."""

    scheduler_policy: PolicyName = "score"
    """Who of the workers that may have a task gets it: score, earliest_completion, least_loaded, power_of_two,
    round_robin, random, hybrid, token_budget or locality."""
    scheduler_shadow: PolicyName | TickName | BackgroundName | SlotsName | Literal["none"] = "none"
    """A policy that is asked beside it without being followed; the status tells what would have been better."""
    scheduler_tick: TickName | Literal["none"] = "none"
    """A policy that says where several tasks which wait should go: earliest."""
    scheduler_background: BackgroundName | Literal["none"] = "none"
    """A policy that moves what runs and may be preempted: rebalance."""
    scheduler_slot_policy: SlotsName | Literal["none"] = "none"
    """A policy that says how many slots are in use: demand."""
    scheduler_max_tasks: int = Field(default=_DEFAULT.max_tasks, ge=1, le=1_000_000)
    """Tasks that have not ended, in all."""
    scheduler_max_tasks_per_principal: int = Field(default=_DEFAULT.max_tasks_per_principal, ge=1, le=1_000_000)
    """The same of one principal."""
    scheduler_max_bytes: int = Field(default=_DEFAULT.max_bytes, ge=1, le=4_294_967_296)
    """Bytes of their payloads."""
    scheduler_max_blob_bytes: int = Field(default=_DEFAULT.max_blob_bytes, ge=1, le=4_294_967_296)
    """Bytes of payloads and results that are too large for a message; half of them of one principal."""
    scheduler_start_within_ms: int = Field(default=_DEFAULT.start_within_ms, ge=100, le=600_000)
    """An assignment that was not started by then goes to another worker."""
    scheduler_worker_ttl_ms: int = Field(default=_DEFAULT.worker_ttl_ms, ge=500, le=600_000)
    """Silence after which a worker is gone."""
    scheduler_keep_results_ms: int = Field(default=_DEFAULT.keep_results_ms, ge=1_000, le=86_400_000)
    """How long results are kept."""
    scheduler_max_losses: int = Field(default=_DEFAULT.max_losses, ge=1, le=100)
    """How often a task may be lost before it is a dead letter."""
    scheduler_max_kills: int = Field(default=_DEFAULT.max_kills, ge=1, le=100)
    """How many different workers may die while a task runs before it is a dead letter."""
    scheduler_min_run_ms: int = Field(default=_DEFAULT.min_run_ms, ge=0, le=600_000)
    """How long an attempt runs before it may be preempted."""
    scheduler_fairness: Literal["plas", "atlas"] = "plas"
    """What counts as the service of a program: the sum over its calls, or the longest path of them."""
    scheduler_yield_within_ms: int = Field(default=_DEFAULT.yield_within_ms, ge=100, le=600_000)
    """How long its worker has to yield then."""


def rules_of(settings: SchedulerSettings) -> dict[str, int | str]:
    """The rules as the state keeps them."""
    return {name: getattr(settings, f"scheduler_{name}") for name in Config._fields}
