"""Asking a service's instances how they are, by their ``$SRV.STATS`` pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from bursar.bus.base import BusError, Msg
from bursar.bus.connection import NatsBus

Page = dict[str, Any]
"""One instance's statistics, as ADR-32 has them."""

ASK_SECONDS = 0.5


async def pages(bus: NatsBus, service: str, enough: Callable[[dict[str, Page]], bool]) -> dict[str, Page]:
    """The pages of the instances that answer, by instance: as soon as they are enough, or what there is after half a
    second."""
    found: dict[str, Page] = {}
    is_enough = asyncio.Event()

    def on_statistics(message: Msg) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            page = json.loads(message.data)
            found[page["id"]] = page
            if enough(found):
                is_enough.set()

    try:
        inbox = bus.new_inbox()
        subscription = await bus.subscribe(inbox, on_statistics)
        bus.publish(f"$SRV.STATS.{service}", b"", reply=inbox)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(is_enough.wait(), ASK_SECONDS)
        await subscription.unsubscribe()
        if found and not is_enough.is_set():
            await asyncio.sleep(0.1)
    except BusError:
        await asyncio.sleep(0.2)
    return found


async def is_ready(bus: NatsBus, service: str, wanted: int) -> bool:
    """Do so many instances answer, and does at least one of them take requests?"""

    def enough(found: dict[str, Page]) -> bool:
        return len(found) >= wanted and any(map(_takes_requests, found.values()))

    return enough(await pages(bus, service, enough))


def _takes_requests(page: Page) -> bool:
    return all(endpoint.get("data", {}).get("listening", True) for endpoint in page["endpoints"])


async def metadata_of(bus: NatsBus, service: str, key: str, wanted: int, within: float) -> list[str]:
    """What the instances of a service say in their metadata under ``key``, in order: as soon as so many do, or what
    there is after so many seconds."""

    def said(found: dict[str, Page]) -> list[str]:
        return sorted(filter(None, (str((page.get("metadata") or {}).get(key, "")) for page in found.values())))

    deadline = time.monotonic() + within
    while True:
        answered = said(await pages(bus, service, lambda found: len(said(found)) >= wanted))
        if len(answered) >= wanted or time.monotonic() >= deadline:
            return answered
