"""What a decision costs: one look-up, timed by itself, many times over.

Each is timed between two readings of the clock; the median time between two readings with nothing in between is taken
off. What the machine does meanwhile (interrupts, other processes) stays in the p99.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from bench.figures import quantile


def each_us(look: Callable[[str], Any], target: str, count: int) -> tuple[float, float]:
    """p50 and p99 of one call (µs)."""
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        nothing = []
        for _ in range(20_000):
            began = clock()
            nothing.append(clock() - began)
        idle = quantile(nothing, 0.5)
        took = []
        for _ in range(count):
            began = clock()
            look(target)
            took.append(clock() - began)
    finally:
        gc.enable()
    return tuple(max(0.0, quantile(took, q) - idle) / 1000 for q in (0.5, 0.99))  # type: ignore[return-value]
