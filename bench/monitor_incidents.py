"""Scripted incidents on real processes: how soon somebody is told, of the right cause, and how often.

Three at the same time, each with several alerts, on the rules that come with the monitor: a provider that fails in all
of its regions (reports of agents open its circuits), a host whose four GPUs fall off the bus, and a limiter that is
killed. Beside them the cost of a probe: its CPU over the whole time, and the bytes of what it sends.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench import monitor_crowd, monitor_discovery
from bench.figures import say
from bench.monitor_rig import Rig
from bursar.bus.base import Msg
from bursar.bus.codec import encode
from bursar.contracts.base import admin_subject, node_subject, observation_subject
from bursar.contracts.monitor import CpuSample, GpuSample, HostSample

WITHIN_S = 20.0
PROBED, CARDS = "probed-host", "gpu-host"


class Expected(NamedTuple):
    """An incident: the rules of its alerts, and whether an alert's subject is its cause."""

    name: str
    rules: tuple[str, ...]
    is_cause: Callable[[str], bool]


INCIDENTS = (
    Expected("provider", ("circuit-open",), lambda subject: subject == "provider"),
    Expected("gpus", ("gpu-lost",), lambda subject: subject.startswith(f"{CARDS}/")),
    Expected("limiter", ("instance-gone", "no-owner"), lambda subject: subject == "limiter/limiter-1"),
)


class Cards:
    """Sends the samples of a host with four cards."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._seq = 0
        self.lost = False

    async def run(self) -> None:
        while True:
            self._seq += 1
            cards = tuple(GpuSample(index=index, uuid=f"GPU-{index}", lost=self.lost) for index in range(4))
            cpu = CpuSample(used_permille=100, cores=8)
            sample = HostSample(boot="0" * 16, seq=self._seq, uptime_ms=self._seq * 1_000, cpu=cpu, gpus=cards)
            self._rig.bus.publish(node_subject(CARDS, "host"), encode(sample.model_dump(exclude_none=True)))
            await asyncio.sleep(1.0)


def report(rig: Rig, outcome: str) -> None:
    """What agents tell the breaker of the provider's regions."""
    deltas = [{"target": f"provider/{region}", outcome: 5} for region in ("eu", "us", "asia")]
    for agent in ("agent-1", "agent-2", "agent-3"):
        rig.bus.publish(observation_subject("breaker", "report", agent), encode({"deltas": deltas, "v": 1}))


async def run(quiet_s: float, misses: int, crowd_s: float) -> dict[str, Any]:
    """``quiet_s``: how long nothing happens after the first notifications, before they are counted; ``misses``: how
    often something is discovered before the incidents; ``crowd_s``: for how long a thousand hosts are heard after
    them."""
    with tempfile.TemporaryDirectory() as name:
        async with Rig(Path(name)) as rig:
            cards = Cards(rig)
            sending = asyncio.create_task(cards.run())
            probe = Probe(rig)
            await rig.bus.subscribe(node_subject(PROBED, "*"), probe.hear)
            await _ready(rig)
            say("--- discovery")
            found = await monitor_discovery.run(rig, misses)
            probe.start()
            say("--- three incidents at once")
            began = time.monotonic()
            rig.kill("limiter")
            cards.lost = True
            report(rig, "error")
            await _told(rig)
            await asyncio.sleep(quiet_s)
            figures = {**found, **_judged(rig, began), **probe.figures()}
            sending.cancel()
            say("--- a thousand hosts on one monitor")
            return figures | await monitor_crowd.run(rig, 1_000, crowd_s)


async def _ready(rig: Rig) -> None:
    """All are seen, no alert fires, and the provider is known to be well."""
    await rig.until("the services are seen", lambda s: {"limiter", "breaker"} <= _names(s["services"], "name", "owner"))
    rule = {"target": "provider", "consecutive": 3, "quorum": 1, "quorum_permille": 0, "open_ms": 120_000}
    await rig.ask(admin_subject("breaker", "configure", "ops"), id=f"b{secrets.token_hex(6)}", rules=[rule])
    report(rig, "ok")
    await rig.until("the hosts are seen", lambda s: {PROBED, CARDS} <= _names(s["hosts"], "host", "cores"))
    await rig.until("nothing fires", lambda s: not [row for row in s["alerts"] if row["subject"] != PROBED])
    rig.alerts.clear()
    rig.incidents.clear()


def _names(rows: list[dict[str, Any]], name: str, known: str) -> set[str]:
    """Those of which something is known."""
    return {row[name] for row in rows if row[known]}


class Probe:
    """A real probe of this machine, and what it costs."""

    def __init__(self, rig: Rig) -> None:
        self._process = psutil.Process(rig.probe(PROBED).pid)
        self._began = 0.0
        self._cpu = 0.0
        self._bytes = 0

    def hear(self, msg: Msg) -> None:
        self._bytes += len(msg.data) + len(msg.subject)

    def start(self) -> None:
        """From now on."""
        self._began, self._cpu, self._bytes = time.monotonic(), self._used(), 0

    def _used(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def figures(self) -> dict[str, float]:
        took = time.monotonic() - self._began
        return {
            "probe_seconds": round(took, 1),
            "probe_cpu_cores": round((self._used() - self._cpu) / took, 5),
            "probe_bytes_per_s": round(self._bytes / took, 1),
        }


async def _told(rig: Rig) -> None:
    """Until all have been told with their cause, or too late."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if all(_first_right(rig, incident) is not None for incident in INCIDENTS):
            return
        await asyncio.sleep(0.05)


def _first_right(rig: Rig, incident: Expected) -> float | None:
    """When the first notification named this cause."""
    for at, told in rig.incidents:
        if told["cause"]["rule"] in incident.rules and incident.is_cause(told["cause"]["subject"]):
            return at
    return None


def _judged(rig: Rig, began: float) -> dict[str, Any]:
    found = [_first_right(rig, incident) for incident in INCIDENTS]
    named = [at - began for at in found if at is not None]
    firing = sum(told["state"] == "firing" for _, told in rig.alerts)
    count = len(INCIDENTS)
    return {
        "incidents": count,
        "incidents_named": len(named),
        "notifications_per_incident": round(len(rig.incidents) / count, 3),
        "alerts_per_incident": round(firing / count, 3),
        "root_cause_within_s": round(max(named), 2) if len(named) == count else None,
    }
