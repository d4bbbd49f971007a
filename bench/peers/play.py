"""Run one peer: ``python -m bench.peers.play PEER PORT speed SECONDS`` or ``... judged SECONDS LIMIT WINDOW SEED``.

Prints one line of JSON. ``speed``: acquires per second of one process, one after the other, and their p50 and p99 (µs).
``judged``: what it admits under a load that comes and goes, as ``[[at_us, amount], ...]`` for the oracle.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from bench.figures import quantile
from bench.limiter_shape import attempts
from bench.peers.adapters import PEERS

PLENTY = 10**12
"""A limit that is never reached: speed is that of an acquire that is granted."""


async def speed(peer: str, port: int, seconds: float) -> dict[str, float]:
    limiter = PEERS[peer](port, PLENTY if peer != "pyrate_limiter" else 10**9, 1)
    await limiter.open()
    await limiter.take(1)
    spent: list[int] = []
    began = time.perf_counter_ns()
    until = began + int(seconds * 1e9)
    now = began
    take_now = getattr(limiter, "take_now", None)
    while now < until:
        granted = take_now(100) if take_now else await limiter.take(100)
        after = time.perf_counter_ns()
        if not granted:
            raise RuntimeError(f"{peer} refused what is within its limit")
        spent.append(after - now)
        now = after
    return {
        "per_s": len(spent) / ((now - began) / 1e9),
        "p50_us": quantile(spent, 0.5) / 1000,
        "p99_us": quantile(spent, 0.99) / 1000,
    }


async def judged(peer: str, port: int, seconds: float, limit: int, window: int, seed: int) -> list[tuple[int, int]]:
    limiter = PEERS[peer](port, limit, window)
    await limiter.open()
    return [row async for row in attempts(limiter.take, seconds, limit, window, seed)]


async def main(arguments: list[str]) -> None:
    peer, port, what = arguments[0], int(arguments[1]), arguments[2]
    if what == "speed":
        print(json.dumps(await speed(peer, port, float(arguments[3]))))
    else:
        seconds, limit, window, seed = float(arguments[3]), *map(int, arguments[4:7])
        print(json.dumps({"admitted": await judged(peer, port, seconds, limit, window, seed)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
