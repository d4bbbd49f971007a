"""`/metrics`, `/healthz` and `/readyz`: what they say, and that Prometheus can read it."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bursar.bus.stats import BOUNDS_NS
from bursar.client.monitor_rows import Verb
from bursar.contracts.limiter_control import Spent
from bursar_monitor.costing import LIMITER_BOOK
from bursar_monitor.health import COMMIT_MS, STALLED_MS, Health
from bursar_monitor.metrics import GAUGES, Exposition
from bursar_monitor.observing import Polled, Swept
from bursar_monitor.picture import SECTIONS
from bursar_monitor.web import TRIES, serve_http
from tests.monitor.fleet import GB, instance
from tests.monitor.test_picture import whole


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic_ms(self) -> int:
        return self.now

    def wall_ms(self) -> int:
        return self.now


def exposition() -> tuple[Exposition, Hand]:
    clock = Hand()
    return Exposition(Health(0), clock), clock


def shown() -> tuple[Exposition, Hand]:
    made, clock = exposition()
    desk = whole()
    desk.observe(Swept((instance(), instance(name="limiter-2", owner=False)), draw=True), "svc-monitor")
    made.show(desk.state.drawn)
    return made, clock


Sample = tuple[str, tuple[tuple[str, str], ...]]


def scraped(made: Exposition) -> dict[Sample, float]:
    """Name and labels -> value, as Prometheus' own parser reads them."""
    text = generate_latest(made.registry).decode()
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} comes twice"
            found[key] = sample.value
    return found


def test_every_verb_of_every_service_has_its_latencies() -> None:
    """As the statistics told them, for all instances in one scrape."""
    made, _ = shown()
    below = (*range(len(BOUNDS_NS)), 40)
    made.verbs = {("limiter", "l-1"): [Verb("reserve", 41, 1, 2_000_000_000, below)]}
    found = scraped(made)
    who = (("instance", "l-1"), ("service", "limiter"), ("verb", "reserve"))
    name = "bursar_request_duration_seconds"
    assert found[f"{name}_count", who] == 40
    assert found[f"{name}_sum", who] == 2.0
    assert found[f"{name}_bucket", (who[0], ("le", "0.001"), *who[1:])] == 3


def test_the_picture_is_told_in_base_units() -> None:
    """Bytes, seconds, ratios; counters end in _total; what is not known has no sample."""
    found = scraped(shown()[0])
    alpha = (("host", "alpha"),)
    assert found["bursar_host_cpu_utilization_ratio", alpha] == pytest.approx(0.1)
    assert found["bursar_host_memory_used_bytes", alpha] == 75 * GB
    assert found["bursar_host_network_receive_bytes_total", alpha] == 4_000
    assert found["bursar_host_samples_total", alpha] == 2
    assert ("bursar_host_load1", alpha) not in found
    b = (("budget", "b"), ("dimension", "requests"))
    assert (found["bursar_budget_limit", b], found["bursar_budget_used", b]) == (9, 1)
    assert found["bursar_circuit_state", (("state", "open"), ("target", "p"))] == 1
    assert found["bursar_circuit_state", (("state", "closed"), ("target", "p"))] == 0
    one = (("instance", "limiter-1"), ("service", "limiter"))
    assert found["bursar_instance_requests_total", one] == 10
    assert found["bursar_instance_latency_p99_seconds", one] == pytest.approx(0.0009)
    assert found["bursar_service_has_owner", (("service", "limiter"),)] == 1
    assert found["bursar_gpu_state", (("device", "GPU-9"), ("host", "g"), ("state", "ready"))] == 1
    assert found["bursar_queue_waiting_tasks", (("queue", "reactive"),)] == 3
    assert found["bursar_worker_slots", (("kind", "gpu"), ("worker", "w"))] == 4
    assert any(name == "process_cpu_seconds_total" for name, _ in found)


def test_money_is_told_by_team_and_model() -> None:
    """In dollars; agents would be too many series."""
    made, _ = exposition()
    desk = whole()
    calls = [
        Spent(
            budget="gpt", parent="red", principal=who, requests=1, input_tokens=1, output_tokens=1, usd_micros=250_000
        )
        for who in ("ann", "bob")
    ]
    desk.observe(Polled(LIMITER_BOOK, {"spent": calls}), "svc-monitor")
    desk.observe(Swept((instance(),), draw=True), "svc-monitor")
    made.show(desk.state.drawn)
    assert scraped(made)["bursar_cost_usd_total", (("model", "gpt"), ("source", "api"), ("team", "red"))] == 0.5


def test_ages_go_on_between_two_pictures() -> None:
    """A picture that is not drawn any more grows old in the exposition, too."""
    made, clock = shown()
    clock.now = 7_000
    found = scraped(made)
    assert found["bursar_host_age_seconds", (("host", "alpha"),)] == 7
    assert found["bursar_gpu_age_seconds", (("device", "GPU-9"), ("host", "g"))] == pytest.approx(7.3)
    assert found["bursar_source_age_seconds", (("source", "limiter"),)] == 7


def test_a_standby_tells_only_of_itself() -> None:
    """It has no picture; so nothing is told twice when both instances are scraped."""
    made, clock = shown()
    made.show(None)
    found = scraped(made)
    assert found["bursar_monitor_owner", ()] == 0
    assert not any(name.startswith(("bursar_host", "bursar_budget")) for name, _ in found)
    assert clock.now == 0


def test_names_keep_the_conventions_of_prometheus() -> None:
    """One prefix, base units, _total for counters only, and each field exists in its section's rows."""
    desk = whole()
    desk.observe(Swept((instance(),), draw=True), "svc-monitor")
    drawn = desk.state.drawn
    assert drawn is not None
    for gauge in GAUGES:
        assert gauge.name.startswith("bursar_")
        assert gauge.name.endswith("_total") == gauge.counter
        assert not gauge.name.endswith(("_ms", "_permille", "_us", "_percent"))
        assert gauge.section in SECTIONS
        assert all(gauge.field in row for row in drawn.rows[gauge.section])
    assert len({gauge.name for gauge in GAUGES}) == len(GAUGES)


def test_labels_with_any_text_can_be_read_back() -> None:
    """Quotes, backslashes and line ends in a subject do not break the page."""
    made, _ = shown()
    drawn = made._shown
    assert drawn is not None
    row = {**drawn[0].rows["circuits"][0], "target": 'a"b\\c\nd'}
    made._shown = (drawn[0]._replace(rows={**drawn[0].rows, "circuits": [row]}), 0)
    assert ("bursar_circuit_state", (("state", "open"), ("target", 'a"b\\c\nd'))) in scraped(made)


@pytest.fixture
def server() -> Iterator[tuple[str, Exposition, Hand]]:
    made, clock = shown()
    port = free_port()
    running = serve_http("127.0.0.1", port, made)
    assert running is not None
    yield f"http://127.0.0.1:{running.server_port}", made, clock
    running.shutdown()
    running.server_close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def get(url: str, method: str = "GET") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_pages_are_served(server: tuple[str, Exposition, Hand]) -> None:
    """Metrics as text, health as JSON with the status in the number; nothing else."""
    url, _, _ = server
    status, page = get(f"{url}/metrics")
    assert status == 200
    assert list(text_string_to_metric_families(page.decode()))
    assert get(f"{url}/healthz")[0] == 200
    status, body = get(f"{url}/readyz")
    assert (status, json.loads(body)["role"]) == (503, "loading")
    assert get(f"{url}/")[0] == 404
    assert get(f"{url}/metrics", "POST")[0] == 405


def test_health_follows_the_event_loop(server: tuple[str, Exposition, Hand]) -> None:
    """An event loop that stands still is not alive, even though the threads still answer."""
    url, made, clock = server
    made._health.note(clock.now, "owner", True, 5)
    assert get(f"{url}/readyz")[0] == 200
    clock.now = STALLED_MS
    assert get(f"{url}/healthz")[0] == 503
    assert get(f"{url}/readyz")[0] == 503


def test_ready_means_of_use() -> None:
    """Connected, in office or standing by, and a journal that moves."""
    health = Health(0)
    assert health.last_commit_age(0) is None
    health.note(10, "standby", True, 4)
    assert health.is_ready(10)
    assert health.last_commit_age(25) == 15
    facts: list[tuple[Any, ...]] = [("recovering", True), ("owner", False), ("loading", True)]
    for role, connected in facts:
        health.note(20, role, connected, 4)
        assert not health.is_ready(20)
    health.note(10 + COMMIT_MS, "owner", True, 4)
    assert health.is_alive(10 + COMMIT_MS)
    assert not health.is_ready(10 + COMMIT_MS)


def test_a_port_that_is_taken_is_no_reason_to_fail(caplog: pytest.LogCaptureFixture) -> None:
    """The next one is taken and both are logged; 0 means off; when none is free the pages are off."""
    made, _ = exposition()
    assert serve_http("127.0.0.1", 0, made) is None
    first = serve_http("127.0.0.1", free_port(), made)
    assert first is not None
    second = serve_http("127.0.0.1", first.server_port, made)
    assert second is not None
    assert first.server_port < second.server_port < first.server_port + TRIES
    assert any(record.getMessage() == "metrics_port_in_use" for record in caplog.records)
    for server in (first, second):
        server.shutdown()
        server.server_close()
    assert serve_http("192.0.2.1", 65_535, made) is None
    assert caplog.records[-1].getMessage() == "metrics_off"
