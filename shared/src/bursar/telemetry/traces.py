"""Traces by OpenTelemetry: one from an agent's request, through the service and the journal, to the call of a provider.

Off unless the standard variable ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``..._TRACES_ENDPOINT``) says where spans go, by
OTLP over HTTP; or, in an agent's process, the application has a tracer provider of its own, which is used then. All
other standard variables hold, too: with ``OTEL_TRACES_SAMPLER=parentbased_traceidratio`` and
``OTEL_TRACES_SAMPLER_ARG=0.01`` one request in a hundred is traced, with ``OTEL_SDK_DISABLED=true`` none.

`tracing` is None while it is off: whoever would make a span looks at that and at nothing else, and no message carries
anything. The libraries are imported when tracing begins, and not before.

Context goes over NATS in the W3C header ``traceparent`` (with ``tracestate``), and in a task's field ``trace`` where a
message becomes an entry of the journal and, later, a notice. Spans name things and count; they hold no payload.

| span | kind | made by | has |
|---|---|---|---|
| ``submit <class>`` | producer | agent | task class |
| ``<service> <verb>`` | client | agent, worker | request id, outcome |
| ``<service> <verb>`` | server | service | principal, request id, error, event ``reply`` |
| ``decide`` ``append`` | internal | service | below the one before: outcome; sequence and size of the batch |
| ``task <class>`` | internal | scheduler | from its acceptance to its assignment; task, attempt |
| ``run <class>`` | consumer | worker | task, attempt, how it ended |
| ``chat <model>`` | client | who calls a provider | ``gen_ai.*``, by the semantic conventions for generative AI |
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

log = logging.getLogger("bursar.telemetry")

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
END_SECONDS: Final = 3.0
"""Longest that the end of a process waits for its last spans to be taken."""

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | bool]

tracing: Tracing | None = None
"""None: off. Read it as ``traces.tracing``, since it changes when a process begins to trace."""


def begin(service: str, instance: str = "") -> Tracing | None:
    """Trace from now on, if the environment or the application says so; the same again is no matter.

    ``service``: what spans name their process by, unless ``OTEL_SERVICE_NAME`` does.
    """
    global tracing  # noqa: PLW0603 - one for the process: what is off must cost one look
    if tracing is None:
        provider = _of_application()
        if provider is not None:
            tracing = Tracing(provider, is_own=False)
        elif is_wanted():
            tracing = _started(service, instance)
    return tracing


def end() -> None:
    """Send what is left, and trace no more; done by itself when the process ends."""
    global tracing
    ended, tracing = tracing, None
    if ended is not None:
        ended.close()


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """What the standard variables say."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    is_off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() or "otlp"
    return not is_off and exporter == "otlp" and any(environ.get(name, "").strip() for name in names)


def _of_application() -> TracerProvider | None:
    """The provider that the process has set up by itself."""
    api, sdk = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.sdk.trace")
    if api is None or sdk is None:
        return None
    provider = api.get_tracer_provider()
    return provider if isinstance(provider, sdk.TracerProvider) else None


def _started(service: str, instance: str) -> Tracing | None:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        log.warning("tracing_off", extra={"why": "install bursar[telemetry]", "missing": error.name})
        return None
    name = os.environ.get("OTEL_SERVICE_NAME", "").strip() or service
    known = {"service.name": name, **({"service.instance.id": instance} if instance else {})}
    provider = TracerProvider(resource=Resource.create(known), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    atexit.register(end)
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # at DEBUG each sending of spans would be lines of its own
    log.info("tracing_on", extra={"sampler": provider.sampler.get_description()})
    return Tracing(provider, is_own=True)


class Tracing:
    """Makes spans, and carries their context. ``is_own``: the provider ends with this."""

    def __init__(self, provider: TracerProvider, *, is_own: bool) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._api = trace
        self._provider = provider
        self._is_own = is_own
        self._tracer = provider.get_tracer("bursar", _version())
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what has ended, and no more after that. Of a provider of our own; who takes no spans is not waited for
        longer than `END_SECONDS`."""
        self._within_seconds(self._provider.shutdown if self._is_own else self._provider.force_flush)

    def flush(self) -> None:
        """Send what has ended, for a process that may be killed at any time."""
        self._within_seconds(self._provider.force_flush)

    @staticmethod
    def _within_seconds(work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(END_SECONDS)

    # ---- spans

    def span(
        self, name: str, kind: Kind, attributes: Attributes, *, parent: Context | None = None, began: int | None = None
    ) -> Span:
        """A span that whoever made it ends. ``parent``: the current one unless given. ``began``: see `now`."""
        kinds = self._api.SpanKind
        return self._tracer.start_span(name, parent, kinds[kind.upper()], attributes, start_time=began)

    def current(self, span: Span) -> contextlib.AbstractContextManager[Span]:
        """What happens within has this span as its parent. It is not ended by that."""
        return self._api.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    @contextlib.contextmanager
    def within(self, name: str, kind: Kind, attributes: Attributes, *, parent: Context | None = None) -> Iterator[Span]:
        """A span around what happens within; what is raised fails it, by its type alone."""
        span = self.span(name, kind, attributes, parent=parent)
        try:
            with self.current(span):
                yield span
        except BaseException as error:
            self.failed(span, type(error).__name__)
            raise
        finally:
            span.end()

    def failed(self, span: Span, why: str) -> None:
        """``why``: a code, or the type of an exception; never its text, which may hold anything."""
        span.set_attribute("error.type", why)
        span.set_status(self._api.Status(self._api.StatusCode.ERROR, why))

    def here(self) -> Span:
        """The current span; one that records nothing when there is none."""
        return self._api.get_current_span()

    # ---- context

    def below(self, span: Span) -> Context:
        """Where this span is the parent."""
        return self._api.set_span_in_context(span)

    def carried(self, span: Span | None = None) -> dict[str, str]:
        """The headers that carry a span's context, or the current one; none when there is no span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, None if span is None else self.below(span))
        return carrier

    def read(self, headers: Mapping[str, str] | None) -> Context | None:
        """The context that headers carry; None when they carry none that can be read."""
        if headers is None:
            return None
        told = {name.lower(): value for name, value in headers.items() if name.lower() in {PARENT, STATE}}
        if PARENT not in told:
            return None
        context = self._propagator.extract(told)
        return context if self._api.get_current_span(context).get_span_context().is_valid else None

    def written(self, span: Span | None = None) -> str | None:
        """As `carried`, for a message's field ``trace``."""
        return self.carried(span).get(PARENT)

    def told(self, trace: str | None) -> Context | None:
        """As `read`, of such a field."""
        return None if not trace else self.read({PARENT: trace})

    @contextlib.contextmanager
    def joined(self, trace: str | None) -> Iterator[None]:
        """What happens within belongs to the trace that such a field tells of."""
        context = self.told(trace)
        if context is None:
            yield
        else:
            with self.current(self._api.get_current_span(context)):
                yield

    def ids(self) -> dict[str, str]:
        """Of the current span, for log lines."""
        context = self._api.get_current_span().get_span_context()
        if not context.is_valid:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def now() -> int:
    """The time of spans: nanoseconds since 1970."""
    return time.time_ns()


def _version() -> str:
    for name in ("bursar", "bursar-fleet"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return ""
