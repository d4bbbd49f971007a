"""What a service counts, as text for Prometheus: each verb with its requests, errors and a histogram of latencies.

Served on the health port at ``/metrics`` (`bursar.kernel.health`). The counts are those of ``$SRV.STATS``, kept by
every call anyway; a scrape only writes them down. Ears hear what nobody is answered to: they have no latency. The
histogram's bounds are met to an eighth, as the counts behind it are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bursar.bus.micro import Endpoint, Service
from bursar.bus.stats import BOUNDS_NS

KIND: Final = "text/plain; version=0.0.4; charset=utf-8"
_S: Final = 1_000_000_000


def metrics_of(service: Service) -> str:
    """One instance, as text."""
    return "".join(f"{line}\n" for line in _lines(service))


def _lines(service: Service) -> Iterator[str]:
    who = f'service="{service.name}",instance="{service.id}"'
    endpoints = list(service.endpoints.values())
    owns = int(any(endpoint.is_listening for endpoint in endpoints))
    yield from _head("bursar_service_owner", "gauge", "1 on the instance that takes requests")
    yield f"bursar_service_owner{{{who}}} {owns}"
    counts = (
        ("requests_total", "counter", "Requests, and observations, that were received", "num_requests"),
        ("request_errors_total", "counter", "Requests that were answered with an error", "num_errors"),
        ("open_requests", "gauge", "Requests that wait for their answer", "open"),
        ("undelivered_answers_total", "counter", "Answers that could not be sent", "undelivered"),
    )
    for name, kind, text, field in counts:
        yield from _head(f"bursar_{name}", kind, text)
        for endpoint in endpoints:
            yield f'bursar_{name}{{{who},verb="{endpoint.name}"}} {getattr(endpoint.stats, field)}'
    yield from _head("bursar_request_duration_seconds", "histogram", "From the arrival of a request to its answer")
    yield from _histograms(who, endpoints)
    if service.about_process is not None:
        for name, value in service.about_process().items():
            if value is not None:
                yield from _head(f"bursar_process_{name}", "gauge", "As in the statistics of the service")
                yield f"bursar_process_{name}{{{who}}} {value}"


def _histograms(who: str, endpoints: Iterable[Endpoint]) -> Iterator[str]:
    name = "bursar_request_duration_seconds"
    for endpoint in endpoints:
        counts = endpoint.stats.histogram()
        if not counts[-1]:
            continue
        about = f'{who},verb="{endpoint.name}"'
        for bound, count in zip((*(ns / _S for ns in BOUNDS_NS), "+Inf"), counts, strict=True):
            yield f'{name}_bucket{{{about},le="{bound}"}} {count}'
        yield f"{name}_sum{{{about}}} {endpoint.stats.processing_ns / _S}"
        yield f"{name}_count{{{about}}} {counts[-1]}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
