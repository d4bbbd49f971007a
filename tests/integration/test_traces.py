"""Traces of the whole fleet: five services as processes, an agent, a worker and a provider, and a collector that reads
what they send by OTLP."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import bursar
from bursar.bus.connection import connect
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.server import NatsServer
from bursar.client.caller import Caller
from bursar.client.fleet import Fleet
from bursar.client.time import SystemClock
from bursar.client.worker_task import WorkerTask
from bursar.telemetry import traces
from tests.integration.support import Instance, settled_in, until
from tests.telemetry.otlp import Collector, Span

pytestmark = pytest.mark.integration

SERVICES = ("limiter", "breaker", "gpu-manager", "scheduler", "monitor")
BUDGETS = """
[budgets.models]
limits.requests = { limit = 1000, window = "1m" }
limits.input_tokens = { limit = 1000000, window = "1m" }
"""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Spans of this process and of those that it starts go there, ten times a second."""
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield collector
        traces.end()


async def started(home: Home, url: str, directory: Path) -> list[Instance]:
    """All five services, each of which owns its journal when this returns. One after the other: five processes that
    start at once keep a small machine busy for longer than one may take."""
    (directory / "budgets.toml").write_text(BUDGETS)
    made = []
    for service in SERVICES:
        port = free_port()
        (directory / f"{service}.port").write_text(str(port))
        env = {
            **await settled_in(home, url, service),
            "BURSAR_BUDGETS": str(directory / "budgets.toml"),
            "BURSAR_LOG_LEVEL": "DEBUG",
            "BURSAR_SNAPSHOT_MS": "200",
            "BURSAR_HEALTH_PORT": str(port),
        }
        made.append(Instance(f"{service}-1", f"bursar_{service.replace('-', '_')}", directory, env))
        made[-1].start()
        await made[-1].is_up(("owner", "owner"))
    return made


async def ask_all(fleet: Fleet) -> None:
    """One question to each service."""
    for service in SERVICES:
        caller = Caller(fleet.scheduler.bus, service, SystemClock())
        await caller.start()
        reply = await caller.run(caller.query("status", {}), SystemClock().now() + 10_000.0)
        assert reply.body
        await caller.close()


async def work(agent: Fleet, crew: Fleet, provider: str) -> Any:
    """A task whose worker calls a provider under a budget; its result."""
    worker = bursar.Worker(crew, slots=1)
    http = crew.http_client("models")
    worker.at_end(http.aclose)

    @worker.task("ask")
    async def ask(task: WorkerTask) -> str:
        body = {"model": "tiny-1", "messages": [{"role": "user", "content": task.payload}], "max_tokens": 64}
        answer = await http.post(f"{provider}/v1/chat/completions", json=body)
        return str(answer.json()["choices"][0]["message"]["content"])

    running = asyncio.create_task(worker.run(signals=False))
    await until(lambda: worker.is_registered, 10, "the worker is registered")
    handle = await agent.scheduler.submit("ask", "say something", key="first")
    result = await handle.result(timeout=20)
    worker.stop()
    await running
    return result


async def monitor_has_heard(home: Home, url: str) -> bool:
    """How long the task took; waits for it."""
    ops = await connect(url, home.creds("ops"), principal="ops")
    try:
        async with asyncio.timeout(10):
            while True:
                stats = json.loads((await ops.request("$SRV.STATS.monitor", b"", 2.0)).data)
                if any(one["name"] == "obs-took" and one["num_requests"] == 1 for one in stats["endpoints"]):
                    return True
                await asyncio.sleep(0.05)
    finally:
        await ops.close()


def only(spans: list[Span]) -> Span:
    assert len(spans) == 1, spans
    return spans[0]


async def test_one_trace_goes_from_an_agent_through_journal_and_worker_to_the_provider(
    tmp_path: Path, collector: Collector
) -> None:
    """Each service answers within the caller's trace; a task's trace goes on in its worker and in the call it makes;
    the spans have what happened, and nothing of what was said; log lines have the trace's id."""
    home = create_home(tmp_path / "home")
    mint_agent(home, "ann")
    mint_agent(home, "w1", role="worker")
    server = NatsServer(home)
    await server.start()
    services = await started(home, server.url, tmp_path)
    try:
        async with (
            bursar.connect(server.url, creds=home.creds("ann")) as agent,
            bursar.connect(server.url, creds=home.creds("w1")) as crew,
        ):
            assert traces.tracing is not None
            with traces.tracing.within("session", "internal", {}) as session:
                trace = f"{session.get_span_context().trace_id:032x}"
                await ask_all(agent)
                assert await work(agent, crew, collector.url) == "hello"
            await asyncio.to_thread(check_latencies, tmp_path)
            await until(lambda: bool(services[3].events("snapshot_stored")), 10, "a process that traces can fork")
            agent.scheduler.took.flush()
            assert await monitor_has_heard(home, server.url)
        for instance in services:
            assert await instance.terminate() == 0
    finally:
        for instance in services:
            if instance.is_running:
                instance.kill()
        await server.stop()
    await asyncio.to_thread(traces.end)
    of_trace = [span for span in collector.spans if span.trace == trace]
    check_services(collector, of_trace)
    check_task(collector, of_trace)
    for instance in services:
        asked = [line for line in instance.events("answered") if line["trace_id"] == trace and line["verb"] == "status"]
        assert {line["principal"] for line in asked} == {"ann"}
    submitted = only_line(services[3], trace, "submit")
    assert (submitted["principal"], submitted["code"]) == ("ann", "ok")
    assert submitted["id"] == only(collector.named("scheduler submit", "server")).told["bursar.request.id"]
    said = json.dumps([[span.told, span.events] for span in collector.spans])
    assert "say something" not in said
    assert "hello" not in said
    assert not [span for span in of_trace if span.failed]
    assert all("traceparent" not in {name.lower() for name in headers} for headers in collector.asked)


def check_latencies(directory: Path) -> None:
    """Each service tells Prometheus how long its answers took."""
    for service in SERVICES:
        port = (directory / f"{service}.port").read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            families = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
        counts = {
            sample.labels["verb"]: sample.value
            for sample in families["bursar_request_duration_seconds"].samples
            if sample.name.endswith("_count")
        }
        assert counts["status"] >= 1, service


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def only_line(instance: Instance, trace: str, verb: str) -> dict[str, Any]:
    found = [line for line in instance.events("answered") if line["verb"] == verb and line["trace_id"] == trace]
    assert len(found) == 1, found
    return found[0]


def check_services(collector: Collector, spans: list[Span]) -> None:
    """The answer of each service stands below the request to it."""
    by_id = {span.id: span for span in spans}
    for service in SERVICES:
        served = [span for span in spans if span.name == f"{service} status" and span.kind == "server"]
        assert served, f"{service} has told nothing"
        for span in served:
            assert span.process == f"bursar-{service}"
            asked = by_id[span.parent]
            assert (asked.name, asked.kind, asked.process) == (f"{service} status", "client", "bursar-agent")
            assert asked.begun <= span.begun <= span.ended
            assert span.told["bursar.principal"] == "ann"
            assert span.events == ["reply"]
            assert collector.below(span) == ["decide"]


def check_task(collector: Collector, spans: list[Span]) -> None:
    """submit -> request -> endpoint (decide, append) -> task -> worker -> provider."""
    by_id = {span.id: span for span in spans}
    provider = only(collector.named("chat tiny-1", "client"))
    assert provider.told == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.system": "openai",
        "gen_ai.request.model": "tiny-1", "gen_ai.request.max_tokens": 64, "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5, "server.address": "127.0.0.1", "server.port": collector.server_port,
        "http.response.status_code": 200,
    }  # fmt: skip
    run = by_id[provider.parent]
    assert (run.name, run.kind, run.told["bursar.task.end"]) == ("run ask", "consumer", "finish")
    assert run.told["bursar.task.id"] == "ann.first"
    assert {"limiter reserve", "scheduler start", "scheduler finish", "chat tiny-1"} <= set(collector.below(run))
    task = by_id[run.parent]
    assert (task.name, task.process, task.told["bursar.task.attempt"]) == ("task ask", "bursar-scheduler", 1)
    served = by_id[task.parent]
    assert (served.name, served.kind) == ("scheduler submit", "server")
    assert collector.below(served) == ["append", "decide", "task ask"]
    append = only([span for span in spans if span.parent == served.id and span.name == "append"])
    assert append.told["sequence"] > 0
    asked = by_id[served.parent]
    assert (asked.name, asked.kind) == ("scheduler submit", "client")
    assert asked.told["bursar.request.id"] == served.told["bursar.request.id"]
    assert by_id[asked.parent].name == "submit ask"
    assert by_id[by_id[asked.parent].parent].name == "session"
    reserve = only([span for span in spans if span.name == "limiter reserve" and span.kind == "server"])
    assert by_id[reserve.parent].parent == run.id
