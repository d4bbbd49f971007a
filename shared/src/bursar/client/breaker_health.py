"""Active health probes: a target that is half-open is tried although nobody has a call for it.

They are calls like any other, so they go by the same few permits of the whole fleet, and nothing is asked of a target
that is closed or whose open time is not over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from bursar.client.breaker_call import CircuitCall

if TYPE_CHECKING:
    from bursar.client.breaker import Breaker

Check = Callable[[CircuitCall], Awaitable[object]]


async def watch(breaker: Breaker, target: str, check: Check, every: float) -> None:
    """Look each so many seconds; have a half-open target tried by ``check``, whose end is reported as that of any
    call. Ends when it is cancelled."""
    while True:
        if breaker.peek(target).may_probe:
            with contextlib.suppress(Exception):  # what it raises was reported
                async with breaker.call(target) as call:
                    await check(call)
        await asyncio.sleep(every * breaker.random.uniform(0.8, 1.2))
