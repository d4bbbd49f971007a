"""What may go wrong, and how often: each seed draws its own mixture, so that rare faults meet alone and together.

After Groce et al., "Swarm Testing" (ISSTA 2012): leaving some faults out of a run finds more than always mixing all.
"""

from __future__ import annotations

import random
from typing import NamedTuple


class Faults(NamedTuple):
    """Probabilities are per message or per step; ``*_every`` are mean times in ms between events (0: never)."""

    slow: int = 3
    "Longest ordinary delay of anything (ms)."
    lost_request: float = 0.0
    lost_ack: float = 0.0
    late: float = 0.0
    "An append reaches the store only after its time-out."
    slow_ack: float = 0.0
    spurious: float = 0.0
    "The store refuses though nothing stands in the way."
    storage_error: float = 0.0
    "A read, chunk or manifest fails, before or after it was carried out."
    effect_crash: float = 0.0
    "The process dies between two effects of one input."
    lost_heartbeat: float = 0.0
    late_heartbeat: float = 0.0
    stalled_tail: float = 0.0
    repeated_tail: float = 0.0
    lost_message: float = 0.0
    "A request or an answer of a client is lost."
    repeated_message: float = 0.0
    late_message: float = 0.0
    lost_disk: float = 0.0
    "A restarted instance finds no file with its highest fence."
    crash_every: int = 0
    pause_every: int = 0
    long_pauses: bool = False
    resign_every: int = 0
    suspend_every: int = 0
    corrupt_every: int = 0
    regress_every: int = 0
    old_leader_every: int = 0
    "A leader of the stream that was replaced answers reads for a moment."
    full_every: int = 0
    "The journal has no room for a while."


CALM = Faults()
"""Nothing goes wrong, as after healing."""


def draw(rng: random.Random, regressions: bool) -> Faults:
    """One mixture. ``regressions``: the store may lose acknowledged entries."""

    def some(*levels: float) -> float:
        return rng.choice(levels) if rng.random() < 0.5 else 0.0

    def every(*levels: int) -> int:
        return rng.choice(levels) if rng.random() < 0.5 else 0

    return Faults(
        slow=rng.choice((2, 5, 20, 60)),
        lost_request=some(0.01, 0.05, 0.2),
        lost_ack=some(0.01, 0.05, 0.2),
        late=some(0.01, 0.05, 0.15),
        slow_ack=some(0.02, 0.1, 0.3),
        spurious=some(0.01, 0.1),
        storage_error=some(0.005, 0.03, 0.1),
        effect_crash=some(0.0005, 0.003),
        lost_heartbeat=some(0.1, 0.5, 1.0),
        late_heartbeat=some(0.1, 0.5),
        stalled_tail=some(0.01, 0.05, 0.2),
        repeated_tail=some(0.05, 0.2),
        lost_message=some(0.01, 0.1),
        repeated_message=some(0.02, 0.2),
        late_message=some(0.01, 0.05),
        lost_disk=some(0.2, 1.0),
        crash_every=every(2_000, 5_000),
        pause_every=every(2_000, 5_000),
        long_pauses=rng.random() < 0.4,
        resign_every=every(4_000, 8_000),
        suspend_every=every(6_000, 12_000),
        corrupt_every=every(3_000, 6_000),
        regress_every=rng.choice((4_000, 8_000)) if regressions else 0,
        full_every=every(4_000, 8_000),
        old_leader_every=every(2_000, 5_000),
    )
