"""From observations to readings: (signal, subject, value), the plain numbers that rules look at.

| signal | subject | value |
|---|---|---|
| ``host_silence_ms`` | host | ms since its last new sample |
| ``cpu_permille`` ``memory_permille`` ``disk_permille`` | host | thousandths in use; memory of what is there |
| ``allocatable_permille`` | host | thousandths in use of the memory that is handed out: four fifths of all |
| ``crashes`` | host/group | processes of a group that ended soon after their start, in the last minute |
| ``leak_permille`` | host/group | what a group's steady growth takes of the host's free memory (`lives`) |
| ``pool_permille`` | host/pool | thousandths in use of a pool of a host's memory (`pools`) |
| ``gpu_lost`` | host/device | 1 when a device that was there does not answer, or its ledger calls it lost |
| ``instance_missing`` | service/instance | 1 when an instance that is expected does not answer |
| ``owner_missing`` | service | 1 when no instance of it takes requests |
| ``coordination_ms`` | service | how long its answer to a question took |
| ``nats_rtt_ms`` | ``nats`` | a round trip from the monitor to the NATS server |
| ``budget_permille`` | budget/dimension | thousandths of the limit that count now |
| ``foreign_permille`` | budget/dimension | thousandths of the limit that others use of the same key |
| ``circuit_open`` | target | 1 while it is open or being tried |
| ``queue_growth`` | queue | how many more tasks wait than a minute ago |
| ``spawn_ms`` ``completion_ms`` | who says so | how long a start of a worker, or a task, took (`Took`) |
| ``burn_1h`` ``burn_6h`` ``burn_1d`` ``burn_3d`` | objective(/subject) | burn rate in thousandths (`burn`) |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from bursar.contracts.base import Message
from bursar.contracts.monitor import HostSample
from bursar.contracts.monitor_picture import BudgetRow, CircuitRow, DeviceRow, QueueRow
from bursar_monitor import pools
from bursar_monitor.samples import HostView

GROWTH_MS: Final = 60_000
MAX_QUEUES: Final = 256

ALLOCATABLE_PERMILLE: Final = 800
"""Of a host's memory; the rest is its buffer."""

OPEN_STATES: Final = frozenset({"open", "half_open", "forced_open"})

Reading = tuple[str, str, int]


def of_host(view: HostView, sample: HostSample, now: int) -> Iterator[Reading]:
    """What a new sample says."""
    name = view.name
    yield "host_silence_ms", name, 0
    if sample.cpu is not None:
        yield "cpu_permille", name, sample.cpu.used_permille
    if sample.memory is not None and sample.memory.total_bytes:
        used = max(0, sample.memory.total_bytes - sample.memory.available_bytes)
        yield "memory_permille", name, used * 1000 // sample.memory.total_bytes
        yield "allocatable_permille", name, used * 1_000_000 // (sample.memory.total_bytes * ALLOCATABLE_PERMILLE)
    if sample.disk is not None and sample.disk.total_bytes:
        yield "disk_permille", name, sample.disk.used_bytes * 1000 // sample.disk.total_bytes
    for group in sample.groups:
        yield "crashes", f"{name}/{group.group}", group.crashes
        yield "leak_permille", f"{name}/{group.group}", group.leak_permille
    for pool, budget, size in pools.of_host(sample):
        yield "pool_permille", f"{name}/{pool}", size * 1_000 // budget
    for gone in sorted(view.troubled - {group.group for group in sample.groups}):
        yield "crashes", f"{name}/{gone}", 0
        yield "leak_permille", f"{name}/{gone}", 0
    for gpu, answered_at in view.gpus.items():
        yield "gpu_lost", f"{name}/{gpu}", int(answered_at != now)


def of_row(row: Message, queues: dict[str, deque[tuple[int, int]]], now: int) -> Iterator[Reading]:
    """What a row of a service's status says; ``queues`` remembers how long each queue was."""
    match row:
        case BudgetRow() if row.limit:
            yield "budget_permille", f"{row.budget}/{row.dimension}", row.used * 1000 // row.limit
            yield "foreign_permille", f"{row.budget}/{row.dimension}", row.foreign * 1000 // row.limit
        case CircuitRow():
            yield "circuit_open", row.target, int(row.state in OPEN_STATES)
        case DeviceRow():
            yield "gpu_lost", f"{row.host}/{row.device}", int(row.state == "lost")
        case QueueRow():
            growth = _growth(queues, row, now)
            if growth is not None:
                yield "queue_growth", row.queue, growth
        case _:
            pass


def _growth(queues: dict[str, deque[tuple[int, int]]], row: QueueRow, now: int) -> int | None:
    past = queues.get(row.queue)
    if past is None:
        if len(queues) >= MAX_QUEUES:
            return None
        past = queues[row.queue] = deque(maxlen=128)
    while len(past) > 1 and past[1][0] <= now - GROWTH_MS:
        past.popleft()
    past.append((now, row.waiting))
    return max(0, row.waiting - past[0][1])
