"""Rows of the picture about what hosts hand out: leases, pools of memory, the fleet's processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bursar_monitor import pools
from bursar_monitor.state import State


def lease_rows(state: State, now: int) -> Iterator[dict[str, Any]]:
    for name, lease in state.quotas.leases.items():
        use = state.quotas.use_of(name, now)
        entry = state.quotas.uses.get(name)
        yield {
            "v": 1,
            "lease": name,
            "agent": lease.agent,
            "host": lease.host,
            "cpu_milli": lease.cpu,
            "limit_cpu_milli": lease.cpu_held.limit,
            "used_cpu_milli": None if use is None else use.cpu_milli,
            "memory_bytes": lease.memory,
            "limit_memory_bytes": lease.memory_held.limit,
            "used_memory_bytes": None if use is None else use.memory_bytes,
            "disk_bytes": lease.disk,
            "used_disk_bytes": None if use is None else use.disk_bytes,
            "weight": state.quotas.rule_of(lease.agent).weight,
            "processes": None if use is None else use.processes,
            "held_by": "nothing" if use is None else use.held_by,
            "left_ms": max(0, lease.until - now),
            "age_ms": None if entry is None else max(0, now - entry.at),
        }


def pool_rows(state: State, now: int) -> Iterator[dict[str, Any]]:
    for view in state.hosts.values():
        for pool, budget, used in pools.of_host(view.sample) if view.sample is not None else ():
            yield {
                "v": 1,
                "host": view.name,
                "pool": pool,
                "budget_bytes": budget,
                "used_bytes": used,
                "used_permille": used * 1_000 // budget,
                "age_ms": max(0, now - view.heard_at),
            }


def group_rows(state: State, now: int) -> Iterator[dict[str, Any]]:
    """The groups of processes of all hosts, those that crash or leak first."""
    rows = [
        {**group.__dict__, "host": view.name, "age_ms": max(0, now - view.heard_at)}
        for view in state.hosts.values()
        for group in (view.sample.groups if view.sample is not None else ())
    ]
    rows.sort(key=lambda row: (-row["crashes"], -row["leak_permille"], -row["rss_bytes"], row["host"], row["group"]))
    yield from rows
