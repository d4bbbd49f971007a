"""What the services' processes use while nobody asks them for anything: CPU and memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import NamedTuple

import psutil

from bursar.demo.stack import Stack


class Footprint(NamedTuple):
    """Of all instances of a service together: cores in use when idle, resident memory in bytes, processes."""

    idle_cores: float
    rss: int
    processes: int


async def footprint(stack: Stack, seconds: float) -> dict[str, Footprint]:
    """Watch the services for so long; by service."""
    processes = stack.processes()
    before, began = {name: _cpu(process) for name, process in processes.items()}, time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    found: dict[str, Footprint] = {}
    for name, process in processes.items():
        service = name.rpartition("-")[0]
        cores, rss, count = found.get(service, Footprint(0.0, 0, 0))
        with contextlib.suppress(psutil.Error):
            used = (_cpu(process) - before[name]) / passed
            found[service] = Footprint(cores + used, rss + process.memory_info().rss, count + 1)
    return found


def with_memory(idle: dict[str, Footprint], stack: Stack) -> dict[str, Footprint]:
    """The same with the memory that the processes have now, after the work."""
    rss = dict.fromkeys(idle, 0)
    for name, process in stack.processes().items():
        with contextlib.suppress(psutil.Error):
            rss[name.rpartition("-")[0]] += process.memory_info().rss
    return {service: found._replace(rss=max(found.rss, rss[service])) for service, found in idle.items()}


def _cpu(process: psutil.Process) -> float:
    """Seconds of CPU time so far; 0 for a process that has ended."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
