"""How much memory of a card a model will take, before it is loaded.

Two questions. `estimate`: from the model's shape and how the engine is started, what one process takes on each card.
`profile`: given what the engine measured at its start, how many blocks of KV cache it makes; vLLM's own rule::

    budget = floor(visible * gpu_memory_utilization)          visible = total - what the driver keeps
    kv     = budget - peak of the profiling run - what is not torch's
    blocks = floor(kv / block)                                block = 16 tokens

The peak over the weights is fitted to 117 recorded starts (vLLM 0.6, H100): the larger of what so many as
``max_num_batched_tokens`` need inside a layer, and of the logits and sampling buffers of ``max_num_sequences``.

Two things lie *outside* the engine's budget and inside a lease: the CUDA context (0.60 to 0.66 GiB per process) and
captured graphs (about 0.3 GiB). Without them R replicas overrun the card by R times a gigabyte.

What is really observed corrects the next estimate (`Corrections`): the largest of the last eight ratios of a model, so
that one small load does not make the next one fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, NamedTuple

from bursar.errors import CallerError
from bursar_gpu_manager.models import KV_BYTES, Shape

MIB: Final = 1 << 20
BLOCK_TOKENS: Final = 16

CONTEXT: Final = 676 * MIB
"""CUDA context of one process on one card; recorded: 0.60 to 0.66 GiB."""
GRAPHS: Final = 308 * MIB
"""Captured graphs, where they are not switched off."""
NON_TORCH: Final = 99 * MIB
"""What the driver's libraries take within the engine's budget; recorded: 0.10 GiB when one engine starts alone."""

WORKSPACE: Final = 32 * MIB
SAMPLING: Final = 9_600
"""Logits and sampling of one sequence, in thousandths of a row of fp32 over the vocabulary."""
SAMPLING_SMALL: Final = 13_350
"""The same below `SMALL` sequences."""
SMALL: Final = 128


@dataclass(frozen=True)
class Engine:
    """How an engine is started. ``form``: of the weights; ``kv_form``: of the cache. ``swap_space_fraction``: of the
    host's memory for blocks that are swapped out, unless ``swap_space`` (bytes) says it. ``shards``: cards of one
    model (tensor parallel). Raises `CallerError` (bad_config) when a number makes no sense."""

    form: str = "fp16"
    kv_form: str = "fp16"
    gpu_memory_utilization: float = 0.9
    swap_space_fraction: float = 0.0
    swap_space: int | None = None
    max_num_batched_tokens: int = 2_048
    max_num_sequences: int = 256
    shards: int = 1
    block_tokens: int = BLOCK_TOKENS
    graphs: bool = True

    def __post_init__(self) -> None:
        _within("gpu_memory_utilization", self.gpu_memory_utilization, 0.01, 1.0)
        _within("swap_space_fraction", self.swap_space_fraction, 0.0, 1.0)
        _within("swap_space", self.swap_space or 0, 0, 2**50)
        _within("max_num_batched_tokens", self.max_num_batched_tokens, 1, 2**24)
        _within("max_num_sequences", self.max_num_sequences, 1, 2**20)
        _within("shards", self.shards, 1, 64)
        _within("block_tokens", self.block_tokens, 1, 1_024)
        if self.kv_form not in KV_BYTES:
            raise CallerError("unknown_format", f"the cache cannot be {self.kv_form!r}", known=",".join(KV_BYTES))

    def swap_bytes(self, host_memory: int) -> int:
        return self.swap_space if self.swap_space is not None else part(host_memory, self.swap_space_fraction)


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise CallerError("bad_config", f"{name} is {value}: it must be from {least} to {most}", field=name)


def part(total: int, fraction: float) -> int:
    """``fraction`` of a number of bytes, rounded down, exactly as its decimal form says."""
    return int(total * Fraction(str(fraction)))


class Estimate(NamedTuple):
    """Bytes on each card. ``peak``: weights and the most that the profiling run takes over them; ``fixed`` is all but
    the KV cache; ``outside``: of this, what the engine's own budget does not know of."""

    weights: int
    activation: int
    non_torch: int
    outside: int
    kv_per_token: int
    block: int

    @property
    def peak(self) -> int:
        return self.weights + self.activation

    @property
    def fixed(self) -> int:
        return self.peak + self.non_torch + self.outside

    def kv(self, tokens: int) -> int:
        """KV cache of so many tokens, in whole blocks."""
        return -(-tokens * self.kv_per_token // self.block) * self.block

    def total(self, tokens: int) -> int:
        """What a lease has to ask for so that ``tokens`` tokens fit into the cache at a time."""
        return self.fixed + self.kv(tokens)

    def tokens_within(self, memory: int) -> int:
        """The reverse: how many tokens a lease of ``memory`` bytes holds; 0 when the model itself does not fit."""
        return max(0, memory - self.fixed) // self.block * (self.block // self.kv_per_token)


def estimate(shape: Shape, engine: Engine) -> Estimate:
    """Raises `CallerError` (unknown_format)."""
    kv = shape.kv_per_token(KV_BYTES[engine.kv_form], engine.shards)
    outside = CONTEXT + (GRAPHS if engine.graphs else 0)
    weights = shape.weight_bytes(engine.form, engine.shards)
    return Estimate(weights, activation(shape, engine), NON_TORCH, outside, kv, kv * engine.block_tokens)


def activation(shape: Shape, engine: Engine) -> int:
    """The most that the profiling run takes over the weights."""
    width = 2 * shape.ffn + (4 if shape.family == "opt" else 1) * shape.hidden
    if shape.experts is not None:
        width += 2 * shape.experts.ffn * max(1, shape.experts.shared)
    layer = WORKSPACE + 2 * engine.max_num_batched_tokens * width // engine.shards
    rows = SAMPLING_SMALL if engine.max_num_sequences < SMALL else SAMPLING
    logits = WORKSPACE + rows * shape.vocab * 4 * engine.max_num_sequences // 1_000
    return max(layer, logits)


class Profile(NamedTuple):
    """What an engine makes of its card: bytes and blocks of KV cache there, and blocks in the host's memory."""

    kv: int
    gpu_blocks: int
    cpu_blocks: int

    def concurrency(self, context: int, block_tokens: int = BLOCK_TOKENS) -> int:
        """Sequences of ``context`` tokens that fit at a time."""
        return self.gpu_blocks // max(1, -(-context // block_tokens))


def profile(visible: int, peak: int, non_torch: int, block: int, utilization: float, swap: int = 0) -> Profile:
    """Bytes in, blocks out. ``visible``: the card's total less what the driver keeps. A model that does not fit has no
    block, never a negative number of them."""
    kv = max(0, part(visible, utilization) - peak - non_torch)
    return Profile(kv, kv // block, swap // block)


def predict(shape: Shape, engine: Engine, visible: int, host_memory: int = 0) -> Profile:
    """`profile` from the configuration alone."""
    found = estimate(shape, engine)
    swap = engine.swap_bytes(host_memory)
    return profile(visible, found.peak, found.non_torch, found.block, engine.gpu_memory_utilization, swap)


REMEMBERED: Final = 8
MILLION: Final = 1_000_000
LOWEST, HIGHEST = MILLION // 2, 2 * MILLION
"""A ratio beyond these says that something else was measured: it is cut."""


class Corrections:
    """What models took over what was estimated, in millionths, by a key that the caller chooses (model, format and
    shards). At most ``limit`` keys; the one that was observed longest ago goes first."""

    __slots__ = ("_limit", "_ratios")

    def __init__(self, limit: int = 1_024) -> None:
        self._limit = limit
        self._ratios: dict[str, list[int]] = {}

    def observe(self, key: str, estimated: int, observed: int) -> None:
        """A load came to ``observed`` bytes where ``estimated`` had been expected, both without KV cache."""
        if estimated <= 0 or observed <= 0:
            return
        ratio = min(max(-(-observed * MILLION // estimated), LOWEST), HIGHEST)
        self._ratios[key] = [*self._ratios.pop(key, []), ratio][-REMEMBERED:]
        if len(self._ratios) > self._limit:
            del self._ratios[next(iter(self._ratios))]

    def corrected(self, key: str, estimated: int) -> int:
        """The estimate, scaled by the largest of the last ratios; as it is when the model was never observed."""
        ratios = self._ratios.get(key)
        return estimated if not ratios else -(-estimated * max(ratios) // MILLION)

    def dump(self) -> list[Any]:
        return [[key, *ratios] for key, ratios in self._ratios.items()]

    @classmethod
    def load(cls, rows: Sequence[Any], limit: int = 1_024) -> Corrections:
        found = cls(limit)
        found._ratios = {key: list(ratios) for key, *ratios in rows}
        return found
