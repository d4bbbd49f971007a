"""Advice for engines: how to start within a lease, which batch size and how many replicas, whether the CPU should help;
and changes that a worker agrees to try.

Throughput is in thousandths of a token per second, of prompts and answers; times between tokens are in microseconds;
parts and ratios are in thousandths.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bursar.contracts.base import Fence, Message, Query, Request
from bursar.contracts.gpu_explain import ModelLoad
from bursar.contracts.gpu_words import Bytes, LeaseId, Text

Batch = Annotated[int, Field(ge=1, le=2**20)]
Replicas = Annotated[int, Field(ge=1, le=64)]
Rate = Annotated[int, Field(ge=0, le=2**50)]
Micros = Annotated[int, Field(ge=0, le=2**40)]
Count = Annotated[int, Field(ge=0, le=2**40)]
Thousandths = Annotated[int, Field(ge=0, le=1_000_000)]

Kind = Literal["batch", "replicas"]
AdviceStep = Literal["recommended", "agreed", "canary", "kept", "rolled_back", "declined", "lapsed"]


class Startup(Query):
    """With which arguments does an engine stay within this lease of mine? ``host_memory``: of the host, for blocks that
    are swapped out; ``swap_space_fraction``: which part of it, in thousandths. ``visible``: what the least of the cards
    shows to a process; None: as the last report says."""

    lease: LeaseId
    fence: Fence
    engine: Literal["vllm", "candle-vllm"] = "vllm"
    load: ModelLoad
    host_memory: Bytes = 0
    swap_space_fraction: Annotated[int, Field(ge=0, le=1_000)] = 0
    visible: Annotated[int, Field(ge=1, le=2**50)] | None = None


class Started(Message):
    """``prefix``: what to put before the program. ``tokens``: of cache that the engine will have."""

    ok: Literal[True] = True
    lease: LeaseId
    prefix: list[str]
    arguments: list[str]
    environment: dict[str, str]
    tokens: int
    fence: str


class MeasuredRun(Message):
    """One point of an engine's curve: at most ``batch`` sequences at a time. ``kv``: the most of the cache in use."""

    batch: Batch
    throughput: Rate
    itl_us: Micros
    preemptions: Count = 0
    kv: Annotated[int, Field(ge=0, le=1_000)] = 0


class MeasuredSetup(Message):
    """Several engines on one card, each with ``batch``; throughput of all together."""

    batch: Batch
    replicas: Replicas
    throughput: Rate
    itl_us: Micros
    preemptions: Count = 0


class GpuHalf(Message):
    """One of the two halves that a step with prompts in it would be split into: times of its linear parts, prompts and
    decoding on the GPU, and of its decoding on the CPU."""

    linear_us: Micros
    prefill_us: Micros
    gpu_decode_us: Micros
    cpu_decode_us: Micros
    sequences: Count


class GpuLayer(Message):
    """One layer of a model: times on the GPU in nanoseconds, and sequences whose attention each side does per second.
    ``waiting``: sequences whose cache is in the host's memory. ``halves``: of a step with prompts in it, two of them;
    then they decide, and not the layer: ``alone_us`` is what the GPU takes for ``alone_sequences`` without the CPU."""

    linear_ns: Count
    attention_ns: Count
    gpu_rate: Count
    cpu_rate: Count
    waiting: Count = 0
    halves: Annotated[tuple[GpuHalf, ...], Field(max_length=2)] = ()
    alone_sequences: Count = 0
    alone_us: Micros = 0

    @model_validator(mode="after")
    def _two_or_none(self) -> GpuLayer:
        if len(self.halves) == 1:
            raise ValueError("a step has two halves, or is not split")
        return self


class Curve(Message):
    """What was measured. ``bound``: the time between tokens may be so many thousandths of that at batch 32;
    ``epsilon``: and the efficiency has to be above this."""

    runs: Annotated[tuple[MeasuredRun, ...], Field(max_length=64)] = ()
    setups: Annotated[tuple[MeasuredSetup, ...], Field(max_length=64)] = ()
    epsilon: Thousandths = 100
    bound: Annotated[int, Field(ge=1, le=100_000)] = 2_000


class Modelled(Message):
    """An engine that was not measured yet, on a card. ``load``: its model; ``context`` of it is what a sequence has in
    the middle. ``bandwidth``: of the card's memory, in bytes a second. ``step_us``, ``sequence_us``: what a step, and
    each sequence in it, takes beside reading weights and cache. ``memory``: of its lease, in bytes; where that does not
    hold so many sequences they would be preempted. None: it holds all."""

    load: ModelLoad
    bandwidth: Annotated[int, Field(ge=1_000_000, le=2**50)]
    step_us: Micros = 0
    sequence_us: Micros = 0
    memory: Bytes | None = None


class Advise(Query):
    """Advice from what was measured; it changes nothing. ``fill``: also foretell these batches: from the runs, or, with
    ``modelled``, from the model and the card (then the batches 1 and 32 as well)."""

    curve: Curve = Field(default_factory=Curve)
    fill: Annotated[tuple[Batch, ...], Field(max_length=64)] = ()
    modelled: Modelled | None = None
    layer: GpuLayer | None = None


class Advised(Message):
    """``batch``: the largest within the bounds; None: there is no advice, and ``why`` says it: ``no_reference`` (no run
    at 1 or at 32 without preemptions), ``none_holds``. ``setup``: batch and replicas with the most throughput that keep
    the bound after replication; ``gain``: its throughput over the largest batch of one engine, less 1000. ``breaking``:
    setups with more throughput that break the bound or preempt. ``dispatch``: what to do with attention; ``threshold``:
    splitting wins below this ratio of GPU to CPU throughput; both None: not asked."""

    ok: Literal[True] = True
    batch: int | None
    why: Literal["fits", "no_reference", "none_holds"]
    efficiency: int
    slowdown: int
    throughput_part: int
    kv_part: int
    foretold: list[MeasuredRun]
    setup: MeasuredSetup | None
    gain: int | None
    breaking: list[MeasuredSetup]
    dispatch: Literal["gpu_only", "pipelined", "overlap"] | None
    threshold: int | None
    fence: str


class Pace(Query):
    """A window of a worker's steps: sums of their times on the CPU and the GPU. Where the CPU is what they wait for,
    fewer requests should run at a time. ``most``: that may run at a time at all."""

    cpu_us: Micros
    gpu_us: Micros
    steps: Count
    most: Batch


class Paced(Message):
    """``limit``: requests that should run at a time now, from 1 to ``most``."""

    ok: Literal[True] = True
    limit: int
    throttled: bool
    fence: str


class Tune(Request):
    """A worker tells its curve and what it runs with; where another batch, or number of replicas, is better, it is
    recommended: in the answer, and to everybody at ``bursar.evt.gpu-manager.advice.<worker>``. ``another``: bytes that
    one more engine would take, with its own weights and context; None: it wants none. While nothing was measured with
    two, a second one is recommended where a card that it leases has room, and where it is expected to keep the bound;
    what it then does decides."""

    curve: Curve
    batch: Batch
    replicas: Replicas = 1
    another: Annotated[int, Field(ge=1, le=2**50)] | None = None


class TuneStep(Request):
    """The worker's part of a change: it agrees, declines, or has applied it (as a canary). Who declines after having
    agreed, because it fails there, takes the change back."""

    step: Literal["agreed", "declined", "applied"]


class TuneWindow(Request):
    """A window that the worker measured: before the change as its baseline, after it as its trial."""

    throughput: Rate
    itl_us: Micros
    preemptions: Count = 0


class Recommendation(Message):
    """``promised``: throughput afterwards, in thousandths of that before; ``itl_us``: the limit of the time between
    tokens."""

    worker: str
    kind: Kind
    now: int
    then: int
    promised: int
    itl_us: int
    because: Text


class Tuned(Message):
    """Where the worker's change is: ``step`` None: there is none. ``rolled_back``: take it back now."""

    ok: Literal[True] = True
    step: AdviceStep | None
    recommendation: Recommendation | None
    ends_in_ms: int | None
    fence: str
