"""What the pace of the probes saves, and what it misses, on hosts with ordinary days and bad moments.

Each host is looked at once a second for its whole time; a reading per second is the truth. What the monitor knows at
each second is the last sample that was sent. An *event* is a second in which a value comes to the other side of a bound
that an objective or a rule looks at; it is missed when the monitor stands on the other side in that second.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from bursar.contracts.monitor import CpuSample, DiskSample, HostSample, MemorySample
from bursar_monitor.pacing import Pace, side, values_of

BOOT = "0" * 16
KINDS = ("idle", "busy", "batch", "leaking")


def levels(kind: str, seconds: int, noise: random.Random) -> Iterator[tuple[int, int, int]]:
    """CPU, memory and disk in use, thousandths, second by second."""
    cpu, memory, disk = 60.0, noise.uniform(300, 600), noise.uniform(200, 850)
    goal = {"idle": 50.0, "busy": 770.0, "batch": 100.0, "leaking": 400.0}[kind]
    for second in range(seconds):
        if kind == "batch" and second % 600 == 0:
            goal = noise.choice((40, 300, 900, 990))
        if kind == "busy":
            goal = 770 + 60 * math.sin(second / 300)
        cpu += (goal - cpu) * 0.2 + noise.gauss(0, 12)
        memory += noise.gauss(0, 0.5) + (0.25 if kind == "leaking" else 0)
        disk += noise.uniform(0, 0.004)
        yield tuple(round(min(1_000, max(0, value))) for value in (cpu, memory, disk))  # type: ignore[misc]


def sample_of(cpu: int, memory: int, disk: int) -> HostSample:
    return HostSample(
        boot=BOOT,
        seq=1,
        uptime_ms=0,
        cpu=CpuSample(used_permille=cpu, cores=8),
        memory=MemorySample(total_bytes=1_000, available_bytes=1_000 - memory),
        disk=DiskSample(total_bytes=1_000, used_bytes=disk),
    )


def run(hosts: int, seconds: int) -> dict[str, float | int]:
    """``samples_saved_share`` against one sample a second; ``missed_slo_events`` of all ``slo_events``."""
    looks = sent = events = missed = 0
    for number in range(hosts):
        noise, pace = random.Random(number), Pace()
        told: dict[str, int] = {}
        before: dict[str, int] = {}
        for level in levels(KINDS[number % len(KINDS)], seconds, noise):
            sample = sample_of(*level)
            looks += 1
            if pace.wants(sample):
                pace.took(sample)
                told = values_of(sample)
                sent += 1
            now = values_of(sample)
            for name, value in now.items():
                if before and side(name, value) != side(name, before[name]):
                    events += 1
                    missed += side(name, value) != side(name, told[name])
            before = now
    return {
        "sampled_hosts": hosts,
        "samples_saved_share": round(1 - sent / looks, 4),
        "slo_events": events,
        "missed_slo_events": missed,
    }
