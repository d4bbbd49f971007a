"""What is told of single requests: their spans (`bursar.telemetry.traces`), and at the level DEBUG a line for each.

The host puts these watchers around its handler of calls, its decider and its journal when a process starts that traces
or logs so much; otherwise they are not there, and cost nothing. They change no decision: what they add to a message is
its field ``trace``, which no decider looks at.

A request's span begins when it arrives and ends with the answer. Below it stand ``decide`` (again when it had to wait
in line), and ``append``, which all requests of a batch share: it is told below each of them. Lines that are logged
meanwhile carry the request's id and principal, and the trace.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from bursar.bus.call import Call
from bursar.errors import BursarError
from bursar.kernel.decider import Accept, Command, Decider, Fence, Notice, Outcome, Park, Refuse
from bursar.kernel.journal.base import Appended
from bursar.kernel.journal.jetstream import JetStreamJournal
from bursar.kernel.spec import Verb
from bursar.telemetry import logs, traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from bursar.bus.base import HotBus
    from bursar.bus.codec import Encoding

log = logging.getLogger("bursar.kernel")

OnCall = Callable[[Call, Verb], None]
TRACE: Final = "trace"
_MS: Final = 1_000_000


class Watch:
    """The requests of one service that are not answered yet. ``tells``: a line for each answer. Where nobody wants to
    know anything, decider, journal and handler are what they are without it."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.tells = log.isEnabledFor(logging.DEBUG)
        self.is_on = self.tells or traces.tracing is not None
        self.open: dict[int, WatchedCall] = {}
        """By the identity of the message, which its call keeps alive."""
        self.decided: list[WatchedCall] = []
        """Accepted, and not in an append yet."""

    def calls(self, on_call: OnCall) -> OnCall:
        """The handler of requests, watched."""

        def called(call: Call, rule: Verb) -> None:
            watched = WatchedCall(self, call)
            with watched.around():
                try:
                    on_call(cast("Call", watched), rule)
                except Exception as error:
                    watched.ended(error.code if isinstance(error, BursarError) else "internal")
                    raise

        return called if self.is_on else on_call

    def decider(self, decider: Decider[Any]) -> Decider[Any]:
        """The same decider, watched."""
        return cast("Decider[Any]", _WatchedDecider(self, decider)) if self.is_on else decider

    def journal(self, bus: HotBus, shard: int) -> JetStreamJournal:
        """The journal of a shard, watched."""
        if not self.is_on:
            return JetStreamJournal(bus, self.service, shard)
        journal = _WatchedJournal(bus, self.service, shard)
        journal.watch = self
        return journal


class WatchedCall:
    """A call (`bursar.bus.call.Call`) whose answer is waited for by more than its caller."""

    __slots__ = ("_began", "_body", "_call", "_id", "_span", "_watch", "principal")

    def __init__(self, watch: Watch, call: Call) -> None:
        self._watch = watch
        self._call = call
        self._began = traces.now()
        self._body: Any = None
        self._id = ""
        self.principal = call.principal
        self._span: Span | None = None
        if (tracing := traces.tracing) is not None:
            verb = call.subject.split(".")[3]
            told = {"rpc.system": "nats", "rpc.service": watch.service, "rpc.method": verb,
                    "messaging.system": "nats", "bursar.principal": call.principal}  # fmt: skip
            name, parent = f"{watch.service} {verb}", tracing.read(call.headers)
            self._span = tracing.span(name, "server", told, parent=parent)

    # ---- as a call

    @property
    def is_open(self) -> bool:
        return self._call.is_open

    @property
    def encoding(self) -> Encoding:
        return self._call.encoding

    def decode(self, model: type[Any]) -> Any:
        """As `Call.decode`; a message that takes its trace along into the journal gets this span's."""
        body = self._call.decode(model)
        self._id = getattr(body, "id", "")
        if self._span is not None:
            self._span.set_attribute("bursar.request.id", self._id)
            if TRACE in type(body).model_fields and (tracing := traces.tracing) is not None:
                body = body.model_copy(update={TRACE: tracing.written(self._span)})
        self._body = body
        self._watch.open[id(body)] = self
        return body

    def release(self) -> None:
        self._call.release()

    def respond(self, payload: bytes) -> None:
        self._call.respond(payload)
        self.ended("")

    def fail(self, error: BursarError) -> None:
        self._call.fail(error)
        self.ended(error.code)

    def drop(self) -> None:
        self._call.drop()
        self.ended("dropped")

    # ---- what is told

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """What is logged within is about this request."""
        about = {"principal": self.principal, **({"id": self._id} if self._id else {})}
        tracing, span = traces.tracing, self._span
        with (
            logs.about(**about),
            contextlib.nullcontext() if tracing is None or span is None else tracing.current(span),
        ):
            yield

    def has_part(self, name: str, began: int, **told: str | int | bool) -> None:
        """A child span that ends now."""
        if self._span is not None and self._span.is_recording() and (tracing := traces.tracing) is not None:
            tracing.span(name, "internal", told, parent=tracing.below(self._span), began=began).end()

    def ended(self, code: str) -> None:
        """It was answered; ``code``: of the error, "" when it was none."""
        if self._body is not None:
            self._watch.open.pop(id(self._body), None)
        span, tracing = self._span, traces.tracing
        with self.around():
            if self._watch.tells:
                verb = self._call.subject.split(".")[3]
                ms = round((traces.now() - self._began) / _MS, 3)
                log.debug("answered", extra={"verb": verb, "ms": ms, "code": code or "ok"})
        if span is None:
            return
        self._span = None
        if code and tracing is not None:
            tracing.failed(span, code)
        elif not code:
            span.add_event("reply")
        span.end()


class _WatchedDecider:
    """All but ``decide`` is the decider's own."""

    def __init__(self, watch: Watch, decider: Decider[Any]) -> None:
        self._watch = watch
        self._decide = decider.decide
        self._decider = decider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decider, name)

    def decide(self, state: Any, command: Command, now: int, fence: Fence) -> Outcome:
        call = self._watch.open.get(id(command.body))
        if call is None:
            outcome = self._decide(state, command, now, fence)
        else:
            began = traces.now()
            with call.around():
                outcome = self._decide(state, command, now, fence)
            call.has_part("decide", began, outcome=_named(outcome))
            if isinstance(outcome, Accept):
                self._watch.decided.append(call)
        if isinstance(outcome, Accept) and traces.tracing is not None:
            _trace_assignments(outcome)
        return outcome


class _WatchedJournal(JetStreamJournal):
    """Tells how long each append took, below every request that it has made durable."""

    watch: Watch

    def start_append(self, expected: int, payload: bytes, then: Appended) -> None:
        calls, self.watch.decided = self.watch.decided, []
        began = traces.now()

        def settled(result: Any) -> None:
            for call in calls:
                told = {"sequence": result} if isinstance(result, int) else {"error.type": type(result).__name__}
                call.has_part("append", began, batch=len(calls), bytes=len(payload), **told)
            then(result)

        super().start_append(expected, payload, settled)


def _named(outcome: Outcome) -> str:
    if isinstance(outcome, Accept):
        return "accepted"
    if isinstance(outcome, Refuse):
        return "refused" if outcome.reply.get("ok") is False else "answered"
    return "waits" if isinstance(outcome, Park) else outcome.code


def _trace_assignments(outcome: Accept) -> None:
    """Tasks that carry a trace go to a worker: the time since they were accepted is a span, and the worker's parent."""
    for one in outcome.broadcasts:
        if isinstance(one, Notice) and one.body.get("what") == "assign" and one.body.get(TRACE):
            _assigned(one.body)
    following = outcome.reply.get("next")
    if isinstance(following, dict) and following.get(TRACE):
        _assigned(following)


def _assigned(body: dict[str, Any]) -> None:
    tracing = traces.tracing
    if tracing is None or (parent := tracing.told(body[TRACE])) is None:
        return
    told = {"bursar.task.id": body["task"], "bursar.task.class": body["task_class"],
            "bursar.task.attempt": body["attempt"]}  # fmt: skip
    began = traces.now() - body["waited_ms"] * _MS
    span = tracing.span(f"task {body['task_class']}", "internal", told, parent=parent, began=began)
    body[TRACE] = tracing.written(span)
    span.end()
