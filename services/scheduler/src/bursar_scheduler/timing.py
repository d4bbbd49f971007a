"""When a task has to be looked at if nothing happens before: its deadline, its start, its lease, its time."""

from __future__ import annotations

from bursar.kernel.bugs import seeded
from bursar_scheduler import bugs
from bursar_scheduler.lifecycle import ASSIGNED, AT_WORK, READY
from bursar_scheduler.task import Config, Task


def next_moment(task: Task, config: Config) -> int:
    """When something has to be looked at if nothing happens before; 0: never."""
    moments = [task.deadline_at] if task.deadline_at else []
    if task.state == READY:
        if task.not_before and not task.listed:
            moments.append(task.not_before)
    elif task.state == ASSIGNED:
        moments.append(start_by(task, config))
    elif task.state in AT_WORK:
        if task.yield_by:
            moments.append(task.yield_by)
        moments.append(lease_until(task))
        if task.timeout_ms:
            moments.append(task.since + task.timeout_ms)
        if task.gang is not None and len(task.gang.begun) < len(task.gang.members):
            moments.append(task.since + config.start_within_ms)
    return min(moments, default=0)


def start_by(task: Task, config: Config) -> int:
    """Signs of life put it off, while the start is on its way; for three leases at most."""
    first = task.since + config.start_within_ms
    return max(first, min(task.heard_until, first + 3 * task.lease_ms))


def lease_until(task: Task) -> int:
    if seeded(bugs.LEASE_EXPIRY_KEEPS_ATTEMPT):
        return 1 << 53
    return max(task.since + task.lease_ms, task.heard_until)
