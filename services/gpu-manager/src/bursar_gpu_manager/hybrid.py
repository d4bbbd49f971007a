"""When the CPU should help with attention: the dispatch rule of APEX (arXiv 2506.03296), and NEO's test beside it.

With ``T_gl`` and ``T_ga`` the GPU's time per layer for linear parts and attention, and ``N_G``, ``N_C`` the sequences
whose attention GPU and CPU do per unit of time, a GPU alone does ``N_G * T_ga / (T_gl + T_ga)``; split into two halves
that take turns (asymmetric pipelining) both do ``(N_G * T_ga + N_C * (2 * T_gl + T_ga)) / (2 * T_gl + T_ga)``. So
splitting wins if and only if::

    N_G / N_C  <  2 * T_gl / T_ga + 3 + T_ga / T_gl

The right side is never below 3 + 2 * sqrt(2) = 5.83: a CPU with less than a sixth of the GPU's throughput helps at some
shares, and one with less than a tenth at almost none. Otherwise work that the GPU has no room for may still overlap:
the CPU computes its attention one step behind, and no batch is split. APEX's inequality for batches with prompts in
them was not available; there NEO's measured test decides. That the answer is mostly "GPU alone" is a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

Dispatch = Literal["gpu_only", "pipelined", "overlap"]

LAUNCH_MS: Final = 0.8
"""What NEO counts for starting work on the CPU, per step."""


class Layer(NamedTuple):
    """Time of a layer on the GPU (any unit): linear parts and attention; and attention throughput of both sides."""

    linear: float
    attention: float
    gpu_rate: float
    cpu_rate: float


def threshold(attention_over_linear: float) -> float:
    """Splitting wins while N_G / N_C is below this. Infinite where there is no attention, or nothing else."""
    if attention_over_linear <= 0:
        return float("inf")
    return 2 / attention_over_linear + 3 + attention_over_linear


def cpu_part_needed(attention_over_linear: float) -> float:
    """The part of the GPU's attention throughput that the CPU has to exceed."""
    return 1 / threshold(attention_over_linear)


def gpu_only_rate(layer: Layer) -> float:
    return layer.gpu_rate * layer.attention / (layer.linear + layer.attention)


def pipelined_rate(layer: Layer) -> float:
    span = 2 * layer.linear + layer.attention
    return (layer.gpu_rate * layer.attention + layer.cpu_rate * span) / span


def splitting_wins(layer: Layer) -> bool:
    """The inequality, strictly."""
    if min(layer.linear, layer.attention, layer.cpu_rate) <= 0:
        return False
    return layer.gpu_rate / layer.cpu_rate < threshold(layer.attention / layer.linear)


class Half(NamedTuple):
    """One of two sub-batches of a step, times in ms: linear parts, prompts and decoding on the GPU, decoding on the
    CPU; ``sequences`` in it."""

    linear: float
    prefill: float
    gpu_decode: float
    cpu_decode: float
    sequences: int

    @property
    def gpu(self) -> float:
        return self.linear + self.prefill + self.gpu_decode

    @property
    def cpu(self) -> float:
        return self.cpu_decode + LAUNCH_MS


def neo_wins(halves: Sequence[Half], alone_sequences: int, alone_ms: float) -> bool:
    """Two halves instead of one batch on the GPU: each half's CPU work is done by the time that the other half's linear
    parts and its own GPU work take, and sequences per ms are more."""
    first, second = halves
    for own, other in ((first, second), (second, first)):
        if other.linear + own.prefill + own.gpu_decode < own.cpu:
            return False
    together = (first.sequences + second.sequences) / (first.gpu + second.gpu)
    return alone_ms <= 0 or together > alone_sequences / alone_ms


def dispatch(
    layer: Layer,
    waiting_for_cpu: int,
    has_prompts: bool = False,
    halves: Sequence[Half] = (),
    alone: tuple[int, float] = (0, 0.0),
) -> Dispatch:
    """What to do with a step. ``waiting_for_cpu``: sequences whose cache is in the host's memory; ``alone``: sequences
    and ms of the step on the GPU alone, for batches with prompts (then ``halves`` are the two sub-batches)."""
    if not waiting_for_cpu:
        return "gpu_only"
    wins = neo_wins(halves, *alone) if has_prompts and len(halves) == 2 else not has_prompts and splitting_wins(layer)
    return "pipelined" if wins else "overlap"
