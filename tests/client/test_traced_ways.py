"""Whatever way a worker runs a function, what it does belongs to the trace of its task."""

from __future__ import annotations

import asyncio
import os

import pytest

from bursar.client.worker_run import Way, run_of
from bursar.client.worker_threads import shared_pool
from bursar.telemetry import traces
from tests.client import process_functions as functions
from tests.client.test_worker_process import task
from tests.telemetry.otlp import Collector


@pytest.mark.parametrize("way", ["thread", "process"])
async def test_a_function_makes_its_spans_below_the_one_of_its_attempt(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread, and in a process of its own, whose spans are sent before it tells its end."""
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing = traces.begin("worker")
        assert tracing is not None
        run = run_of(functions.traced, way, shared_pool().lane, 5.0)
        try:
            with tracing.within("attempt", "consumer", {}) as attempt:
                assert await run(task())
        finally:
            await run.close()
            await asyncio.to_thread(traces.end)
        [inside] = collector.named("inside")
        assert inside.parent == f"{attempt.get_span_context().span_id:016x}"
        assert (inside.told["pid"] == os.getpid()) is (way == "thread")
