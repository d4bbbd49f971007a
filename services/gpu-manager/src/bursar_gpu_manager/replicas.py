"""Whether a second engine on the memory that a smaller batch leaves free is worth it, by what it really does.

The batch that was chosen for one engine is within its bound *alone*; two of them share the card, and each token comes
later. The paper's own best run (two replicas at batch 256, 33.7 % over the largest batch) runs at 4.94 times the
reference, though 256 was chosen with a bound of 4. So the bound is applied again after replication: to measured runs by
`best_setup`, and before a trial by `worth_trying`, with the scaling that was recorded (throughput at least 1.25 times,
time between tokens at most 1.50 times for the second replica at the same batch).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from bursar_gpu_manager.batching import Run
from bursar_gpu_manager.estimates import Estimate

WORTH: Final = 0.05
"""A replica has to bring so much more throughput in all."""
SCALING: Final = 1.25
SLOWING: Final = 1.50


class Setup(NamedTuple):
    """A measured setup: ``replicas`` engines, each at ``batch``; throughput of all together. ``chunked``: prompts are
    processed in pieces."""

    batch: int
    replicas: int
    throughput: float
    itl: float
    preemptions: int = 0
    kv: float = 0.0
    chunked: bool = False


class SetupAdvice(NamedTuple):
    """``setup`` None: nothing is within the bound. ``gain``: over ``most``, the throughput without any bound, as a
    part; ``slowdown``: over the reference; ``over``: setups with more throughput that break the bound or preempt."""

    setup: Setup | None
    gain: float
    slowdown: float
    over: tuple[Setup, ...]


def holds(setup: Setup, reference: float, bound: float) -> bool:
    """Whether a setup keeps the bound after replication: no preemption, and ITL at most ``bound`` * ``reference``."""
    return not setup.preemptions and setup.itl <= bound * reference


def gain(setup: Setup, most: float) -> float:
    """Throughput over that of the largest batch on one engine, as a part (0.337: 33.7 % more)."""
    return setup.throughput / most - 1


def best_setup(setups: Iterable[Setup], reference: float, bound: float, most: float) -> SetupAdvice:
    """The highest throughput within the bound; of equals fewer replicas, then the smaller batch. ``reference``: ms
    between tokens of one engine at batch 32; ``most``: throughput at the largest batch of one engine."""
    found = sorted(setups, key=lambda setup: (-setup.throughput, setup.replicas, setup.batch))
    best = next((setup for setup in found if holds(setup, reference, bound)), None)
    if best is None:
        return SetupAdvice(None, 0.0, 0.0, tuple(found))
    over = tuple(setup for setup in found if setup.throughput > best.throughput)
    return SetupAdvice(best, gain(best, most), best.itl / reference, over)


def replicas_within(memory: int, need: Estimate, tokens: int) -> int:
    """Engines that fit into ``memory`` bytes of a card, each with its own context, weights and cache of ``tokens``."""
    return memory // need.total(tokens)


class Trial(NamedTuple):
    """``worth``: whether to try one more replica; if not, ``reason`` is ``no_memory``, ``too_slow`` or ``no_gain``.
    ``expected``: what it is expected to do."""

    worth: bool
    reason: str
    expected: Setup


def worth_trying(one: Run, reference: float, bound: float, memory: int, need: Estimate, tokens: int) -> Trial:
    """Whether a second replica at the same batch should be tried. ``memory``: bytes free beside the first engine."""
    expected = Setup(one.batch, 2, one.throughput * SCALING, one.itl * SLOWING)
    if replicas_within(memory, need, tokens) < 1:
        return Trial(False, "no_memory", expected)
    if not holds(expected, reference, bound):
        return Trial(False, "too_slow", expected)
    return Trial(True, "worth_a_trial", expected)


def keeps(before: Run, after: Setup, reference: float, bound: float) -> bool:
    """Whether a replica that was tried stays: five percent more throughput, and the bound still holds."""
    return holds(after, reference, bound) and after.throughput >= before.throughput * (1 + WORTH)
