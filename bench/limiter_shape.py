"""A load that comes and goes, for every limiter alike, as fleets that wake up make it: a first call, a silence of most
of a window, then for half a window more demand than there is room for; and again. What is refused asks again until the
burst is over. Sizes reach up to the whole limit.
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
    while time.monotonic() < end:
        if await take(1):
            yield time.monotonic_ns() // 1000, 1
        await asyncio.sleep(window * rng.uniform(0.6, 0.95))
        until = min(end, time.monotonic() + window / 2)
        while time.monotonic() < until:
            amount = size(rng, limit)
            while time.monotonic() < until:
                if await take(amount):
                    yield time.monotonic_ns() // 1000, amount
                    break
                await asyncio.sleep(RETRY)
        await asyncio.sleep(min(window * rng.uniform(0.1, 0.9), max(0.0, end - time.monotonic())))
