"""Requests that wait for their answers, by the last token of their reply subject.

Both buses keep one such table below their inbox. Each request ends once: with its answer, with `NoResponders` (the
server's 503), with `RequestTimeout`, or with `ConnectionLost`; then it is forgotten, and an answer that comes later is
nobody's.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from bursar.bus.base import BusError, ConnectionLost, Msg, NoResponders, RequestTimeout, Then


class _Waiting(NamedTuple):
    then: Then
    timer: asyncio.TimerHandle


class Answers:
    """The table of one bus. ``prefix``: of the reply subjects, up to and with the last dot."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._waiting: dict[str, _Waiting] = {}

    def new_inbox(self) -> str:
        """A fresh subject below the inbox; not one of this table's."""
        self._number += 1
        return f"{self._prefix}i.{self._number}"

    def expect(self, timeout: float, then: Then) -> str:
        """The reply subject for a new request; ``then`` is called once, with its answer or its error."""
        self._number += 1
        token = str(self._number)
        self._waiting[token] = _Waiting(then, self._loop.call_later(timeout, self._expire, token))
        return self._prefix + token

    def expect_future(self, timeout: float) -> tuple[str, asyncio.Future[Msg]]:
        """As `expect`, with a future; whoever stops waiting for it must `forget` the subject."""
        future: asyncio.Future[Msg] = self._loop.create_future()

        def then(result: Msg | BusError) -> None:
            if future.done():
                return
            if isinstance(result, BusError):
                future.set_exception(result)
            else:
                future.set_result(result)

        return self.expect(timeout, then), future

    def forget(self, reply: str) -> None:
        """Nobody waits for the answer any more (or it has come)."""
        self._end(reply[len(self._prefix) :], None)

    def arrived(self, msg: Msg) -> bool:
        """An answer from the network; False when nobody waits for it."""
        result: Msg | BusError = msg
        if msg.headers is not None and msg.headers.get("Status") == "503" and not msg.data:
            result = NoResponders("nobody listens on that subject right now")
        return self._end(msg.subject[len(self._prefix) :], result)

    def fail(self, why: str) -> None:
        """The connection broke: whatever is answered now is lost."""
        for token in list(self._waiting):
            self._end(token, ConnectionLost(why))

    def _expire(self, token: str) -> None:
        self._end(token, RequestTimeout("no answer in time"))

    def _end(self, token: str, result: Msg | BusError | None) -> bool:
        waiting = self._waiting.pop(token, None)
        if waiting is None:
            return False
        waiting.timer.cancel()
        if result is not None:
            waiting.then(result)
        return True
