"""What services say about themselves, as rows of the monitor's picture: the same for the monitor and `bursar top`.

Plain functions. A number that a service does not know stays None.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from bursar.bus.stats import BOUNDS_NS
from bursar.contracts import breaker, gpu, limiter, scheduler
from bursar.contracts.base import Message
from bursar.contracts.monitor_costs import GpuLeaseUse
from bursar.contracts.monitor_picture import (
    BudgetRow,
    CircuitRow,
    DeviceRow,
    InstanceRow,
    QueueRow,
    WorkerRow,
)

MAX_VERBS: Final = 64
Rows = Mapping[str, Sequence[Message]]
"""Rows by section of the picture."""


def instance_of(data: bytes) -> InstanceRow | None:
    """One answer to ``$SRV.STATS``; None when it is not one of Bursar's."""
    try:
        page = json.loads(data)
        endpoints = [_Endpoint.of(endpoint) for endpoint in page["endpoints"]]
        process = page.get("process") or {}
        return InstanceRow(
            service=str(page["name"])[:64],
            instance=str(page["id"])[:64],
            version=str(page["version"])[:32],
            owner=any(endpoint.listening for endpoint in endpoints),
            requests=sum(endpoint.requests for endpoint in endpoints),
            errors=sum(endpoint.errors for endpoint in endpoints),
            open=sum(endpoint.open for endpoint in endpoints),
            p50_us=_busiest(endpoints),
            p99_us=max((endpoint.p99_us for endpoint in _answering(endpoints)), default=None),
            rss_bytes=_count(process.get("rss_bytes")),
            cpu_ms=_count(process.get("cpu_ms")),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


class Verb(NamedTuple):
    """What an instance has counted of one verb. ``below``: answers within each of `bursar.bus.stats.BOUNDS_NS`, and all
    of them; ``total_ns``: the time of all together."""

    name: str
    requests: int
    errors: int
    total_ns: int
    below: tuple[int, ...]


def verbs_of(data: bytes) -> list[Verb]:
    """The verbs that have answered somebody, of one answer to ``$SRV.STATS``; those that cannot be read are none."""
    try:
        return [verb for page in json.loads(data)["endpoints"] if (verb := _verb_of(page)) is not None][:MAX_VERBS]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []


def _verb_of(page: Mapping[str, Any]) -> Verb | None:
    below = tuple(int(count) for count in (page.get("data") or {}).get("le") or ())
    if len(below) != len(BOUNDS_NS) + 1 or any(before > after for before, after in pairwise(below)):
        return None
    name = str(page["name"])[:64]
    return Verb(name, int(page["num_requests"]), int(page["num_errors"]), int(page["processing_time"]), below)


class _Endpoint(NamedTuple):
    requests: int
    errors: int
    open: int
    p50_us: int
    p99_us: int
    listening: bool

    @classmethod
    def of(cls, page: Mapping[str, Any]) -> _Endpoint:
        data = page.get("data") or {}
        return cls(
            int(page["num_requests"]),
            int(page["num_errors"]),
            int(data.get("open", 0)),
            int(data.get("p50_ns", 0)) // 1000,
            int(data.get("p99_ns", 0)) // 1000,
            bool(data.get("listening", False)),
        )


def _answering(endpoints: Sequence[_Endpoint]) -> list[_Endpoint]:
    """Those that have answered somebody; to observations there is no answer, and so no latency."""
    return [endpoint for endpoint in endpoints if endpoint.requests and endpoint.p99_us]


def _busiest(endpoints: Sequence[_Endpoint]) -> int | None:
    """The median latency of the endpoint with the most requests."""
    busiest = max(_answering(endpoints), key=lambda endpoint: endpoint.requests, default=None)
    return None if busiest is None else busiest.p50_us


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def of_limiter(reply: limiter.StatusReply) -> Rows:
    """One row per budget and dimension. ``used`` is what counts against the limit: calls in flight included."""
    rows = [
        BudgetRow(
            budget=budget.name,
            dimension=name,
            limit=dimension.limit,
            window_ms=dimension.window_ms,
            used=max(dimension.used, dimension.limit - dimension.headroom),
            in_flight=dimension.in_flight,
            headroom=dimension.headroom,
            waiting=budget.waiting,
            foreign=dimension.foreign_used,
        )
        for budget in reply.budgets
        for name, dimension in budget.dimensions.items()
    ]
    return {"budgets": rows}


def of_breaker(reply: breaker.StatusReply) -> Rows:
    rows = [
        CircuitRow(
            target=circuit.target,
            state=circuit.state,
            cause=circuit.reason,
            failures_permille=circuit.failure_permille if circuit.calls else None,
            calls=circuit.calls,
            retry_in_ms=circuit.remaining_ms,
        )
        for circuit in reply.circuits
    ]
    return {"circuits": rows}


def of_gpu_manager(reply: gpu.StatusReply) -> Rows:
    rows = [
        DeviceRow(
            host=device.host,
            device=device.uuid,
            name=device.model,
            state=_device_state(device),
            total_bytes=device.total,
            granted_bytes=device.granted,
            observed_bytes=device.used,
            leases=device.leases,
            busy_permille=None if device.utilisation is None else min(1000, device.utilisation * 10),
            temperature_c=device.temperature,
            age_ms=device.age_ms,
        )
        for device in reply.devices
    ]
    leases = [
        GpuLeaseUse(
            principal=lease.principal,
            purpose=lease.purpose,
            granted_bytes=lease.memory,
            observed_bytes=lease.observed if lease.phase == "active" else None,
        )
        for lease in reply.leases
    ]
    return {"devices": rows, "gpu_leases": leases}


def _device_state(device: gpu.DeviceStatus) -> str:
    if device.state != "ready":
        return device.state
    if not device.fresh:
        return "silent"
    return "cordoned" if device.cordoned else "ready"


def of_scheduler(reply: scheduler.StatusReply) -> Rows:
    """Queues: one per band, and those of tasks that wait for their next attempt or are given up."""
    queues = [
        QueueRow(queue=band, waiting=counts.get("waiting", 0), running=counts.get("running", 0))
        for band, counts in reply.bands.items()
    ]
    queues.append(QueueRow(queue="delayed", waiting=reply.delayed, running=0))
    queues.append(QueueRow(queue="dead", waiting=reply.dead, running=0))
    workers = [
        WorkerRow(
            worker=worker.name,
            kind=worker.kind,
            state="draining" if worker.draining else "up",
            slots=worker.slots,
            running=worker.used,
            preemptible=worker.preemptible,
            heard_ms=worker.heard_ms,
        )
        for worker in reply.workers
    ]
    return {"queues": queues, "workers": workers}


class Source(NamedTuple):
    """How a service's status is asked for and read."""

    reply: type[Message]
    rows: Callable[[Any], Rows]


SOURCES: Final[Mapping[str, Source]] = {
    limiter.SERVICE: Source(limiter.StatusReply, of_limiter),
    breaker.SERVICE: Source(breaker.StatusReply, of_breaker),
    gpu.SERVICE: Source(gpu.StatusReply, of_gpu_manager),
    scheduler.SERVICE: Source(scheduler.StatusReply, of_scheduler),
}
"""The services whose status is asked for, with the verb ``status``."""
