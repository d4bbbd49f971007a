"""Tracing: off and free unless it is asked for, sampled, and never a hindrance."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bursar.bus.base import Msg
from bursar.bus.memory import MemoryNetwork
from bursar.client.caller import Caller
from bursar.client.errors import LimiterUnavailable
from bursar.client.time import SystemClock
from bursar.telemetry import traces
from bursar.telemetry.logs import JsonFormatter, about
from tests.telemetry.otlp import Collector

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        yield collector
        traces.end()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": ""}, True),
    ],
)
def test_the_standard_variables_say_whether_it_is_on(environ: dict[str, str], wanted: bool) -> None:
    """An address to send to, and nothing that switches it off."""
    assert traces.is_wanted(environ) is wanted


def test_what_is_off_imports_nothing() -> None:
    """An agent, a worker and a service that do not trace never load OpenTelemetry."""
    program = (
        "import sys, bursar, bursar.client.worker, bursar.client.http, bursar.client.scheduler, bursar.kernel.host\n"
        "from bursar.telemetry import traces\n"
        "assert traces.begin('x') is None and traces.tracing is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip() == "[]"


async def asked() -> list[dict[str, str] | None]:
    """The headers of a request that nobody answers."""
    network = MemoryNetwork()
    heard: list[dict[str, str] | None] = []

    def hear(msg: Msg) -> None:
        heard.append(None if msg.headers is None else dict(msg.headers))

    service, agent = network.connect("svc-limiter"), network.connect("ann")
    await service.subscribe("bursar.req.limiter.status.*", hear)
    clock = SystemClock()
    caller = Caller(agent, "limiter", clock)
    await caller.start()
    with suppress(LimiterUnavailable):
        await caller.run(caller.query("status", {}), clock.now() + 50.0)
    await caller.close()
    return heard


async def test_a_request_carries_nothing_while_it_is_off() -> None:
    """No header, so no byte more on the wire."""
    assert await asked() == [None]


async def test_a_request_carries_its_span_and_tells_that_nobody_answered(collector: Collector) -> None:
    """The W3C header names the span of the request, which has failed."""
    assert traces.begin("agent") is not None
    [headers] = await asked()
    traces.end()
    [span] = collector.spans
    assert headers is not None
    assert headers["traceparent"].split("-")[1:3] == [span.trace, span.id]
    assert (span.name, span.kind, span.failed, span.told["error.type"]) == (
        "limiter status", "client", True, "unavailable",
    )  # fmt: skip


async def test_what_is_not_sampled_is_carried_as_such_and_not_told(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ratio is the standard one; services do as the header of the caller says: a trace is whole or not there."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    tracing = traces.begin("agent")
    assert tracing is not None
    [headers] = await asked()
    assert headers is not None
    flags = int(headers["traceparent"].rpartition("-")[2], 16)
    assert flags & 1 == 0
    served = tracing.span("limiter status", "server", {}, parent=tracing.read(headers))
    assert not served.is_recording()
    sampled = tracing.span("x", "server", {}, parent=tracing.read({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}))
    assert sampled.is_recording()
    traces.end()
    assert collector.spans == []


def test_headers_that_cannot_be_read_begin_a_trace_of_their_own(collector: Collector) -> None:
    """What a caller writes there is no reason to fail."""
    tracing = traces.begin("agent")
    assert tracing is not None
    for text in ("", "zz", "00-0-0-00", f"00-{'0' * 32}-{'1' * 16}-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"):
        assert tracing.read({"traceparent": text}) is None
    assert tracing.read(None) is None
    assert tracing.read({"Traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}) is not None


def test_lines_say_which_request_and_trace_they_are_about(collector: Collector) -> None:
    """Whatever is logged meanwhile, by whomever."""
    record = logging.LogRecord("bursar", logging.INFO, "", 0, "event", (), None)
    formatter = JsonFormatter("limiter", "l-1")
    assert '"id"' not in formatter.format(record)
    tracing = traces.begin("agent")
    assert tracing is not None
    with tracing.within("x", "server", {}) as span, about(id="s-1", principal="ann"):
        line = formatter.format(record)
    assert f'"trace_id":"{span.get_span_context().trace_id:032x}"' in line
    assert '"id":"s-1","principal":"ann"' in line
    assert "trace_id" not in formatter.format(record)


def test_a_collector_that_is_away_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are lost, and the process ends all the same."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setattr(traces, "END_SECONDS", 0.2)
    tracing = traces.begin("agent")
    assert tracing is not None
    with tracing.within("x", "server", {}):
        pass
    traces.end()
    assert traces.tracing is None
