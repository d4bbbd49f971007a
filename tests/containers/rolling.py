"""An update of everything: all services at once, one instance of each after the other, while callers are at work."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tests.containers.load import Load, granted, load
from tests.containers.site import SERVICES, Box, Site


class Rolled(NamedTuple):
    """``before``: how much the limiter had granted. ``seen``: what the callers of each service were told."""

    before: int
    seen: dict[str, Load]


async def roll_all(site: Site) -> Rolled:
    before = await granted(site)
    seen = await asyncio.gather(*(_roll(site, service) for service in SERVICES))
    return Rolled(before, dict(zip(SERVICES, seen, strict=True)))


async def _roll(site: Site, service: str) -> Load:
    """Standby first or owner first, each instance goes once and comes back."""
    async with load(site, service) as seen:
        for box in site.of_service(service):
            await _restart(box)
            await seen.grow(10)
    return seen


async def _restart(box: Box) -> None:
    """SIGTERM, a clean end, a start, and ready again."""
    assert await asyncio.to_thread(box.stop) == 0
    await asyncio.to_thread(box.start)
    await asyncio.to_thread(box.becomes_ready)
