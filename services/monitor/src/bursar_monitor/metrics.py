"""The picture as Prometheus metrics: base units, counters that end in ``_total``, ratios from 0 to 1.

The table `GAUGES` says which number of which row becomes which metric. A number that is not known has no sample. Each
row's age is a metric of its own (``..._age_seconds``), so that a rule can tell old from quiet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bursar.bus.stats import BOUNDS_NS
from bursar.client.monitor_rows import Verb
from bursar.contracts.breaker import CircuitName
from bursar.contracts.monitor import HostSample
from bursar.kernel.clock import Clock
from bursar_monitor.health import Health
from bursar_monitor.state import Drawn

CIRCUIT_STATES: Final[tuple[str, ...]] = get_args(CircuitName)

Row = Mapping[str, Any]


class Gauge(NamedTuple):
    """One metric of one section. ``scale``: what the row's number is multiplied by; ``field`` of the row."""

    section: str
    name: str
    help: str
    field: str
    labels: tuple[str, ...]
    scale: float = 1.0
    counter: bool = False


def _all(section: str, prefix: str, labels: tuple[str, ...], *rows: tuple[Any, ...]) -> Iterator[Gauge]:
    """(name after the prefix, help, field, scale, whether it is a counter); the last two may be left out."""
    for name, text, field, *rest in rows:
        yield Gauge(section, f"{prefix}_{name}", text, field, labels, *rest)
    yield Gauge(section, f"{prefix}_age_seconds", "Age of the numbers of this row", "age_ms", labels, 0.001)


GAUGES: Final[tuple[Gauge, ...]] = (
    *_all(
        "hosts", "bursar_host", ("host",),
        ("silent", "1 when the host's probe is not heard", "silent"),
        ("cpu_utilization_ratio", "CPU in use", "cpu_permille", 0.001),
        ("cpu_cores", "CPUs", "cores"),
        ("load1", "Load average of a minute", "load1_milli", 0.001),
        ("cpu_pressure_ratio", "Share of ten seconds in which tasks waited for a CPU", "pressure_permille", 0.001),
        ("memory_total_bytes", "Memory", "memory_total_bytes"),
        ("memory_used_bytes", "Memory that is not available", "memory_used_bytes"),
        ("disk_total_bytes", "Size of the file system", "disk_total_bytes"),
        ("disk_used_bytes", "Space in use", "disk_used_bytes"),
        ("probe_cpu_seconds_total", "CPU that the probe itself has used", "probe_cpu_ms", 0.001, True),
        ("samples_total", "Samples received, each once", "samples", 1.0, True),
        ("samples_repeated_total", "Samples that came again", "repeated", 1.0, True),
        ("samples_late_total", "Samples that came after a newer one", "late", 1.0, True),
        ("samples_missed", "Samples that have not come", "missed"),
    ),
    *_all(
        "devices", "bursar_gpu", ("host", "device"),
        ("memory_total_bytes", "Memory of the device", "total_bytes"),
        ("memory_granted_bytes", "Memory given to leases", "granted_bytes"),
        ("memory_observed_bytes", "Memory that the driver says is in use", "observed_bytes"),
        ("leases", "Leases on the device", "leases"),
        ("utilization_ratio", "Share of time in which a kernel ran", "busy_permille", 0.001),
        ("temperature_celsius", "Temperature", "temperature_c"),
    ),
    *(
        Gauge("slos", f"bursar_slo_{name}", text, field, ("slo", "subject"), scale)
        for name, text, field, scale in (
            ("objective_ratio", "Share of readings that is to be good", "objective_ppm", 1e-6),
            ("error_budget_left_ratio", "What is left of the error budget of 30 days", "left_permille", 0.001),
            ("p95_seconds", "95th percentile of a duration, of the last half hour to hour", "p95_ms", 0.001),
            ("burn_rate_1h", "Burn rate of the last hour and 5 minutes, the smaller one", "burn_1h", 0.001),
            ("burn_rate_6h", "Burn rate of the last 6 hours and 30 minutes, the smaller one", "burn_6h", 0.001),
            ("burn_rate_1d", "Burn rate of the last day and 2 hours, the smaller one", "burn_1d", 0.001),
            ("burn_rate_3d", "Burn rate of the last 3 days and 6 hours, the smaller one", "burn_3d", 0.001),
        )
    ),
    *_all(
        "scaling", "bursar_pool", ("pool",),
        ("desired_workers", "How many workers there should be", "desired"),
        ("current_workers", "How many workers there are", "current"),
        ("least_workers", "Never fewer than these", "least"),
        ("most_workers", "Never more than these", "most"),
        ("forecast_slots", "Demand that is forecast, in slots", "forecast"),
        ("forecast_error_slots", "Mean absolute error of the seasonal forecast", "forecast_error_milli", 0.001),
        ("naive_error_slots", "Mean absolute error of the naive forecast", "naive_error_milli", 0.001),
    ),
    *_all(
        "budgets", "bursar_budget", ("budget", "dimension"),
        ("limit", "Limit, in the dimension's unit per window", "limit"),
        ("used", "What counts against the limit now", "used"),
        ("in_flight", "Reserved by calls that have not ended", "in_flight"),
        ("headroom", "What can still be granted", "headroom"),
        ("waiting_requests", "Requests that stand in the budget's line", "waiting"),
    ),
    *_all(
        "queues", "bursar_queue", ("queue",),
        ("waiting_tasks", "Tasks that wait", "waiting"),
        ("running_tasks", "Tasks that run", "running"),
    ),
    *_all(
        "workers", "bursar_worker", ("worker", "kind"),
        ("slots", "Tasks that the worker takes at a time", "slots"),
        ("slots_used", "Slots that are taken", "running"),
        ("heard_seconds", "Since its last sign of life", "heard_ms", 0.001),
    ),
    *_all(
        "services", "bursar_service", ("service",),
        ("instances", "Instances that answer", "instances"),
    ),
    *_all(
        "instances", "bursar_instance", ("service", "instance"),
        ("owner", "1 for the instance that takes requests", "owner"),
        ("requests_total", "Requests received", "requests", 1.0, True),
        ("errors_total", "Requests answered with an error", "errors", 1.0, True),
        ("open_requests", "Requests that wait for their answer", "open"),
        ("resident_memory_bytes", "Resident memory of the process", "rss_bytes"),
        ("cpu_seconds_total", "CPU that the process has used", "cpu_ms", 0.001, True),
        ("latency_p50_seconds", "Median time to the answer, of the busiest endpoint", "p50_us", 1e-6),
        ("latency_p99_seconds", "99th percentile of the time to the answer, of the slowest endpoint", "p99_us", 1e-6),
    ),
)  # fmt: skip

HOST_COUNTERS: Final[tuple[tuple[str, str, Callable[[HostSample], int | None]], ...]] = (
    ("bursar_host_network_receive_bytes", "Bytes received", lambda s: s.network.received_bytes if s.network else None),
    ("bursar_host_network_transmit_bytes", "Bytes sent", lambda s: s.network.sent_bytes if s.network else None),
    ("bursar_host_network_errors", "Errors of the interfaces", lambda s: s.network.errors if s.network else None),
    ("bursar_host_network_dropped", "Packets dropped", lambda s: s.network.dropped if s.network else None),
    ("bursar_host_disk_read_bytes", "Bytes read from disks", lambda s: s.disk.read_bytes if s.disk else None),
    ("bursar_host_disk_written_bytes", "Bytes written to disks", lambda s: s.disk.written_bytes if s.disk else None),
)
"""What hosts have counted since they started (``_total`` is added)."""


class Exposition(Collector):
    """What a scrape tells: the newest picture that was shown, and the instance itself. Read by other threads."""

    def __init__(self, health: Health, clock: Clock) -> None:
        self._health = health
        self._clock = clock
        self._shown: tuple[Drawn, int] | None = None
        self.verbs: Mapping[tuple[str, str], Sequence[Verb]] = {}
        """What each instance (service, instance) has counted of its verbs, at the last look."""
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def show(self, drawn: Drawn | None) -> None:
        """The newest picture; None when this instance has none to show."""
        if drawn is None:
            self._shown = None
        elif self._shown is None or self._shown[0] is not drawn:
            self._shown = (drawn, self._clock.monotonic_ms())

    def facts(self) -> dict[str, Any]:
        return self._health.facts(self._clock.monotonic_ms())

    def describe(self) -> list[Metric]:
        """Not collected at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        now, shown = self._clock.monotonic_ms(), self._shown
        yield from self._own(now, shown)
        if shown is not None:
            drawn, at = shown
            yield from picture_metrics(drawn, max(0, now - at))
            yield _verbs(self.verbs)

    def _own(self, now: int, shown: tuple[Drawn, int] | None) -> Iterator[Metric]:
        yield GaugeMetricFamily("bursar_monitor_owner", "1 on the instance that decides", int(shown is not None))
        yield GaugeMetricFamily(
            "bursar_monitor_ready", "1 when connected, in office or standing by", int(self._health.is_ready(now))
        )
        committed = self._health.last_commit_age(now)
        if committed is not None:
            text = "Since the journal was last seen to move"
            yield GaugeMetricFamily("bursar_monitor_last_commit_age_seconds", text, committed / 1000)


def picture_metrics(drawn: Drawn, later: int) -> Iterator[Metric]:
    """All metrics of a picture that was drawn ``later`` ms ago."""
    for gauge in GAUGES:
        yield _family(gauge, drawn.rows.get(gauge.section, ()), later if gauge.field == "age_ms" else 0)
    yield from _host_counters(drawn.samples)
    yield _circuits(drawn.rows.get("circuits", ()))
    yield _devices(drawn.rows.get("devices", ()))
    yield _owners(drawn.rows.get("services", ()))
    yield _alerts(drawn.rows.get("alerts", ()))
    yield _costs(drawn.rows.get("costs", ()))
    yield _savings(drawn.rows.get("savings", ()))
    ages = GaugeMetricFamily("bursar_source_age_seconds", "Since a source was last heard", labels=["source"])
    for source, age in drawn.sources.items():
        if age is not None:
            ages.add_metric([source], (age + later) / 1000)
    yield ages


def _family(gauge: Gauge, rows: Sequence[Row], add: int) -> Metric:
    kind = CounterMetricFamily if gauge.counter else GaugeMetricFamily
    family = kind(gauge.name.removesuffix("_total"), gauge.help, labels=list(gauge.labels))
    names = ["name" if label == "service" and gauge.section == "services" else label for label in gauge.labels]
    for row in rows:
        value = row[gauge.field]
        if value is not None:
            family.add_metric([str(row[name]) for name in names], (value + add) * gauge.scale)
    return family


def _host_counters(samples: Mapping[str, HostSample]) -> Iterator[Metric]:
    for name, text, read in HOST_COUNTERS:
        family = CounterMetricFamily(name, text, labels=["host"])
        for host, sample in samples.items():
            value = read(sample)
            if value is not None:
                family.add_metric([host], value)
        yield family


def _verbs(instances: Mapping[tuple[str, str], Sequence[Verb]]) -> Metric:
    labels = ["service", "instance", "verb"]
    name, text = "bursar_request_duration_seconds", "From the arrival of a request to its answer"
    family = HistogramMetricFamily(name, text, labels=labels)
    bounds = [*(str(ns / 1e9) for ns in BOUNDS_NS), "+Inf"]
    for (service, instance), verbs in instances.items():
        for verb in verbs:
            buckets = list(zip(bounds, verb.below, strict=True))
            family.add_metric([service, instance, verb.name], buckets, verb.total_ns / 1e9)
    return family


def _circuits(rows: Sequence[Row]) -> Metric:
    family = GaugeMetricFamily("bursar_circuit_state", "1 for the state of the circuit", labels=["target", "state"])
    for row in rows:
        for state in CIRCUIT_STATES:
            family.add_metric([row["target"], state], int(row["state"] == state))
    return family


def _devices(rows: Sequence[Row]) -> Metric:
    labels = ["host", "device", "state"]
    family = GaugeMetricFamily("bursar_gpu_state", "1 for the state of the device", labels=labels)
    for row in rows:
        family.add_metric([row["host"], row["device"], row["state"]], 1)
    return family


def _owners(rows: Sequence[Row]) -> Metric:
    family = GaugeMetricFamily("bursar_service_has_owner", "1 when an instance takes requests", labels=["service"])
    for row in rows:
        family.add_metric([row["name"]], int(bool(row["owner"])))
    return family


def _alerts(rows: Sequence[Row]) -> Metric:
    labels = ["rule", "subject", "severity", "silenced"]
    family = GaugeMetricFamily("bursar_alert_firing", "1 while an alert fires", labels=labels)
    for row in rows:
        family.add_metric([row["rule"], row["subject"], row["severity"], str(row["silenced"]).lower()], 1)
    return family


def _costs(rows: Sequence[Row]) -> Metric:
    """By team and model; agents would be too many series."""
    text = "Money spent since the ledgers began, as far as it has a price"
    family = CounterMetricFamily("bursar_cost_usd", text, labels=["team", "model", "source"])
    sums: dict[tuple[str, str, str], int] = {}
    for row in rows:
        key = (row["team"], row["model"], row["source"])
        sums[key] = sums.get(key, 0) + (row["usd_micros"] or 0)
    for labels, micros in sums.items():
        family.add_metric(list(labels), micros / 1e6)
    return family


def _savings(rows: Sequence[Row]) -> Metric:
    family = GaugeMetricFamily("bursar_saved_usd", "Money saved against another way", labels=["against"])
    for row in rows:
        if row["usd_micros"] is not None:
            family.add_metric([row["saving"]], row["usd_micros"] / 1e6)
    return family
