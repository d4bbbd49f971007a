"""Talking to running servers as the system account: asking all of them, and telling them of accounts that changed.

A server with a full resolver keeps the accounts' JWTs in a directory of its own and takes newer ones while it runs,
from whoever has the credentials of the system account; the servers of a cluster tell each other. So a credential that
is revoked is cut off at once, on all of them, without a restart and without touching any other connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import datetime
from typing import Any, Final

from bursar.bus.base import BusError, Msg
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, jwt
from bursar.bus.server.binary import ServerError

Page = dict[str, Any]
ANSWER_SECONDS: Final = 1.5
CONNECT_SECONDS: Final = 2.0
MOST_SEEN: Final = 1_024
"""Connections that one question tells of."""


async def gather(bus: NatsBus, subject: str, body: Page, wanted: int = 0) -> list[Page]:
    """One answer of each server; ``wanted`` 0: as many as the first one knows of."""
    found: dict[str, Page] = {}
    enough, left = asyncio.Event(), wanted

    def on_answer(message: Msg) -> None:
        nonlocal left
        with contextlib.suppress(ValueError, KeyError, TypeError):
            page = json.loads(message.data)
            found[page["server"]["id"]] = page
            left = left or int(page["statsz"].get("active_servers", 1))
        if left and len(found) >= left:
            enough.set()

    inbox = bus.new_inbox()
    subscription = await bus.subscribe(inbox, on_answer)
    bus.publish(subject, json.dumps(body).encode(), reply=inbox)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(enough.wait(), ANSWER_SECONDS)
    await subscription.unsubscribe()
    return list(found.values())


async def tell_accounts(urls: list[str], home: Home) -> None:
    """Have the running servers take the accounts as the home has them now. Raises `BusError` when none can be reached,
    and `ServerError` when they do not take them."""
    bus = await connect(urls, home.creds("sys"), principal="sys", timeout=CONNECT_SECONDS)
    try:
        trust = home.trust()
        for key, token in trust.accounts.items():
            if key != trust.system_account:
                await _tell(bus, token)
    finally:
        await bus.close()


async def reload_servers(urls: list[str], home: Home) -> list[str]:
    """Have all running servers read their configuration and certificates again; returns their names. Connections stay
    as they are; new ones get the new certificates. Raises `BusError` and `ServerError`."""
    bus = await connect(urls, home.creds("sys"), principal="sys", timeout=CONNECT_SECONDS)
    try:
        pages = await gather(bus, "$SYS.REQ.SERVER.PING", {})
        servers = {str(page["server"]["id"]): str(page["server"]["name"]) for page in pages}
        for key, name in servers.items():
            answer = json.loads((await bus.request(f"$SYS.REQ.SERVER.{key}.RELOAD", b"", 10.0)).data)
            if error := answer.get("error"):
                raise ServerError(f"the server {name} does not take its files: {error.get('description', error)}")
        return sorted(servers.values())
    finally:
        await bus.close()


async def _tell(bus: NatsBus, token: str) -> None:
    name = jwt.decode(token)["name"]
    try:
        answer = json.loads((await bus.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), 5.0)).data)
    except BusError as error:
        raise ServerError(
            f"the server takes no accounts while it runs ({error.code}), since it has no full resolver: give it the "
            "output of `bursar trust`, and have it read its configuration again"
        ) from None
    if "error" in answer or (answer.get("data") or {}).get("code") != 200:
        raise ServerError(f"the server does not take the account {name}: {answer.get('error') or answer.get('data')}")


async def last_seen(urls: list[str], home: Home) -> dict[str, float]:
    """When principals were connected last (Unix seconds; now, for those that are), as far as the running servers know:
    they remember some thousands of connections that have ended, until they are restarted."""
    bus = await connect(urls, home.creds("sys"), principal="sys", timeout=CONNECT_SECONDS)
    found: dict[str, float] = {}
    try:
        count = len(await gather(bus, "$SYS.REQ.SERVER.PING", {}))
        for state in (0, 1):  # those that are open, those that have ended
            for page in await _connections(bus, count, state):
                for one in (page.get("data") or {}).get("connections") or ():
                    at = _unix(one["stop"]) if one.get("stop") else time.time()
                    name = _principal(one)
                    found[name] = max(found.get(name, 0.0), at)
    finally:
        await bus.close()
    return found


def _principal(connection: Page) -> str:
    """The name that its credentials were made for, whatever it calls itself."""
    try:
        return str(jwt.decode(str(connection.get("jwt", "")))["name"])
    except jwt.BadToken:
        return ""


async def _connections(bus: NatsBus, count: int, state: int) -> list[Page]:
    """All pages of the servers' connections of one state, the latest first."""
    body = {"auth": True, "limit": MOST_SEEN, "state": state} | ({"sort": "stop"} if state else {})
    return await gather(bus, "$SYS.REQ.SERVER.PING.CONNZ", body, count)


def _unix(told: str) -> float:
    whole, _, fraction = told.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(fraction + '000000')[:6]}+00:00").timestamp()
