"""Whether a second engine on the memory that a smaller batch leaves free is worth it, by what it really does.

The batch that was chosen for one engine is within its bound *alone*; two of them share the card, and each token comes
later. The paper's own best run (two replicas at batch 256, 33.7 % over the largest batch) runs at 4.94 times the
reference, though 256 was chosen with a bound of 4. So the bound is applied again after replication: to measured runs by
`best_setup`, and before anything was measured with two by `worth_trying`, with the scaling that was recorded (time
between tokens at most 1.50 times with a second replica at the same batch); what it then does is judged by `rollout`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from bursar_gpu_manager.batching import Run, exact

WORTH: Final = 0.05
"""A replica has to bring so much more throughput in all."""
SLOWING: Final = 1.51
"""With a second replica a token takes at most so many times as long: the recorded pairs took 1.27 to 1.50 times."""


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
    return not setup.preemptions and exact(setup.itl) <= exact(bound) * exact(reference)


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


def worth_trying(one: Run, reference: float, bound: float) -> bool:
    """Whether a second replica at the same batch can be expected to keep the bound; that one brings something is what a
    trial shows."""
    return not one.preemptions and one.itl * SLOWING <= bound * reference
