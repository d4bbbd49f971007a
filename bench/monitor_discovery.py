"""How long discovery takes: what is known here, and what has to be asked for, on real services over a real server.

A *hit* is answered by the process's own cache. A *miss* is the first question of a process that knows nothing: answered
by the monitor's picture where it has the service, by the services themselves otherwise (both kinds are asked for by
turns). Times are what a caller waits.
"""

from __future__ import annotations

import time

from bench.figures import quantile
from bench.monitor_rig import Rig
from bursar.client.discovery import Discovery

HITS_EACH = 200


async def run(rig: Rig, misses: int) -> dict[str, float | int]:
    missed: list[float] = []
    hits: list[float] = []
    tiers: dict[str, int] = {}
    for number in range(misses):
        async with Discovery(rig.bus) as discovery:
            ask = discovery.instances if number % 2 else discovery.endpoints
            began = time.perf_counter()
            found = await ask("breaker")
            missed.append(time.perf_counter() - began)
            if not found:
                raise RuntimeError("the breaker was not found")
            for _ in range(HITS_EACH):
                began = time.perf_counter()
                await ask("breaker")
                hits.append(time.perf_counter() - began)
            for tier, count in discovery.answered.items():
                tiers[tier] = tiers.get(tier, 0) + count
    return {
        "discovery_hits": len(hits),
        "discovery_misses": len(missed),
        **{f"discovery_from_{tier}": count for tier, count in sorted(tiers.items())},
        "discovery_hit_p50_ms": round(quantile(hits, 0.5) * 1_000, 4),
        "discovery_hit_p95_ms": round(quantile(hits, 0.95) * 1_000, 4),
        "discovery_miss_p50_ms": round(quantile(missed, 0.5) * 1_000, 2),
        "discovery_miss_p95_ms": round(quantile(missed, 0.95) * 1_000, 2),
    }
