"""What the running servers say of themselves, asked as the system account: no file can claim what they do not do.

Every server of a cluster answers ``$SYS.REQ.SERVER.PING``. It needs the credentials ``sys`` of the home, and no
monitoring port, so that it works for servers on other machines as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from bursar.bus.base import BusError
from bursar.bus.connection import NatsBus, connect
from bursar.bus.server.system import gather

Page = dict[str, Any]
CONNECT_SECONDS: Final = 2.0
_STREAMS: Final = {"accounts": True, "streams": True, "config": True}


class Facts(NamedTuple):
    """``varz``, ``jsz``, ``health``: a page of each server, by its name. ``offset_ms``: how far its clock is ahead of
    this machine's. ``accounts``: the JWTs in force, by the account's key, as far as the servers have loaded them.
    ``clusters``: for each address the ids of the servers that one finds there (None: nobody answers)."""

    varz: dict[str, Page]
    jsz: dict[str, Page]
    health: dict[str, Page]
    offset_ms: dict[str, int]
    accounts: dict[str, str]
    clusters: dict[str, frozenset[str] | None]


async def ask_servers(
    urls: list[str], creds: Path, accounts: list[str], clock: Callable[[], float] = time.time
) -> Facts | str:
    """The facts, or why there are none, in words. ``clock``: this machine's (Unix seconds)."""
    found = await asyncio.gather(*(_servers_at(url, creds) for url in urls))
    clusters = dict(zip(urls, found, strict=True))
    reached = [url for url, servers in clusters.items() if servers]
    if not reached:
        return await _why_not(urls, creds)
    bus = await connect(reached, creds, principal="sys", timeout=CONNECT_SECONDS)
    try:
        began = clock()
        pings = await gather(bus, "$SYS.REQ.SERVER.PING", {})
        ended = clock()
        count = len(pings)
        varz, jsz, health = [
            _by_name(await gather(bus, f"$SYS.REQ.SERVER.PING.{verb}", body, count))
            for verb, body in (("VARZ", {}), ("JSZ", _STREAMS), ("HEALTHZ", {}))
        ]
        offsets = {page["server"]["name"]: _offset_ms(page["server"]["time"], began, ended) for page in pings}
        jwts = {key: await _jwt(bus, key, count) for key in accounts}
    finally:
        await bus.close()
    return Facts(varz, jsz, health, offsets, {key: jwt for key, jwt in jwts.items() if jwt}, clusters)


async def _servers_at(url: str, creds: Path) -> frozenset[str] | None:
    """Ids of all servers that can be asked through one address."""
    try:
        bus = await connect(url, creds, principal="sys", timeout=CONNECT_SECONDS)
    except BusError:
        return None
    try:
        return frozenset(page["server"]["id"] for page in await gather(bus, "$SYS.REQ.SERVER.PING", {}))
    finally:
        await bus.close()


async def _why_not(urls: list[str], creds: Path) -> str:
    try:
        bus = await connect(urls, creds, principal="sys", timeout=CONNECT_SECONDS)
    except BusError as error:
        return error.text
    await bus.close()
    return "the server takes these credentials for nobody's: it answers no question about itself"


async def _jwt(bus: NatsBus, account: str, count: int) -> str:
    """The account's JWT in force; empty when no server has loaded it."""
    for page in await gather(bus, "$SYS.REQ.SERVER.PING.ACCOUNTZ", {"account": account}, count):
        detail = (page.get("data") or {}).get("account_detail") or {}
        if detail.get("jwt"):
            return str(detail["jwt"])
    return ""


def _by_name(pages: list[Page]) -> dict[str, Page]:
    return {page["server"]["name"]: page.get("data") or {"error": page.get("error")} for page in pages}


def _offset_ms(told: str, began: float, ended: float) -> int:
    """How far a server's time is outside of the moments between which it was asked."""
    at = datetime.fromisoformat(told).timestamp()
    return round(1000 * (at - ended if at > ended else min(0.0, at - began)))
