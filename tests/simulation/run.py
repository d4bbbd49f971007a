"""Playing many seeds: what the tests and the command line share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from tests.simulation.bank import BankWorkload
from tests.simulation.breaker import BreakerWorkload
from tests.simulation.gpu_manager import GpuWorkload
from tests.simulation.limiter import LimiterWorkload
from tests.simulation.limiter_fleet import drawn
from tests.simulation.limiter_leases import LimiterLeasesWorkload
from tests.simulation.monitor import MonitorWorkload
from tests.simulation.scheduler import SchedulerWorkload
from tests.simulation.workload import Workload
from tests.simulation.world import History

WORKLOADS: Final[dict[str, Callable[[], Workload]]] = {
    "bank": BankWorkload,
    "limiter": LimiterWorkload,
    "limiter-leases": LimiterLeasesWorkload,
    "breaker": BreakerWorkload,
    "gpu-manager": GpuWorkload,
    "monitor": MonitorWorkload,
    "scheduler": SchedulerWorkload,
}

LIMITER_FLEET: Final = "limiter-fleet"
"""The limiter with its real clients, without the kernel's own faults: `tests.simulation.limiter_fleet`."""

DECIDERS: Final = (*WORKLOADS, LIMITER_FLEET)


def play(decider: str, seeds: Iterable[int]) -> Counter[str]:
    """Play seeds one after the other; the sum of what was counted. Raises at the first broken promise."""
    total: Counter[str] = Counter()
    for seed in seeds:
        if decider == LIMITER_FLEET:
            total.update(drawn(seed).history.counts)
            continue
        history = History(seed, WORKLOADS[decider])
        history.play()
        total.update(history.world.checker.counts)
        total["liveness" if history.is_liveness else "safety"] += 1
        total["steps"] += history.simulator.steps
    return total
