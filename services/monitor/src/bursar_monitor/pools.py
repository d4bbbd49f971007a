"""The pools that a host's memory is divided into (`bursar.contracts.monitor_quota`), and what the fleet uses of each.

A pool bounds what is leased (`quotas`: agents lease from ``context``), what the NATS server may hold, in memory and as
streams in memory (`bursar up` passes both on), and what is alerted of: rule ``pool-full``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bursar.contracts.monitor import FLEET, HostSample
from bursar.contracts.monitor_quota import POOLS, Pool, pool_bytes

LEASED: Final = "leased"
"""The group of processes that only a lease makes part of the fleet."""


def pool_of(group: str) -> Pool:
    """Which pool the memory of a group comes from."""
    if group.startswith("agent.") or group == LEASED:
        return "context"
    if group in FLEET:
        return "shared"
    return "communication" if group == "nats" else "overhead"


def used(sample: HostSample) -> dict[Pool, int]:
    """Bytes of each pool that the fleet's processes hold."""
    found: dict[Pool, int] = dict.fromkeys(POOLS, 0)
    for group in sample.groups:
        found[pool_of(group.group)] += group.rss_bytes
    return found


def of_host(sample: HostSample) -> Iterator[tuple[Pool, int, int]]:
    """(pool, budget, used) in bytes; nothing when the memory of the host is not known."""
    if sample.memory is None or not sample.memory.total_bytes:
        return
    for pool, size in used(sample).items():
        yield pool, max(1, pool_bytes(pool, sample.memory.total_bytes)), size
