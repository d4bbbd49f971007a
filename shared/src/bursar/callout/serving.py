"""The callout itself: it answers the servers' questions about connections, and tells the log of each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from bursar.bus.base import BusError, Msg
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import BadToken, jwt
from bursar.callout.keys import CREDS, CalloutKeys
from bursar.callout.verifying import Verifier

log = logging.getLogger("bursar.callout")

SUBJECT: Final = "$SYS.REQ.USER.AUTH"
AT_A_TIME: Final = 8
"""Questions that are looked into at once: keys may have to be asked for."""


async def serve(urls: list[str], directory: Path, verifier: Verifier, stop: asyncio.Event) -> int:
    """Answer until ``stop`` is set (status 0) or the connection has ended for ever (status 1). Several of these share
    the work."""
    ended: list[int] = []

    def end() -> None:
        ended.append(1)
        stop.set()

    keys = CalloutKeys.load(directory)
    bus = await connect(urls, directory / CREDS, principal="callout", on_closed=end)
    room, working = asyncio.Semaphore(AT_A_TIME), set[asyncio.Task[None]]()

    async def answer(message: Msg) -> None:
        async with room:
            await _answer(bus, keys, verifier, message)

    def on_question(message: Msg) -> None:
        task = asyncio.get_running_loop().create_task(answer(message))
        working.add(task)
        task.add_done_callback(working.discard)

    try:
        await bus.subscribe(SUBJECT, on_question, "callout")
        log.info("callout_started")
        await stop.wait()
    finally:
        await bus.close()
    return 1 if ended else 0


async def _answer(bus: NatsBus, keys: CalloutKeys, verifier: Verifier, message: Msg) -> None:
    try:
        asked = jwt.decode(message.data.decode("ascii", "replace"))
        token = str((asked["nats"].get("connect_opts") or {}).get("auth_token", ""))
        found = await asyncio.to_thread(verifier.who, token)
        answer = keys.answer(message.data, found)
    except (BadToken, KeyError, TypeError):
        log.warning("callout_question_cannot_be_read")
        return
    if isinstance(found, str):
        log.warning("callout_refused", extra={"why": found})
    else:
        log.info("callout_let_in", extra={"principal": found.principal, "role": found.role})
    with contextlib.suppress(BusError):  # the server lets nobody in that it has no answer for
        bus.publish(message.reply, answer)
