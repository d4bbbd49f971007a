"""Money on the wire: what things cost, as operators say it, and the bill, savings and advice that the monitor makes.

Money is in millionths of a US dollar. A sum that is not known is None, never 0.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message
from bursar.contracts.monitor_policy import RuleName

Micros = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Share = Annotated[int, Field(ge=0, le=1_000)]
BudgetPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9*][A-Za-z0-9_./*-]{0,127}$", max_length=128)]
Label = Annotated[str, Field(max_length=96)]


class Price(Message):
    """What a million tokens cost under the budgets that ``budgets`` covers (a name, or the beginning of one and ``*``),
    where calls are not settled with money. ``model``, ``team``: what the bill says of them; "": the budget's own name,
    and the budget above it."""

    name: RuleName
    budgets: BudgetPattern
    model: Label = ""
    team: Label = ""
    input_micros: Micros | None = None
    output_micros: Micros | None = None


class Costing(Message):
    """``prices``: the first that covers a budget counts; ``reference``: the one that all calls are compared with.
    An hour of a slot of a worker that names no price of its own, by kind; of a GiB of a GPU, of a CPU, of a GiB of
    memory. ``spot_discount_permille``: how much cheaper a slot is that may be taken away; ``spot_losses_permille``: how
    many of a thousand are taken away in an hour, each with ``spot_lost_s`` seconds of work."""

    prices: Annotated[tuple[Price, ...], Field(max_length=64)] = ()
    reference: RuleName | None = None
    gpu_slot_hour_micros: Micros | None = None
    cpu_slot_hour_micros: Micros | None = None
    remote_slot_hour_micros: Micros | None = 0
    gpu_gib_hour_micros: Micros | None = None
    cpu_hour_micros: Micros | None = None
    memory_gib_hour_micros: Micros | None = None
    spot_discount_permille: Annotated[int, Field(ge=0, le=990)] = 650
    spot_losses_permille: Share = 50
    spot_lost_s: Annotated[int, Field(ge=0, le=86_400)] = 300


class CostRow(Message):
    """What one agent has spent since the ledgers began, by model and class of tasks. ``source``: calls of a provider
    (``api``), or slots of workers (``slots``). ``usd_micros`` None: nobody has said what it costs. ``by``: it was
    "settled" by the calls, comes from "prices", the "worker", or the "rate" of its kind of slot, or is "unknown".
    ``shared``: calls of a worker, told to those whose tasks it ran by the time of its slots that each had."""

    agent: str
    team: str
    model: str
    task_class: str
    source: Literal["api", "slots"]
    usd_micros: int | None
    calls: int
    input_tokens: int
    output_tokens: int
    slot_ms: int
    by: Literal["settled", "prices", "worker", "rate", "unknown"]
    shared: bool = False
    age_ms: int | None = None


class SavingRow(Message):
    """What was saved against another way: ``actual`` was spent, ``counterfactual`` would have been. ``text`` says what
    was assumed; ``usd_micros`` None: it cannot be told, and the text says why. Below zero it was a loss."""

    saving: str
    usd_micros: int | None
    actual: int | None
    counterfactual: int | None
    text: str


class AdviceRow(Message):
    """What should be asked for instead of ``requested``, from what was used (in ``unit``). ``kind``: memory of GPU
    leases ("gpu_memory"), CPU and memory of hosts, slots of a pool, or the share of a pool that may run on "spot".
    ``count``: how many of it there are; ``saving_micros``: in an hour, for all of them; below zero: it costs so much
    more. ``readings``: how often it was looked at; None for ``advised``: too seldom yet."""

    kind: Literal["gpu_memory", "cpu", "memory", "slots", "spot"]
    subject: str
    unit: str
    requested: int
    used_p50: int | None
    used_p95: int | None
    used_most: int | None
    advised: int | None
    count: int
    saving_micros: int | None
    readings: int
    text: str


class GpuLeaseUse(Message):
    """A GPU lease as the monitor watches it: what was granted, and what its processes use."""

    principal: str
    purpose: str
    granted_bytes: int
    observed_bytes: int | None
