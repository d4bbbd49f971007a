"""The picture: what it shows, how old it says that is, and that it fits into a message."""

from __future__ import annotations

import json
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.contracts.monitor_picture import (
    MAX_STATUS_BYTES,
    BudgetRow,
    CircuitRow,
    DeviceRow,
    QueueRow,
    StatusReply,
    WorkerRow,
)
from bursar.kernel.decider import Command, Refuse
from bursar_monitor.observing import Polled, Swept
from bursar_monitor.picture import SECTIONS, picture
from tests.monitor.fleet import BUSY, FENCE, GB, SILENT, Desk, full, instance


def whole() -> Desk:
    """A fleet of which everything is known."""
    desk = Desk(BUSY, SILENT)
    desk.observe(full(1, 1_000), "alpha")
    desk.observe(full(2, 2_000), "alpha")
    desk.sweep(instance(), instance(name="limiter-2", owner=False, p99_us=None, rss_bytes=None))
    numbers = {"limit": 9, "window_ms": 1, "used": 1, "in_flight": 0, "headroom": 8, "waiting": 2}
    budget = BudgetRow.model_validate({"budget": "b", "dimension": "requests", **numbers})
    desk.page("limiter", budgets=[budget])
    desk.page("breaker", circuits=[CircuitRow(target="p", state="open", retry_in_ms=700)])
    desk.page("gpu-manager", devices=[DeviceRow(host="g", device="GPU-9", state="ready", total_bytes=5, age_ms=300)])
    desk.page("scheduler", queues=[QueueRow(queue="reactive", waiting=3, running=4)],
              workers=[WorkerRow(worker="w", kind="gpu", state="up", slots=4, running=1, heard_ms=50)])  # fmt: skip
    return desk


def rows_of(reply: StatusReply, section: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = reply.model_dump()[section]
    return rows


def test_every_section_is_shown_with_its_numbers() -> None:
    """One message for the whole fleet, and it is the contract's."""
    reply = whole().status()
    host = reply.hosts[0]
    assert (host.cpu_permille, host.memory_used_bytes, host.disk_used_bytes, host.gpus) == (100, 75 * GB, 930, 1)
    assert (host.received_bytes_per_s, host.sent_bytes_per_s, host.disk_bytes_per_s) == (2_000, 3_000, 6_000)
    service = next(row for row in reply.services if row.name == "limiter")
    assert (service.owner, service.instances, service.requests, service.p99_us) == ("limiter-1", 2, 20, 900)
    assert (service.rss_bytes, service.answers) == (50_000, True)
    assert [row.target for row in reply.circuits] == ["p"]
    assert [row.device for row in reply.devices] == ["GPU-9"]
    assert [row.waiting for row in reply.queues] == [3]
    assert [row.worker for row in reply.workers] == ["w"]
    assert [row.rule for row in reply.rules] == ["cpu-high", "host-silent"]
    assert not reply.left_out


def test_every_number_says_how_old_it_is() -> None:
    """Ages grow while nothing is heard, by source; a number that was old when it was told is older still."""
    desk = whole()
    desk.advance(4_000)
    desk.page("breaker", circuits=[CircuitRow(target="p", state="open")])
    reply = desk.status()
    sections = ("hosts", "budgets", "instances", "queues")
    assert {row["age_ms"] for name in sections for row in rows_of(reply, name)} == {4_000}
    assert reply.circuits[0].age_ms == 0
    assert reply.devices[0].age_ms == 4_300
    assert reply.sources == {
        "limiter": 4_000, "breaker": 0, "gpu-manager": 4_000, "scheduler": 4_000, "instances": 4_000, "hosts": 4_000,
    }  # fmt: skip


def test_a_service_that_stops_answering_keeps_its_last_numbers_and_they_age() -> None:
    """Shown as not answering; its rows are not thrown away, and not shown as fresh."""
    desk = whole()
    desk.advance(6_000)
    desk.observe(Polled("limiter", None), "svc-monitor")
    reply = desk.status()
    limiter = next(row for row in reply.services if row.name == "limiter")
    assert (limiter.answers, limiter.owner, limiter.instances, limiter.age_ms) == (False, "", 0, 6_000)
    assert reply.budgets[0].age_ms == 6_000
    assert reply.hosts[0].silent


def test_what_is_not_known_is_none_and_not_zero() -> None:
    """A host of which only the silence is known, a service that never answered."""
    desk = Desk(SILENT)
    desk.sample(cpu=None)
    desk.page("limiter")
    desk.observe(Polled("breaker", None), "svc-monitor")
    reply = desk.status()
    host = reply.hosts[0]
    assert (host.cpu_permille, host.memory_used_bytes, host.disk_total_bytes, host.sent_bytes_per_s) == (None,) * 4
    assert reply.sources["breaker"] is None
    breaker = next(row for row in reply.services if row.name == "breaker")
    assert (breaker.p99_us, breaker.rss_bytes, breaker.age_ms, breaker.answers) == (None, None, None, False)
    desk.take_over()
    assert desk.status().hosts[0].age_ms is None


def test_probes_show_devices_when_no_manager_does() -> None:
    """As the driver sees them, without leases."""
    desk = Desk(SILENT)
    desk.observe(full(1), "alpha")
    (device,) = desk.status().devices
    assert (device.source, device.total_bytes, device.observed_bytes) == ("probe", 12 * GB, 3 * GB)
    assert (device.leases, device.granted_bytes) == (None, None)


@pytest.mark.parametrize("pack", [lambda reply: json.dumps(reply).encode(), msgpack.packb])
def test_the_picture_fits_into_a_message_however_large_the_fleet_is(pack: object) -> None:
    """What does not fit is counted, and can be asked for section by section."""
    desk = Desk(BUSY.model_copy(update={"hold_ms": 0}), SILENT)
    for number in range(400):
        desk.observe(full(1), f"host-{number:03}")
    reply = picture(desk.state, desk.now)
    assert callable(pack)
    assert len(pack({**reply, "fence": FENCE})) <= MAX_STATUS_BYTES
    assert reply["left_out"]["hosts"] == 400 - len(reply["hosts"])
    seen: list[str] = []
    while len(seen) < 400:
        more = desk.status(only="hosts", offset=len(seen))
        assert not more.rules
        seen.extend(row.host for row in more.hosts)
    assert sorted(seen) == [f"host-{number:03}" for number in range(400)]


def test_what_is_wrong_comes_first() -> None:
    """Alerts by severity, silent hosts before the others."""
    desk = Desk(SILENT, BUSY)
    desk.samples(3, "zeta")
    for _ in range(9):
        desk.sample("alpha", cpu=950)
        desk.advance(1_000)
    reply = desk.status()
    assert [row.host for row in reply.hosts] == ["zeta", "alpha"]
    assert [(row.severity, row.subject) for row in reply.alerts] == [("critical", "alpha"), ("warning", "zeta")]
    assert reply.alerts[0].age_ms == 1_000
    desk.take_over()
    assert desk.status().alerts[0].age_ms is None


def test_an_alert_shows_the_newest_reading() -> None:
    """Beside the limit that it is above; after a take-over the reading with which it fired, until another is heard."""
    desk = Desk(BUSY)
    desk.samples(4, cpu=950)
    desk.samples(1, cpu=990)
    (alert,) = rows_of(desk.status(), "alerts")
    assert (alert["value"], alert["at_least"], alert["age_ms"]) == (990, 900, 1_000)
    desk.take_over()
    (alert,) = rows_of(desk.status(), "alerts")
    assert (alert["value"], alert["age_ms"]) == (950, None)
    desk.sample(cpu=970)
    (alert,) = rows_of(desk.status(), "alerts")
    assert (alert["value"], alert["age_ms"]) == (970, 0)


def test_looking_changes_nothing_durable() -> None:
    """Queries and observations leave the durable state as it is."""
    desk = whole()
    before = desk.decider.dump(desk.state)
    desk.status()
    desk.observe(full(3, 3_000), "alpha")
    assert desk.decider.dump(desk.state) == before


def test_the_whole_picture_can_be_left_for_other_threads() -> None:
    """Drawn when a sweep asks for it, with every section and the samples; a later sweep draws another."""
    desk = whole()
    desk.observe(Swept((instance(),), draw=True), "svc-monitor")
    drawn = desk.state.drawn
    assert drawn is not None
    assert drawn.rows.keys() == SECTIONS.keys()
    assert drawn.samples["alpha"].seq == 2
    assert drawn.at == desk.now
    outcome = desk.decider.decide(desk.state, Command("ops", "", Swept(())), desk.now, (1, 1, 1))
    assert isinstance(outcome, Refuse)
    assert desk.state.drawn is drawn


def test_the_reply_names_every_section() -> None:
    """A section that is added has to be in the contract."""
    assert SECTIONS.keys() <= StatusReply.model_fields.keys()
