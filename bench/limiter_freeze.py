"""From one agent's 429 to the last of a thousand that knows it, beside a bare broadcast to the same connections.

A freeze is a request that is journaled, and a signed broadcast, which each process verifies. The clock starts when the
429 is reported and stops when the last agent would void its permits. The bare broadcast is one message, published and
received with nothing between. Both in turn, through the same connections.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.crowd import PLAIN, Crowd, Told, plain
from bench.figures import quantile, say
from bench.limiter_budgets import FREEZES, frozen
from bench.stack import Stack
from bursar.bus.codec import encode
from bursar.bus.connection import NatsBus
from bursar.client.fleet import Fleet
from bursar.client.observe import Freezes

PROCESSES = 4
FOR_MS = 1_500
"""How long each freeze lasts: it is over before it would be told again."""

PAUSE_S = 0.03
"""Between two broadcasts, so that none waits for the one before."""


async def ear(buses: list[NatsBus], told: Told, trust: str) -> list[Fleet]:
    """An agent on each connection; says ``budget`` when it holds a freeze, and hears bare messages, too."""
    apply = Freezes.apply

    def applied(freezes: Freezes, body: Mapping[str, Any]) -> bool:
        is_new = apply(freezes, body)
        if is_new:
            told(str(body["budget"]))
        return is_new

    Freezes.apply = applied  # type: ignore[method-assign, assignment]
    fleets = [Fleet(None, bus=bus, trust=Path(trust)) for bus in buses]
    for fleet in fleets:
        await fleet.__aenter__()
    await plain(buses, told, "")
    return fleets


async def freezes(stack: Stack, connections: int, count: int) -> dict[str, Any]:
    """``count`` freezes and as many bare broadcasts, in turn; each of another budget."""
    assert count <= FREEZES, "there are not so many budgets"
    froze: list[float] = []
    bare: list[float] = []
    url = stack.server.url
    async with Crowd(url, connections, PROCESSES, "bench.limiter_freeze:ear", str(stack.trust)) as crowd:
        for number in range(count):
            froze.append(await _freeze(stack, crowd, number))
            await asyncio.sleep(PAUSE_S)
            bare.append(await _bare(stack.bus, crowd, number))
            await asyncio.sleep(PAUSE_S)
    figures = {
        "freeze_connections": connections,
        "freeze_processes": PROCESSES,
        "freeze_count": count,
        "freeze_p50_ms": quantile(froze, 0.5),
        "freeze_p99_ms": quantile(froze, 0.99),
        "broadcast_p50_ms": quantile(bare, 0.5),
        "broadcast_p99_ms": quantile(bare, 0.99),
        "freeze_over_broadcast_p50": quantile(froze, 0.5) / quantile(bare, 0.5),
        "freeze_over_broadcast_p99": quantile(froze, 0.99) / quantile(bare, 0.99),
    }
    say(f"freeze p99 {figures['freeze_p99_ms']:.1f} ms, bare broadcast {figures['broadcast_p99_ms']:.1f} ms")
    return figures


async def _freeze(stack: Stack, crowd: Crowd, number: int) -> float:
    budget = frozen(number)
    body = {"v": 1, "id": f"freeze{os.getpid()}-{number + 1}", "budget": budget, "retry_after_ms": FOR_MS}
    began = time.monotonic_ns()
    asked = asyncio.create_task(stack.bus.request("bursar.req.limiter.rate-limited.provisioner", encode(body), 5.0))
    answer = await asked
    if answer.headers:
        raise RuntimeError(f"the 429 was refused: {answer.data!r}")
    return (await crowd.heard(budget) - began) / 1e6


async def _bare(bus: NatsBus, crowd: Crowd, number: int) -> float:
    key = f"plain-{number}"
    began = time.monotonic_ns()
    bus.publish(PLAIN, key.encode() + b" " + b"x" * 250)
    return (await crowd.heard(key) - began) / 1e6
