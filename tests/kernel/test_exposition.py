"""What every service tells Prometheus of its verbs: read by Prometheus' own parser."""

from __future__ import annotations

import json
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from bursar.bus.call import Call
from bursar.bus.memory import MemoryNetwork
from bursar.bus.micro import Service
from bursar.bus.stats import BOUNDS_NS, EndpointStats
from bursar.client.monitor_rows import verbs_of
from bursar.errors import CallerError
from bursar.kernel.exposition import metrics_of

MS = 1_000_000


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def samples(text: str) -> dict[tuple[str, str, str], float]:
    """(name, verb, bound) -> value."""
    return {
        (one.name, one.labels.get("verb", ""), one.labels.get("le", "")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


async def asked(times_ms: list[float]) -> Service:
    """A service that has answered one verb in these times, the last one with an error, and nobody by another."""
    network, clock = MemoryNetwork(), Hand()
    service = Service(network.connect("svc-limiter"), "limiter", "1.0.0", instance="l-1", clock_ns=clock)
    waiting = list(times_ms)

    def answer(call: Call) -> None:
        clock.ns += round(waiting.pop(0) * MS)
        if not waiting:
            raise CallerError("unknown_budget", "there is none")
        call.respond(b"x")

    await service.add_endpoint("reserve", "bursar.req.limiter.reserve.*", answer)
    await service.add_endpoint("settle", "bursar.req.limiter.settle.*", answer)
    await service.start()
    agent = network.connect("ann")
    for _ in times_ms:
        await agent.request("bursar.req.limiter.reserve.ann", b"{}", 1.0)
    return service


async def test_each_verb_has_a_histogram_of_its_latencies() -> None:
    """Cumulative, with sum and count; a verb that has answered nobody has none, and its counters all the same."""
    service = await asked([0.08, 0.7, 0.7, 40.0, 700.0, 60_000.0])
    found = samples(metrics_of(service))
    name = "bursar_request_duration_seconds"
    within = {bound: found[f"{name}_bucket", "reserve", str(bound)] for bound in (0.0001, 0.001, 0.05, 1.0, 30.0)}
    assert within == {0.0001: 1, 0.001: 3, 0.05: 4, 1.0: 5, 30.0: 5}
    assert found[f"{name}_bucket", "reserve", "+Inf"] == found[f"{name}_count", "reserve", ""] == 6
    assert abs(found[f"{name}_sum", "reserve", ""] - 60.74148) < 1e-6
    assert found["bursar_requests_total", "reserve", ""] == 6
    assert found["bursar_request_errors_total", "reserve", ""] == 1
    assert found["bursar_requests_total", "settle", ""] == 0
    assert (f"{name}_count", "settle", "") not in found
    assert found["bursar_service_owner", "", ""] == 1


async def test_the_monitor_reads_the_same_from_the_statistics() -> None:
    """What stands in $SRV.STATS; and nothing that cannot be a histogram."""
    service = await asked([0.7, 40.0])
    page = service.stats()
    [verb] = verbs_of(json.dumps(page).encode())
    assert (verb.name, verb.requests, verb.errors, verb.total_ns) == ("reserve", 2, 1, round(40.7 * MS))
    assert len(verb.below) == len(BOUNDS_NS) + 1
    assert (verb.below[0], verb.below[-1]) == (0, 2)
    for wrong in ([1], [2] * len(BOUNDS_NS) + [1], "x", 7):
        page["endpoints"][0]["data"]["le"] = wrong
        assert verbs_of(json.dumps(page).encode()) == []
    assert verbs_of(b"{") == verbs_of(b"[]") == verbs_of(b'{"endpoints": 5}') == []


def test_a_histogram_is_right_to_an_eighth() -> None:
    """Below a bound by an eighth counts as within it, above it never does; counts grow from bound to bound."""
    for index, bound in enumerate(BOUNDS_NS):
        stats = EndpointStats()
        stats.answered(bound * 7 // 8)
        stats.answered(bound * 9 // 8)
        counts = stats.histogram()
        assert counts[index] == 1, bound
        assert counts[-1] == 2
        assert all(before <= after for before, after in pairwise(counts))
