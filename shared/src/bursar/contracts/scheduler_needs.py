"""What a task needs of a worker, and what is better for it: the inputs of the placement.

*Needs* are met or the task waits; *hints* only weigh: the score of each worker (services/scheduler, `scoring`) counts
what it takes to bring data, to load a model, and to compute a prompt again that others have in their caches.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bursar.contracts.base import Message
from bursar.contracts.scheduler_words import (
    MAX_GANG,
    MAX_PREFIX,
    BatchTokens,
    Host,
    Labels,
    LabelValue,
    Mebibytes,
    Millicores,
    ModelName,
    PrefixHash,
    Region,
    Tokens,
    WorkerKind,
)


class Needs(Message):
    """What a worker must have: its kind (None: any), all of these labels, this host, this region, this model loaded;
    and so much free of each resource, beside a slot: memory of a GPU (of a model), CPU, RAM, tokens in flight for a
    provider, and tokens in the worker's batch (both rounded up by a quarter at most, so that calls of nearly the same
    size stand in one line). ``gang``: so many workers at once, each with all of this, or none of them; it is
    never preempted."""

    kind: WorkerKind | None = None
    labels: Labels = Field(default_factory=dict)
    gpu_memory_mib: Mebibytes | None = None
    gpu_model: LabelValue | None = None
    cpu_millis: Millicores | None = None
    ram_mib: Mebibytes | None = None
    tokens: Tokens = Field(default_factory=dict)
    batch_tokens: BatchTokens | None = None
    host: Host | None = None
    region: Region | None = None
    model: ModelName | None = None
    gang: Annotated[int, Field(ge=1, le=MAX_GANG)] = 1


class Data(Message):
    """Where what a task works on is: any other worker has to bring so many ``bytes``."""

    host: Host | None = None
    numa_node: Annotated[int, Field(ge=0, le=1_023)] | None = None
    region: Region | None = None
    bytes: Annotated[int, Field(ge=0, le=1_099_511_627_776)] = 0


class Hints(Message):
    """What makes one worker better than another, and keeps none from the task: where its data is, the model that it
    calls, how long its prompt is (tokens), how long it runs (ms; None: as its class does).

    ``prefix``: a hash for each block of ``prefix_tokens`` tokens of its prompt, from its beginning on; each of them
    stands for all blocks up to its own (`bursar.prefix_of` makes them). Who had a task with the same hashes has the
    keys and values of those tokens in its cache."""

    data: Data | None = None
    model: ModelName | None = None
    prefix: Annotated[tuple[PrefixHash, ...], Field(max_length=MAX_PREFIX)] = ()
    prefix_tokens: Annotated[int, Field(ge=1, le=65_536)] = 256
    prompt_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    expected_ms: Annotated[int, Field(ge=1, le=604_800_000)] | None = None
