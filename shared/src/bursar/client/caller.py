"""One request to one service, until it is answered: through lost messages, restarts, take-overs and stale answers.

Rules:

* A retry carries the same bytes, so also the same request id: however often it arrives, it is decided once.
* All attempts share one reply subject: the first good answer to any of them ends the request, later ones are
  harmless and counted.
* An attempt that is refused for the moment (nobody listens, not connected, the service is starting) is repeated
  quickly: after 50 ms, then twice as long each time, up to 1 s. Silence is met with patience (0.5 s, 1 s, then every
  2 s), because a request may stand in line; it is still repeated, since a take-over forgets the line.
* When an answer shows that another owner has taken over, every open request is repeated at once.
* Each answer states a fence, (incarnation, epoch, number). An answer from before the latest epoch seen is stale: a
  refusal or a figure may come from an owner that was replaced, so it is ignored and asked again. What an earlier
  owner *accepted* was committed before it was said and still holds; a retry gets exactly that remembered answer. Only
  what was accepted in an earlier incarnation (before data was lost) may not hold; it is marked `Reply.is_lost`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import Bus, Msg, NotConnected, Subscription
from bursar.client.errors import BadReply, LimiterUnavailable, from_wire
from bursar.client.offset import EpochKey, Offsets
from bursar.client.session import Session
from bursar.client.time import Clock
from bursar.client.traced import Asked
from bursar.contracts.base import request_subject
from bursar.errors import CallerError
from bursar.telemetry import traces

FIRST_PAUSE: Final = 50.0
MAX_PAUSE: Final = 1_000.0
SILENCE: Final = (500.0, 1_000.0, 2_000.0)
NUDGE: Final = 20.0
"""Milliseconds; see the text above. ``NUDGE``: spread of the repeats after a take-over."""

RETRYABLE: Final = frozenset({"not_ready", "failed_closed", "journal_full", "internal", "too_many", "overloaded"})
"""Error codes that a later attempt may not meet."""

STRAYS: Final = 1_024
"""Requests that were not accepted, of which a copy may still be."""

FenceKey = tuple[int, int, int]
_pack = msgpack.Packer().pack


class Reply(NamedTuple):
    """A good answer. ``sent``: local ms just before the request first left. ``is_lost``: accepted before data loss."""

    body: dict[str, Any]
    fence: FenceKey
    sent: float
    is_lost: bool = False

    @property
    def epoch(self) -> EpochKey:
        return self.fence[:2]


class Call:
    """One request and its attempts."""

    __slots__ = (
        "_answered", "_heard", "_key", "_number", "_payload", "_problem", "_refused", "_send_at", "_sent", "_silent",
        "_subject", "_traced", "_wake",
    )  # fmt: skip

    def __init__(self, key: str, number: int, subject: str, payload: bytes) -> None:
        self._key = key
        self._number = number
        self._subject = subject
        self._payload = payload
        self._sent = -1.0
        self._answered: Reply | Exception | None = None
        self._problem = "no answer"
        self._wake: asyncio.Future[None] | None = None
        self._traced: Asked | None = None
        self._send_at = float("-inf")
        self._silent = 0
        self._heard = 0
        self._refused = 0

    @property
    def number(self) -> int:
        """The number of the request in its session; 0 for queries, and for requests that are over."""
        return self._number

    @property
    def was_sent(self) -> bool:
        """Whether the service may have heard of it."""
        return self._sent >= 0

    @property
    def is_doubtful(self) -> bool:
        """Whether a copy of it that nobody has answered may yet be accepted, or has been."""
        return self._number != 0 and self._heard < self._silent and not _is_accepted(self._answered)

    def again(self) -> Call:
        """The same request, to be answered elsewhere, so that what comes there is no answer to an earlier copy; this
        one has ended."""
        made = Call(self._key + "x", self._number, self._subject, self._payload)
        self._number = 0
        return made

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Caller:
    """Asks one service as one principal. ``lost_data`` is called when answers show a higher incarnation;
    ``subject`` makes the subject of a request from service, verb and principal; ``unavailable`` is what is raised when
    nobody answers in time. ``stray`` is called with what was accepted after the same request had ended otherwise."""

    def __init__(
        self,
        bus: Bus,
        service: str,
        clock: Clock,
        *,
        session: Session | None = None,
        spread: random.Random | None = None,
        lost_data: Callable[[], None] | None = None,
        subject: Callable[[str, str, str], str] = request_subject,
        unavailable: Callable[..., Exception] = LimiterUnavailable,
    ) -> None:
        self._bus = bus
        self._service = service
        self._subject_of = subject
        self._unavailable = unavailable
        self._clock = clock
        self._session = session or Session()
        self._random = spread or random.Random()
        self.lost_data = lost_data
        self.stray: Callable[[dict[str, Any]], None] | None = None
        self._strays: dict[str, Call] = {}
        self.offsets = Offsets()
        self.seen: FenceKey = (0, 0, 0)
        self._seen_text: str | None = None
        self._open: dict[str, Call] = {}
        self._subjects: dict[str, str] = {}
        self._queries = 0
        self._prefix = ""
        self._subscription: Subscription | None = None
        self.late = 0
        self.stale = 0
        self.retries = 0

    @property
    def seen_text(self) -> str | None:
        """The highest fence seen, as the service wrote it."""
        return self._seen_text

    async def start(self) -> None:
        """Listen for answers; call once before the first request."""
        self._prefix = self._bus.new_inbox() + "."
        self._subscription = await self._bus.subscribe(self._prefix + "*", self._on_message)
        await self._bus.flush()

    async def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.unsubscribe()

    def request(self, verb: str, fields: dict[str, Any], seen: str | None = None) -> Call:
        """A request that may change state; every one must be ended by `run` (again and again, if need be) or
        `give_up`. ``seen`` overrides the highest fence seen."""
        number = self._session.begin()
        message = {"v": 1, "id": self._session.id_of(number), "acked": self._session.acked}
        try:
            return self._make(f"r{number}", number, verb, message, fields, seen)
        except BaseException:  # what cannot be written is never sent
            self._session.end(number)
            raise

    def query(self, verb: str, fields: dict[str, Any]) -> Call:
        self._queries += 1
        return self._make(f"q{self._queries}", 0, verb, {"v": 1}, fields, None)

    def _make(
        self, key: str, number: int, verb: str, message: dict[str, Any], fields: dict[str, Any], seen: str | None
    ) -> Call:
        message["seen"] = seen or self._seen_text
        message.update(fields)
        subject = self._subjects.get(verb)
        if subject is None:
            subject = self._subjects[verb] = self._subject_of(self._service, verb, self._bus.principal)
        return Call(key, number, subject, _pack(message))

    async def run(self, call: Call, deadline: float, *, repeats: bool = True) -> Reply:
        """Repeat ``call`` until it is answered. ``deadline``: local ms; ``repeats``: False only waits for the answer to
        what was sent before.

        Raises `LimiterUnavailable` at the deadline, or the service's error. Unless it is answered the request stays
        open: run it again, or `give_up`. So does one that was refused and `Call.is_doubtful`, where there is somebody
        who looks after strays.
        """
        self._open[call._key] = call
        if not repeats:
            call._send_at = float("inf")
        elif call._send_at == float("inf"):
            call._send_at = self._clock.now()
        if traces.tracing is not None:
            self._trace(call)
        try:
            await self._until_answered(call, deadline)
        finally:
            del self._open[call._key]
            if call._traced is not None:
                call._traced.ended(call._answered)
        answered = call._answered
        if answered is None:
            raise self._unavailable(f"{self._service} did not answer in time: {call._problem}", last=call._problem)
        if self.stray is None or not call.is_doubtful:
            self.give_up(call)
        else:
            self._watch(call)
        if isinstance(answered, Exception):
            raise answered
        return answered

    def _trace(self, call: Call) -> None:
        call._traced = Asked(self._service, call._subject, self._session.id_of(call._number) if call._number else "")

    async def ask(self, verb: str, fields: dict[str, Any], deadline: float, seen: str | None = None) -> Reply:
        """A request from its beginning to its end, for who does not go on with it when nobody has answered in time; see
        `request` and `run`."""
        call = self.request(verb, fields, seen)
        try:
            return await self.run(call, deadline)
        finally:
            self.give_up(call)

    def give_up(self, call: Call) -> None:
        """This request will not be sent again: its place in the watermark is free."""
        if call._number:
            if self.stray is not None and call.is_doubtful:
                self._watch(call)
            self._session.end(call._number)
            call._number = 0

    def _watch(self, call: Call) -> None:
        """Hear what late answers to its copies say."""
        self._strays[call._key] = call
        if len(self._strays) > STRAYS:
            del self._strays[next(iter(self._strays))]

    async def _until_answered(self, call: Call, deadline: float) -> None:
        while call._answered is None:
            now = self._clock.now()
            if now >= deadline:
                return
            if now >= call._send_at:
                self._attempt(call, now)
            else:
                await self._sleep(call, min(call._send_at, deadline) - now)

    def _attempt(self, call: Call, now: float) -> None:
        self.retries += call.was_sent
        call._send_at = now + self._spread(SILENCE[min(call._silent, len(SILENCE) - 1)])
        call._problem = "no answer"
        sent_before, call._sent = call._sent, now if call._sent < 0 else call._sent
        try:
            headers = None if call._traced is None else call._traced.headers
            self._bus.publish(call._subject, call._payload, self._prefix + call._key, headers)
            call._silent += 1
        except NotConnected:
            call._sent = sent_before
            self._try_again(call, "not connected")
        except CallerError as error:  # no attempt will be any better
            call._sent, call._answered = sent_before, error

    @staticmethod
    async def _sleep(call: Call, ms: float) -> None:
        """Wait so long, or until woken."""
        loop = asyncio.get_running_loop()
        call._wake = loop.create_future()
        timer = loop.call_later(ms / 1000.0, call.wake)
        try:
            await call._wake
        finally:
            timer.cancel()
            call._wake = None

    def _try_again(self, call: Call, problem: str) -> None:
        """The service cannot answer for the moment: repeat soon, unless nothing is to be repeated."""
        if call._send_at == float("inf"):
            return
        pause = min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(call._refused, 8))
        call._refused += 1
        call._problem = problem
        call._send_at = min(call._send_at, self._clock.now() + self._spread(pause))
        call.wake()

    def _spread(self, ms: float) -> float:
        return ms * self._random.uniform(0.8, 1.2)

    # -- answers

    def _on_message(self, msg: Msg) -> None:
        key = msg.subject[len(self._prefix) :]
        call = self._open.get(key)
        if call is None or call._answered is not None:
            self.late += 1
            if key in self._strays:
                self._take_stray(self._strays[key], msg)
            return
        call._heard += 1
        headers = msg.headers
        if headers is not None and headers.get("Status") == "503" and not msg.data:
            self._try_again(call, "nobody listens")
            return
        try:
            self._take(call, _read(msg.data))
        except BadReply as error:
            call._answered = error
        call.wake()

    def _take_stray(self, call: Call, msg: Msg) -> None:
        """A refusal is not remembered, so another copy of the same request may have been accepted after it. That is
        remembered: all further copies get the same answer."""
        call._heard += 1
        try:
            body = _read(msg.data)
        except BadReply:
            return
        if body.get("ok") is True and self.stray is not None:
            del self._strays[call._key]
            call._heard = call._silent
            self.stray(body)

    def _take(self, call: Call, body: dict[str, Any]) -> None:
        error = body.get("error")
        if type(error) is dict:  # an answer may have a text of that name: how a task has failed
            raised = from_wire(error)
            if raised.code in RETRYABLE:
                self._try_again(call, f"{raised.code}: {raised.text}")
            else:
                call._answered = raised
            return
        text = body.get("fence")
        fence = _fence(text)
        epoch, latest = fence[:2], self.seen[:2]
        accepted = call._number != 0 and body.get("ok") is True
        if epoch < latest and not accepted:
            self.stale += 1
            self._try_again(call, "stale answer")
            return
        call._answered = Reply(body, fence, call._sent, fence[0] < self.seen[0])
        if fence > self.seen:
            self._saw(fence, str(text))

    def _saw(self, fence: FenceKey, text: str) -> None:
        before, self.seen, self._seen_text = self.seen, fence, text
        if before == (0, 0, 0) or before[:2] == fence[:2]:
            return
        if before[0] != fence[0] and self.lost_data is not None:
            self.lost_data()
        soon = self._clock.now()
        for call in self._open.values():
            if call._answered is None and call._send_at < float("inf"):
                call._send_at = min(call._send_at, soon + self._random.uniform(0.0, NUDGE))
                call.wake()


def _is_accepted(answered: Reply | Exception | None) -> bool:
    return isinstance(answered, Reply) and answered.body.get("ok") is True


def _read(data: bytes) -> dict[str, Any]:
    try:
        body = msgpack.unpackb(data)
    except (ValueError, TypeError, RecursionError):
        raise BadReply("the answer is not msgpack") from None
    if type(body) is not dict:
        raise BadReply("the answer is not a map")
    return body


def _fence(text: Any) -> FenceKey:
    try:
        incarnation, epoch, number, _ = text.split(".")
        return int(incarnation), int(epoch), int(number)
    except (AttributeError, ValueError):
        raise BadReply("the answer carries no fence") from None
