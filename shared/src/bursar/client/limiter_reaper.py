"""Requests that nobody waits for any more: the place in line is given up, and a grant goes back.

That includes requests that were refused, when copies of them are unanswered: a refusal is not remembered, so a copy
that arrives after it may stand in line, or be granted. Mostly the answers come a little later. When they do not, the
request is withdrawn and asked once more, which comes after all of its copies: the answer says what was granted to any.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bursar.client.caller import Call
from bursar.client.permit import Ask
from bursar.client.session import Session
from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter import DIMENSIONS
from bursar.errors import BursarError

if TYPE_CHECKING:
    from bursar.client.limiter import Limiter

REAP: Final = 30_000.0
"""Milliseconds in which the fate of an abandoned request is still looked for."""

LATE: Final = 0.5
"""Seconds in which answers to the copies of a refused request may come of themselves."""


class Reaper:
    """Looks after the abandoned requests of one limiter, in the background."""

    def __init__(self, limiter: Limiter, session: Session) -> None:
        self._limiter = limiter
        self._session = session

    def abandon(self, call: Call, ask: Ask) -> None:
        """Nobody waits for the answer of this reserve any more."""
        if call.was_sent:
            self._limiter.background.spawn(self._reap(call, ask))
        else:
            self._limiter.caller.give_up(call)

    def doubt(self, call: Call, ask: Ask) -> None:
        """It was refused, but a copy of it may have been granted."""
        if call.is_doubtful:
            self._limiter.background.spawn(self._look_after(call, ask))

    async def _look_after(self, call: Call, ask: Ask) -> None:
        try:
            await asyncio.sleep(LATE)
            if call.is_doubtful:
                await self._reap(call.again(), ask)
        finally:
            self._limiter.caller.give_up(call)

    async def _reap(self, call: Call, ask: Ask) -> None:
        caller = self._limiter.caller
        until = self._limiter.clock.now() + ask.wait * 1000.0 + REAP
        try:
            if ask.wait > 0 and await self._withdraw(call, ask) != "unknown":
                return
            reply = await caller.run(call, until)
            while call.is_doubtful:
                call = call.again()
                reply = await caller.run(call, until)
        except BursarError:
            return
        finally:
            caller.give_up(call)
        if reply.body.get("ok") is True:
            await self._limiter.permit_of(ask, reply).cancel()

    def stray(self, body: dict[str, Any]) -> None:
        """A copy of a request was granted, after its caller had been told that it was refused: all goes back."""
        if "send_by_at_ms" in body:
            fields = {"reservation": body["reservation"], "outcome": "cancelled", "usage": None}
            self._limiter.background.spawn(self._give_back("settle", fields))
        elif "renew_in_ms" in body and "over" not in body:
            none = (0,) * len(DIMENSIONS)
            account = {"hand": none, "unused": body["add"], "done": none, "open": none}
            fields = {"lease": body["lease"], "period": MAX_INT, **account}
            self._limiter.background.spawn(self._give_back("return", fields))

    async def _give_back(self, verb: str, fields: dict[str, Any]) -> None:
        caller = self._limiter.caller
        call = caller.request(verb, fields)
        try:
            await caller.run(call, self._limiter.clock.now() + REAP)
        except BursarError:
            return
        finally:
            caller.give_up(call)

    async def _withdraw(self, reserve: Call, ask: Ask) -> str:
        """What the limiter says has become of a request; "unknown" when its own answer has to tell."""
        caller = self._limiter.caller
        fields = {"budget": ask.budget, "request": self._session.id_of(reserve.number)}
        call = caller.request("withdraw", fields)
        try:
            reply = await caller.run(call, self._limiter.clock.now() + self._limiter.patience * 1000.0)
        finally:
            caller.give_up(call)
        return str(reply.body.get("outcome"))
