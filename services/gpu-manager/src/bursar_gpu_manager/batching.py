"""Which batch size is worth its memory: the batching configuration advisor of "Mind the Memory Gap" (arXiv 2503.08311).

::

    B_opt = max { B : T(B) / (B * T(1)) > epsilon  and  ITL(B) <= L * ITL(32) }

``T`` is throughput and ``ITL`` the time between tokens when at most B sequences run at a time. The paper is strict with
L = 2 and relaxed with L = 4, at epsilon = 0.1. Runs in which a sequence was preempted are dropped first: there the card
was too small for the batch, and what was measured is how it failed. Without a run at 1 and at 32 there is no advice.

A curve may be measured, or modelled: the time of a step grows almost linearly with the batch (weights are read once a
step, the cache once per sequence), so three measured points, or the bandwidth of the card, give the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

REFERENCE: Final = 32
"""The batch whose time between tokens the bound is a multiple of."""
EPSILON: Final = 0.1
STRICT: Final = 2.0
RELAXED: Final = 4.0


class Run(NamedTuple):
    """One point of a curve. ``throughput``: tokens per second, of prompts and answers; ``itl``: ms between tokens;
    ``kv``: the most of its KV cache that was in use (0 to 1)."""

    batch: int
    throughput: float
    itl: float
    preemptions: int = 0
    kv: float = 0.0


def exact(number: float) -> Fraction:
    """The number as its decimal form says, so that a tie is one."""
    return Fraction(str(number))


class BatchAdvice(NamedTuple):
    """``batch`` None: no advice, and ``reason`` says why: ``no_reference`` (no clean run at 1 or 32), ``none_holds``
    (not even the smallest batch is within the bounds). ``efficiency``: T(B) / (B * T(1)); ``slowdown``: ITL(B) /
    ITL(32); ``throughput_part``, ``kv_part``: of the clean run with the highest throughput."""

    batch: int | None
    reason: str
    efficiency: float = 0.0
    slowdown: float = 0.0
    throughput_part: float = 0.0
    kv_part: float = 0.0


def best_batch(runs: Iterable[Run], epsilon: float = EPSILON, bound: float = STRICT) -> BatchAdvice:
    """The largest batch within the bounds: more than ``epsilon``, at most ``bound`` times the reference."""
    clean = {run.batch: run for run in runs if not run.preemptions and run.throughput > 0 and run.itl > 0}
    if 1 not in clean or REFERENCE not in clean:
        return BatchAdvice(None, "no_reference")
    one, reference = clean[1].throughput, clean[REFERENCE].itl
    least, limit = exact(epsilon) * exact(one), exact(bound) * exact(reference)
    good = [run for run in clean.values() if exact(run.throughput) > least * run.batch and exact(run.itl) <= limit]
    if not good:
        return BatchAdvice(None, "none_holds")
    best = max(good)
    most = max(clean.values(), key=lambda run: (run.throughput, -run.batch))
    return BatchAdvice(
        best.batch,
        "fits",
        best.throughput / (best.batch * one),
        best.itl / reference,
        best.throughput / most.throughput,
        best.kv / most.kv if most.kv else 0.0,
    )


class Curve(NamedTuple):
    """A modelled curve: ``ITL(B) = base + slope * B`` ms, and ``rate`` tokens of throughput per sequence and step."""

    base: float
    slope: float
    rate: float

    def run(self, batch: int, holds: int | None = None) -> Run:
        """The point at ``batch``; ``holds``: so many sequences have room in the cache, more would be preempted."""
        itl = self.base + self.slope * batch
        kv = 0.0 if holds is None else min(1.0, batch / max(1, holds))
        over = 0 if holds is None else max(0, batch - holds)
        return Run(batch, 1_000 * self.rate * batch / itl, itl, over, kv)

    def runs(self, batches: Sequence[int], holds: int | None = None) -> list[Run]:
        return [self.run(batch, holds) for batch in batches]


def fitted(runs: Iterable[Run]) -> Curve | None:
    """Least squares through the clean runs, each by its relative error, so that small batches count as much as large
    ones; None with fewer than two different batches, or when time would fall with the batch."""
    clean = [run for run in runs if not run.preemptions and run.itl > 0 and run.throughput > 0]
    if len({run.batch for run in clean}) < 2:
        return None
    weight = [1 / run.itl**2 for run in clean]
    total = sum(weight)
    middle = sum(w * run.batch for w, run in zip(weight, clean, strict=True)) / total
    height = sum(w * run.itl for w, run in zip(weight, clean, strict=True)) / total
    spread = sum(w * (run.batch - middle) ** 2 for w, run in zip(weight, clean, strict=True))
    rise = sum(w * (run.batch - middle) * (run.itl - height) for w, run in zip(weight, clean, strict=True))
    slope = rise / spread
    if slope < 0 or height - slope * middle <= 0:
        return None
    rate = sum(run.throughput * run.itl / run.batch for run in clean) / len(clean) / 1_000
    return Curve(height - slope * middle, slope, rate)


def of_hardware(
    weights: int, kv_per_token: int, context: int, bandwidth: int, step: float, per_sequence: float
) -> Curve:
    """Before anything was measured: every step reads the weights, and the cache of each sequence (``context`` tokens in
    the middle), at ``bandwidth`` bytes per ms; ``step`` and ``per_sequence`` are ms of everything else."""
    return Curve(weights / bandwidth + step, kv_per_token * context / bandwidth + per_sequence, 1.0)
