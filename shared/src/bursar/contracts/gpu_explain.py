"""What is wanted of the GPU manager, and its explanation: would it fit, why not, and what would have to be freed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bursar.contracts.base import Message, Query
from bursar.contracts.gpu_words import (
    MAX_DEVICES,
    Apart,
    Bytes,
    Excluded,
    HostName,
    Labels,
    Near,
    Policy,
    Purpose,
    Role,
    Text,
)


class Wanted(Message):
    """Memory on devices.

    ``memory``: bytes on each of ``devices`` devices (all or none; of one host unless ``one_host`` is false).
    ``model``: part of the name that the driver gives the card, in any case. ``labels``: all must be the host's.
    ``hosts``: only these. ``exclude``: hosts, uuids or whole device names not to use. ``purpose``: what it is for.

    ``policy``: ``pack`` into the smallest hole that is no loss for large requests, or ``spread``. ``role``: cards that
    are meant for it are taken first; None: as memory and purpose say (large models and inference on primary cards,
    loading on secondary ones). ``numa``, ``link``: whether all devices have to be on the same NUMA node, or linked to
    one another, and so of one host; otherwise that is preferred. ``group`` and ``apart``: not on a device, or host,
    where another lease of the same group is, if it can be avoided, or (``strictly``) never.
    """

    memory: Annotated[int, Field(ge=1, le=2**50)]
    devices: Annotated[int, Field(ge=1, le=MAX_DEVICES)] = 1
    one_host: bool = True
    model: Text | None = None
    labels: Labels = Field(default_factory=dict)
    hosts: Annotated[tuple[HostName, ...], Field(max_length=64)] = ()
    exclude: Annotated[tuple[Excluded, ...], Field(max_length=64)] = ()
    purpose: Purpose = "workspace"
    policy: Policy = "pack"
    role: Role | None = None
    numa: Near = "any"
    link: Near = "any"
    group: Annotated[str, Field(max_length=64)] = ""
    apart: Apart = "no"
    strictly: bool = False

    @property
    def on_one_host(self) -> bool:
        return self.one_host or "same" in (self.numa, self.link)


class ModelLoad(Message):
    """A model that somebody thinks of loading, and how its engine would be started.

    ``model``: its name; ``config``: its ``config.json``, for one that is not known by name. ``form``: of the weights;
    ``kv_form``: of the cache; None: as the configuration says, fp16 where it says nothing. ``context``: tokens of one
    sequence, ``sequences``: how many at a time; the cache has to hold all of them. ``shards``: cards that share the
    model."""

    model: Text
    config: Annotated[dict[str, Any], Field(max_length=64)] | None = None
    form: Annotated[str, Field(max_length=16)] | None = None
    kv_form: Annotated[str, Field(max_length=16)] | None = None
    context: Annotated[int, Field(ge=1, le=2**24)] = 4_096
    sequences: Annotated[int, Field(ge=1, le=2**16)] = 1
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=2**24)] = 2_048
    max_num_sequences: Annotated[int, Field(ge=1, le=2**20)] = 256
    shards: Annotated[int, Field(ge=1, le=MAX_DEVICES)] = 1


class Explain(Query):
    """Would this fit now? It grants nothing and takes no place in line.

    ``want``: what a lease would ask for. ``load``: or a model; then the memory and the number of devices follow from
    it, and of ``want`` only the choice of devices counts. One of them at least. ``gpu_memory_utilization``: of the
    model's engine, in thousandths: it takes this part of its card, and its context and graphs beside it, here of the
    largest card that matches; None: no more than it needs. ``swap_space_fraction``: the part of the host's memory
    (``host_memory``) for blocks that are swapped out, in thousandths."""

    want: Wanted | None = None
    load: ModelLoad | None = None
    gpu_memory_utilization: Annotated[int, Field(ge=10, le=1_000)] | None = None
    swap_space_fraction: Annotated[int, Field(ge=0, le=1_000)] = 0
    host_memory: Bytes = 0

    @model_validator(mode="after")
    def _says_something(self) -> Explain:
        if self.want is None and self.load is None:
            raise ValueError("neither memory nor a model is asked for")
        return self


class Estimated(Message):
    """What a model would take on each device, by part. ``kv_per_token``: bytes of cache for each token. ``tokens``: how
    many the cache would hold. ``swap``: bytes of the host's memory for blocks that are swapped out, in whole blocks."""

    weights: int
    kv_cache: int
    activation: int
    overhead: int
    kv_per_token: int
    tokens: int
    swap: int


class Obstacle(Message):
    """One device that matches. ``why``: what stands in the way there; empty: nothing. ``room``: None: not known.
    ``foreign``: bytes in use by processes without a lease, which only their owners can free."""

    device: str
    why: list[str]
    room: int | None
    missing: int | None
    foreign: int | None


class Freeable(Message):
    """A lease that would have to end. ``frees``: bytes on each of its devices that would help."""

    lease: str
    principal: str
    purpose: Purpose
    devices: list[str]
    frees: int
    ends_in_ms: int


class Explained(Message):
    """``fits``: it would be granted now; then on ``devices``. ``reason`` and ``text``: as in a refusal; empty when it
    fits. ``free``: the smallest set of leases whose end would let it fit (the fewest leases, then the fewest bytes);
    None: no leases of others can, or none have to. ``is_smallest``: whether it is certain that no set has fewer; where
    there are too many sets to try, one is put together. ``estimate``: of the model that was asked for. ``obstacles``:
    at most 64 devices, those that come closest first."""

    ok: Literal[True] = True
    fits: bool
    memory: int
    devices: list[str]
    reason: str
    text: str
    retry_in_ms: int | None
    free: list[Freeable] | None
    is_smallest: bool
    estimate: Estimated | None
    obstacles: list[Obstacle]
    fence: str
