"""What services say, as rows: the same for the monitor and for `bursar top`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bursar.bus.memory import MemoryNetwork
from bursar.bus.micro import Service
from bursar.client.monitor_rows import instance_of, of_breaker, of_gpu_manager, of_limiter, of_scheduler
from bursar.contracts import breaker, gpu, limiter, scheduler
from bursar.contracts.monitor_picture import QueueRow, WorkerRow
from tests.monitor.fleet import FENCE


async def test_an_instance_is_read_from_its_statistics() -> None:
    """Our own endpoint module's answer, with what the process costs."""
    service = Service(MemoryNetwork().connect("svc-x"), "limiter", "1.2.3", instance="limiter-1")
    service.about_process = lambda: {"rss_bytes": 5, "cpu_ms": None}
    endpoint = await service.add_endpoint("reserve", "bursar.req.limiter.reserve.*", lambda _: None)
    endpoint.stats.num_requests = 2
    endpoint.stats.open = 2
    endpoint.stats.answered(2_000_000)
    row = instance_of(json.dumps(service.stats()).encode())
    assert row is not None
    assert (row.service, row.instance, row.version, row.owner) == ("limiter", "limiter-1", "1.2.3", False)
    assert (row.requests, row.errors, row.open, row.rss_bytes, row.cpu_ms) == (2, 0, 1, 5, None)
    assert row.p99_us is not None
    assert 1_900 < row.p99_us < 2_300
    assert row.p50_us == row.p99_us


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"name":"x"}', b'{"name":"x","id":"y","version":"1","endpoints":[{}]}', b"\xff"],
)
def test_what_is_no_statistics_is_no_instance(data: bytes) -> None:
    """Whoever may answer $SRV.STATS cannot make the reader fail."""
    assert instance_of(data) is None


def test_observations_have_no_latency() -> None:
    """An endpoint that answers nobody says nothing about how long answers take."""
    page = {"name": "x", "id": "y", "version": "1"}
    heard = {"name": "host", "num_requests": 900, "num_errors": 0, "data": {"p50_ns": 0, "p99_ns": 0}}
    asked = {"name": "status", "num_requests": 5, "num_errors": 0, "data": {"p50_ns": 2_000_000, "p99_ns": 3_000_000}}
    row = instance_of(json.dumps({**page, "endpoints": [heard, asked]}).encode())
    assert row is not None
    assert (row.requests, row.p50_us, row.p99_us) == (905, 2_000, 3_000)
    alone = instance_of(json.dumps({**page, "endpoints": [heard]}).encode())
    assert alone is not None
    assert (alone.p50_us, alone.p99_us) == (None, None)


def test_a_service_without_endpoints_or_requests_knows_no_latency() -> None:
    """None, not 0."""
    row = instance_of(b'{"name":"x","id":"y","version":"1","endpoints":[]}')
    assert row is not None
    assert (row.p50_us, row.p99_us, row.owner) == (None, None, False)


def test_budgets_count_what_is_in_flight() -> None:
    """What counts against the limit is the limit less the headroom."""
    dimension = limiter.DimensionStatus(
        limit=100, window_ms=1_000, used=10, in_flight=30, headroom=60, debt=0, foreign_used=9
    )
    budget = limiter.BudgetStatus(
        name="b", dimensions={"output_tokens": dimension}, reservations=1, waiting=2, granted=3, refused=4
    )
    reply = limiter.StatusReply(now_ms=1, recovering=False, budgets=[budget], fence=FENCE)
    (row,) = of_limiter(reply)["budgets"]
    assert row.model_dump(include={"budget", "dimension", "used", "headroom", "waiting", "foreign"}) == {
        "budget": "b", "dimension": "output_tokens", "used": 40, "headroom": 60, "waiting": 2, "foreign": 9,
    }  # fmt: skip


def circuit(**fields: Any) -> breaker.CircuitStatus:
    plain = {
        "target": "p/eu", "state": "open", "revision": 3, "generation": 1, "reason": "rate", "for_ms": 5,
        "remaining_ms": 900, "opened": 1, "calls": 10, "counts": {}, "failure_permille": 700, "slow_permille": 0,
        "reporters": 2, "failing": 2, "probes": 0, "evidence": {}, "note": "", "share": 0, "excluded": [],
        "would_open": "",
    }  # fmt: skip
    return breaker.CircuitStatus.model_validate({**plain, **fields})


def test_circuits_without_calls_have_no_rate() -> None:
    """A rate of nothing is not 0."""
    reply = breaker.StatusReply(
        now_ms=1, revision=3, circuits=[circuit(), circuit(calls=0, failure_permille=0)], more=0, dropped=0, fence=FENCE
    )
    first, second = (row.model_dump() for row in of_breaker(reply)["circuits"])
    assert (first["state"], first["failures_permille"], first["retry_in_ms"]) == ("open", 700, 900)
    assert second["failures_permille"] is None


def test_a_device_says_why_it_takes_no_lease() -> None:
    """Lost, silent, cordoned or ready."""
    plain = {
        "device": "g/GPU-1", "host": "g", "uuid": "GPU-1", "index": 0, "model": "Card", "state": "ready",
        "cordoned": False, "fresh": True, "age_ms": 100, "total": 12, "reserved": 1, "used": 5, "granted": 4,
        "charged": 5, "foreign": 0, "room": 6, "leases": 2, "overused": 0, "utilisation": 55, "temperature": 60,
        "power_mw": None, "margin": None, "throttle": None, "sm_activity": None, "dram_activity": None,
        "numa_node": None, "emergency": 0, "loading": None, "alarm": 0, "heat": "ok", "load": "calm", "role": "any",
    }  # fmt: skip
    variants: list[dict[str, Any]] = [
        {}, {"state": "lost", "fresh": False}, {"fresh": False}, {"cordoned": True, "utilisation": None},
    ]  # fmt: skip
    devices = [gpu.DeviceStatus.model_validate({**plain, **fields}) for fields in variants]
    reply = gpu.StatusReply.model_construct(devices=devices, leases=[])
    rows = [row.model_dump() for row in of_gpu_manager(reply)["devices"]]
    assert [row["state"] for row in rows] == ["ready", "lost", "silent", "cordoned"]
    assert [row["busy_permille"] for row in rows] == [rows[0]["busy_permille"]] * 3 + [None]
    assert (rows[0]["granted_bytes"], rows[0]["observed_bytes"], rows[0]["leases"]) == (4, 5, 2)


def test_queues_are_bands_and_what_waits_for_another_try() -> None:
    """Also dead letters, so that their growth is seen."""
    worker = scheduler.WorkerStatus(
        name="w", kind="gpu", slots=4, used=1, heard_ms=9, draining=True, ended=0, load_permille=None
    )
    reply = scheduler.StatusReply.model_construct(
        bands={"reactive": {"waiting": 3, "running": 1}}, delayed=2, dead=1, workers=[worker]
    )
    rows = of_scheduler(reply)
    queues = [row for row in rows["queues"] if isinstance(row, QueueRow)]
    assert [(row.queue, row.waiting, row.running) for row in queues] == [
        ("reactive", 3, 1), ("delayed", 2, 0), ("dead", 1, 0),
    ]  # fmt: skip
    (shown,) = rows["workers"]
    assert isinstance(shown, WorkerRow)
    assert (shown.state, shown.running, shown.heard_ms) == ("draining", 1, 9)
