"""A load that comes and goes, for every limiter alike: bursts of demand with silences between them, in which each
request asks again until it is granted. Sizes reach up to the whole limit.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

RETRY = 0.002
"""Seconds after which a refused request asks again."""


def size(rng: random.Random, limit: int) -> int:
    """Mostly up to a twentieth of the limit, one in forty up to the whole."""
    return rng.randint(1, limit) if rng.random() < 0.025 else rng.randint(1, max(1, limit // 20))


async def attempts(
    take: Callable[[int], Awaitable[bool]], seconds: float, limit: int, window: float, seed: int
) -> AsyncIterator[tuple[int, int]]:
    """What is admitted: when (µs of the monotonic clock) and how much. ``window`` in seconds."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        until = min(end, now + window * rng.uniform(0.1, 0.6))
        while time.monotonic() < until:
            amount = size(rng, limit)
            while time.monotonic() < until:
                if await take(amount):
                    yield time.monotonic_ns() // 1000, amount
                    break
                await asyncio.sleep(RETRY)
        await asyncio.sleep(min(window * rng.uniform(0.1, 0.9), max(0.0, end - time.monotonic())))
