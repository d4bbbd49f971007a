"""What only somebody who looks wants to know: leases on cards, holders of a budget, classes of tasks.

Such questions are asked of the services when an open page shows the panel, and not otherwise. However many pages look,
each question is asked once in `FRESH_MS`; a service that does not answer leaves its last answer, which grows old in
sight. Called by the threads of the pages; the question itself is asked on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import Any, Final, NamedTuple

from bursar.bus.base import Bus
from bursar.bus.codec import REPLY_LIMITS, decode_error, decode_value, encode
from bursar.contracts import breaker, gpu, limiter, scheduler
from bursar.contracts.base import request_subject
from bursar.errors import BursarError
from bursar.kernel.clock import Clock

FRESH_MS: Final = 1_500
ASK_SECONDS: Final = 1.0
KEPT: Final = 64
"""Questions whose last answer is remembered."""

UNTOLD: Final[Mapping[str, Any]] = {"age_ms": None, "reply": None}
"""What is told where there has been no answer."""


class Question(NamedTuple):
    """Which verb of which service; ``about``: the field that the page may fill in."""

    service: str
    verb: str
    about: str = ""


QUESTIONS: Final[Mapping[str, Question]] = {
    "gpus": Question(gpu.SERVICE, "status"),
    "fragmentation": Question(gpu.SERVICE, "fragmentation"),
    "scheduler": Question(scheduler.SERVICE, "status"),
    "circuits": Question(breaker.SERVICE, "status"),
    "limits": Question(limiter.SERVICE, "status"),
    "holders": Question(limiter.SERVICE, "holders", "budget"),
}
"""What a page may ask, by the name that it asks for. Queries alone: the page changes nothing."""


class _Known:
    """The last answer to one question."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reply: dict[str, Any] | None = None
        self.at = 0
        self.tried_at: int | None = None


class Asker:
    """Asks in the name of ``bus``, on its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bus: Bus, clock: Clock) -> None:
        self._loop = loop
        self._bus = bus
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def ask(self, name: str, about: str = "") -> dict[str, Any]:
        """The answer and its age in ms: ``{"age_ms": ..., "reply": {...}}``; both None when there has been none.
        Raises KeyError when there is no such question."""
        question = QUESTIONS[name]
        known = self._slot(name, about if question.about else "")
        with known.lock:  # whoever comes meanwhile waits for the same answer
            now = self._clock.monotonic_ms()
            if known.tried_at is None or now - known.tried_at >= FRESH_MS:
                reply = self._answer(question, about)
                now = known.tried_at = self._clock.monotonic_ms()
                if reply is not None:
                    known.reply, known.at = reply, now
            return {"age_ms": None if known.reply is None else now - known.at, "reply": known.reply}

    def _slot(self, name: str, about: str) -> _Known:
        with self._lock:
            known = self._known.setdefault((name, about), _Known())
            self._known.move_to_end((name, about))
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return known

    def _answer(self, question: Question, about: str) -> dict[str, Any] | None:
        body = {"v": 1, **({question.about: about} if question.about else {})}
        asked = asyncio.run_coroutine_threadsafe(self._request(question, body), self._loop)
        try:
            return asked.result(ASK_SECONDS + 0.5)
        except (TimeoutError, CancelledError, BursarError, ValueError):
            asked.cancel()
            return None

    async def _request(self, question: Question, body: dict[str, Any]) -> dict[str, Any] | None:
        subject = request_subject(question.service, question.verb, self._bus.principal)
        msg = await self._bus.request(subject, encode(body), ASK_SECONDS)
        if decode_error(msg.headers, msg.data) is not None:
            return None
        with contextlib.suppress(BursarError):
            return decode_value(msg.data, REPLY_LIMITS)[0]
        return None
