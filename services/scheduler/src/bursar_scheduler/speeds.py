"""How long calls take: learned from the ends of attempts, for each class, and for each class on each worker.

An exponentially weighted mean with a weight of an eighth for the newest, as in TCP's smoothed round trip (RFC 6298), in
whole microseconds. A worker of which nothing is known for a class is expected to take what the class takes elsewhere. A
function of the scheduler's events alone.
"""

from __future__ import annotations

from typing import Any, Final

UNKNOWN_US: Final = 1_000_000
"""Of a class that has never ended: a second."""

MAX_CLASSES: Final = 1_024
"""Classes that are remembered; the one that was heard of first goes when there are more."""


def smoothed(mean: int, sample: int) -> int:
    return mean + (sample - mean) // 8


class Speeds:
    """``classes``: mean run time in us; ``workers``: of each class by worker."""

    __slots__ = ("classes", "workers")

    def __init__(self) -> None:
        self.classes: dict[str, int] = {}
        self.workers: dict[str, dict[str, int]] = {}

    def learn(self, task_class: str, worker: str, took_us: int) -> int:
        """An attempt has finished; the mean of its class on this worker from now on."""
        known = self.classes.get(task_class)
        if known is None and len(self.classes) >= MAX_CLASSES:
            oldest = next(iter(self.classes))
            del self.classes[oldest]
            self.workers.pop(oldest, None)
        self.classes[task_class] = took_us if known is None else smoothed(known, took_us)
        by_worker = self.workers.setdefault(task_class, {})
        before = by_worker.get(worker)
        by_worker[worker] = took_us if before is None else smoothed(before, took_us)
        return by_worker[worker]

    def expect_us(self, task_class: str, worker: str = "") -> int:
        """The expected run time of a class, on a worker or anywhere."""
        of_class = self.classes.get(task_class, UNKNOWN_US)
        return self.workers.get(task_class, {}).get(worker, of_class) if worker else of_class

    def forget(self, worker: str) -> None:
        """It has left."""
        for by_worker in self.workers.values():
            by_worker.pop(worker, None)

    def dump(self) -> Any:
        return [[name, mean, list(self.workers.get(name, {}).items())] for name, mean in self.classes.items()]

    @classmethod
    def load(cls, value: Any) -> Speeds:
        speeds = cls()
        for name, mean, by_worker in value:
            speeds.classes[name] = mean
            speeds.workers[name] = dict(by_worker)
        return speeds
