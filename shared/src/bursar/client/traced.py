"""What an agent and a worker tell of their requests and attempts when they trace (`bursar.telemetry.traces`).

Nothing here is run while tracing is off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from bursar.errors import BursarError
from bursar.telemetry import traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_VERB: Final = 3
"""Where the verb stands in ``bursar.req.<service>.<verb>.<principal>``."""

TRACE: Final = "trace"
"""The field of a message in which a task carries its context through the journal."""


class Asked:
    """The span of one request, over all its attempts until it is answered or given up for the time being.
    ``headers``: what each of them carries."""

    __slots__ = ("_span", "headers")

    def __init__(self, service: str, subject: str, request_id: str) -> None:
        tracing = _on()
        verb = subject.split(".")[_VERB]
        told = {"rpc.system": "nats", "rpc.service": service, "rpc.method": verb, "messaging.system": "nats"}
        if request_id:
            told["bursar.request.id"] = request_id
        self._span = tracing.span(f"{service} {verb}", "client", told)
        self.headers = tracing.carried(self._span) or None

    def ended(self, answered: Any) -> None:
        """``answered``: the answer, the service's error, or None when nobody answered in time."""
        if answered is None:
            _on_or_nothing(self._span, "unavailable")
        elif isinstance(answered, Exception):
            _on_or_nothing(self._span, answered.code if isinstance(answered, BursarError) else type(answered).__name__)
        else:
            self._span.set_attribute("bursar.ok", answered.body.get("ok") is not False)
        self._span.end()


@contextlib.contextmanager
def submitting(verb: str, fields: dict[str, Any]) -> Iterator[None]:
    """A task, or several, leave this process: their context goes along in the message."""
    tracing = _on()
    name = str(fields.get("task_class") or fields.get("name") or "")
    told = {"messaging.system": "nats", "messaging.operation.type": "send", "bursar.verb": verb, "bursar.task": name}
    with tracing.within(f"submit {name}", "producer", told):
        fields[TRACE] = tracing.written()
        yield


@contextlib.contextmanager
def attempt(notice: Mapping[str, Any], worker: str) -> Iterator[Span]:
    """One attempt in a worker, from its assignment to the answer to its end."""
    tracing = _on()
    told = {
        "messaging.system": "nats", "bursar.task.id": notice["task"], "bursar.task.class": notice["task_class"],
        "bursar.task.attempt": notice["attempt"], "bursar.worker": worker,
    }  # fmt: skip
    parent = tracing.told(notice.get(TRACE))
    with tracing.within(f"run {notice['task_class']}", "consumer", told, parent=parent) as span:
        yield span


def attempt_ended(verb: str) -> None:
    """How the function of the current attempt has ended: finish, fail or yield."""
    tracing = _on()
    span = tracing.here()
    span.set_attribute("bursar.task.end", verb)
    if verb == "fail":
        tracing.failed(span, "task_failed")


def _on() -> traces.Tracing:
    assert traces.tracing is not None, "only who traces comes here"
    return traces.tracing


def _on_or_nothing(span: Span, why: str) -> None:
    """A span outlives the tracing of its process at its end."""
    if traces.tracing is not None:
        traces.tracing.failed(span, why)
