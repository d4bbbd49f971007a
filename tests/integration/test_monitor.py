"""The monitor as processes: a real probe, real services, HTTP, kills, and who may say what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bursar.bus.base import PermissionDenied
from bursar.bus.codec import encode
from bursar.contracts.base import admin_subject, event_subject, node_subject
from bursar.contracts.monitor import Acknowledge, Silence
from bursar.errors import BursarError
from tests.integration.monitor_site import HOST, Site
from tests.integration.support import ROOT, TAKEOVER_SECONDS, until
from tests.monitor.fleet import sample

pytestmark = pytest.mark.integration


async def test_samples_of_a_real_host_reach_prometheus(tmp_path: Path) -> None:
    """Probe, monitor, `/metrics` scraped and parsed; services with their owners; health; a standby tells of itself."""
    async with Site(tmp_path) as site:
        await site.start("monitor", "m-1")
        await site.start("monitor", "m-2")
        await site.start("limiter", "l-1")
        site.start_node()
        reply = await site.sees(lambda r: r.budgets and r.hosts and r.hosts[0].samples > 5, 15, "all are seen")
        host = reply.hosts[0]
        assert host.host == HOST
        assert (host.repeated, host.late, host.missed) == (0, 0, 0)
        assert host.age_ms is not None
        assert host.age_ms < 2_000
        assert {row.name: row.owner for row in reply.services if row.owner} == {"limiter": "l-1", "monitor": "m-1"}
        assert reply.sources["scheduler"] is None
        await until(lambda: bool(site.instances["m-2"].events("metrics_ready")), 5, "the standby serves its pages")
        found = await _until_metric(site, f"bursar_host_samples_total{{host={HOST}}}")
        assert found[f"bursar_host_samples_total{{host={HOST}}}"] > 5
        assert found[f"bursar_host_memory_total_bytes{{host={HOST}}}"] == host.memory_total_bytes
        assert found["bursar_service_has_owner{service=limiter}"] == 1
        assert any(name.startswith("bursar_budget_limit{") for name in found)
        assert found["bursar_monitor_owner{}"] == 1
        standby = await site.metrics("m-2")
        assert standby["bursar_monitor_owner{}"] == 0
        assert not any(name.startswith("bursar_host") for name in standby)
        for name in ("m-1", "m-2"):
            status, body = await site.page(name, "/readyz")
            assert (status, json.loads(body)["ready"]) == (200, True)
            assert (await site.page(name, "/healthz"))[0] == 200


async def _until_metric(site: Site, name: str) -> dict[str, float]:
    deadline = time.monotonic() + 5
    while True:
        found = await site.metrics("m-1")
        if found.get(name, 0) > 5 or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.1)


async def test_a_killed_monitor_loses_no_alert_and_no_silence(tmp_path: Path) -> None:
    """kill -9 of the owner: its heir shows the alert that fires, acknowledged; the silence holds; the alert's end is
    told, signed, once; and a host that falls silent in the moment of the kill is missed."""
    async with Site(tmp_path) as site:
        await site.start("monitor", "m-1")
        await site.start("monitor", "m-2")
        site.start_node()
        await site.sees(lambda r: r.hosts, 10, "the host is heard")
        site.stop_node()
        reply = await site.sees(lambda r: r.alerts, 10, "the silent host is an alert")
        await until(lambda: len(site.told) == 1, 3, "it is told")
        alert = reply.alerts[0].alert
        await site.ask("acknowledge", Acknowledge(id="a-1", alert=alert, note="on it"))
        silence = await site.ask("silence", Silence(id="s-1", rule="no-owner", for_ms=600_000, reason="test"))
        killed = time.monotonic()
        site.instances["m-1"].kill()
        heir = await site.sees(lambda r: True, 10, "the heir answers")
        took = time.monotonic() - killed
        assert took <= TAKEOVER_SECONDS + 0.5, took
        assert [(row.alert, row.acknowledged_by) for row in heir.alerts] == [(alert, "ops")]
        assert [row.silence for row in heir.silences] == [silence["silence"]]
        again = await site.ask("silence", Silence(id="s-1", rule="no-owner", for_ms=600_000, reason="test"))
        assert again["silence"] == silence["silence"], "a retry gets the same answer from the heir"
        site.start_node()
        await site.sees(lambda r: not r.alerts, 10, "the host is back")
        await until(lambda: len(site.told) == 2, 3, "the end is told")
        assert [(told.state, told.alert) for told in site.told] == [("firing", alert), ("resolved", alert)]
        await site.start("monitor", "m-1")
        site.instances["m-2"].kill()
        site.stop_node()
        await site.sees(lambda r: r.alerts, 10, "the host that fell silent during the take-over is missed")


async def test_a_service_without_owner_is_an_alert_and_a_silence_mutes_it(tmp_path: Path) -> None:
    """The limiter is killed twice: the first time it is told, the second time a silence covers it."""
    async with Site(tmp_path) as site:
        await site.start("monitor", "m-1")
        await site.start("limiter", "l-1")
        await site.sees(lambda r: any(row.owner for row in r.services if row.name == "limiter"), 10, "it is seen")
        site.instances["l-1"].kill()
        await site.sees(lambda r: any(row.rule == "no-owner" for row in r.alerts), 10, "it is missed")
        await site.start("limiter", "l-1")
        await site.sees(lambda r: not r.alerts, 10, "it is back")
        assert [(told.rule, told.subject, told.state) for told in site.told] == [
            ("no-owner", "limiter", "firing"), ("no-owner", "limiter", "resolved"),
        ]  # fmt: skip
        await site.ask("silence", Silence(id="s-1", subject="lim*", for_ms=600_000))
        site.instances["l-1"].kill()
        reply = await site.sees(lambda r: r.alerts, 10, "it is missed again")
        assert reply.alerts[0].silenced
        assert len(site.told) == 2


async def test_nobody_speaks_for_a_host_or_silences_without_being_allowed(tmp_path: Path) -> None:
    """An agent may neither publish samples, nor silence, nor broadcast alerts; a host only its own samples."""
    async with Site(tmp_path) as site:
        await site.start("monitor", "m-1")
        ann, node = await site.bus("ann"), await site.bus(HOST)
        denied: list[str] = []
        for bus in (ann, node):
            bus.on_trouble = lambda kind, what: denied.append(f"{kind} {what}")
        payload = encode(sample(1))
        forbidden = [
            (ann, node_subject(HOST, "host")),
            (ann, node_subject("ann", "host")),
            (ann, event_subject("monitor", "alert", "host-silent")),
            (ann, admin_subject("monitor", "silence", "ann")),
            (ann, admin_subject("monitor", "silence", "ops")),
            (node, node_subject("host-b", "host")),
            (node, admin_subject("monitor", "forget", HOST)),
        ]
        for bus, subject in forbidden:
            bus.publish(subject, payload)
        for bus in (ann, node):
            await bus.flush()
        await until(lambda: len(denied) == len(forbidden), 3, f"the server refuses all: {denied}")
        assert {line.partition(" ")[2] for line in denied} == {subject for _, subject in forbidden}
        with pytest.raises((BursarError, PermissionDenied)):
            await site.ask("silence", Silence(id="s-1", for_ms=60_000), "ann")
        node.publish(node_subject(HOST, "host"), payload)
        node.publish(node_subject(HOST, "host"), b"\x81garbage")
        node.publish(node_subject(HOST, "host"), payload)
        reply = await site.sees(lambda r: r.hosts and r.hosts[0].repeated, 5, "its own samples are heard")
        assert [(row.host, row.samples) for row in reply.hosts] == [(HOST, 1)]
        assert not reply.silences


async def test_bursar_top_prints_one_frame_of_a_real_fleet(tmp_path: Path) -> None:
    """As a command, with the operator's credentials of the home: first without the monitor, then with it."""
    async with Site(tmp_path) as site:
        await site.start("limiter", "l-1")
        seen = json.loads(await _top(site, "--json"))
        assert seen["answers"]["limiter"]
        assert not seen["answers"]["monitor"]
        assert seen["budgets"]
        assert seen["hosts"] == []
        text = await _top(site)
        assert "no answer from" in text
        assert "the monitor does not answer" in text
        await site.start("monitor", "m-1")
        site.start_node()
        await site.sees(lambda r: r.hosts and r.hosts[0].cpu_permille is not None, 10, "the host is heard")
        text = await _top(site)
        assert HOST in text
        assert "l-1" in text
        await asyncio.to_thread(_watch_and_quit, site)


def _watch_and_quit(site: Site) -> None:
    """In a terminal it draws frame after frame until somebody presses q."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "bursar.cli.main", "top", "--interval", "0.2", "--url", site.server.url]
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    command += ["--home", str(site.home.path)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=env) as process:
        os.close(slave)
        screen, deadline = b"", time.monotonic() + 15
        while screen.count(b"bursar top") < 3 and time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                screen += os.read(master, 65_536)
        assert screen.count(b"bursar top") >= 3, screen[-500:]
        os.write(master, b"q")
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    os.read(master, 65_536)
        assert process.wait(1) == 0
    os.close(master)


async def _top(site: Site, *options: str) -> str:
    command = [sys.executable, "-m", "bursar.cli.main", "top", "--once", "--url", site.server.url]
    env = {key: value for key, value in os.environ.items() if not key.startswith("BURSAR_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--home", str(site.home.path), *options],
        capture_output=True, text=True, check=False, timeout=30, cwd=ROOT, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
