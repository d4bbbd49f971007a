"""A fleet of any size for the monitor's page: the monitor's own decider, fed with samples and answers that are made up.

What is seen of it was decided, aged and drawn by the real code; only the fleet behind it is a story, the same for the
same seed. Used by the benchmark and the tests of the page.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, Final

from bursar.contracts.base import Message
from bursar.contracts.limiter_control import Spent
from bursar.contracts.monitor import CpuSample, DiskSample, HostSample, MemorySample, NetworkSample, PressureSample
from bursar.contracts.monitor_costs import GpuLeaseUse
from bursar.contracts.monitor_host import GroupSample, LeaseUse
from bursar.contracts.monitor_picture import BudgetRow, CircuitRow, DeviceRow, InstanceRow, QueueRow, WorkerRow
from bursar.contracts.monitor_quota import HostLease
from bursar.contracts.scheduler_explain import SlotsSpent
from bursar.kernel.decider import Accept, Command
from bursar_monitor.core import MonitorDecider
from bursar_monitor.costing import LIMITER_BOOK, SCHEDULER_BOOK
from bursar_monitor.observing import Polled, Swept
from bursar_monitor.quota_rows import lease_rows
from bursar_monitor.service import start
from bursar_monitor.settings import MonitorSettings
from bursar_monitor.state import Drawn

GIB: Final = 2**30
EVERY_MS: Final = 1_000
SERVICES: Final = ("limiter", "breaker", "gpu-manager", "scheduler", "monitor")
BUDGETS: Final = (
    ("anthropic", "requests", 4_000, 60_000),
    ("anthropic", "input_tokens", 2_000_000, 60_000),
    ("anthropic", "output_tokens", 400_000, 60_000),
    ("anthropic", "usd_micros", 250_000_000, 86_400_000),
    ("openai", "requests", 10_000, 60_000),
    ("openai", "input_tokens", 2_000_000, 60_000),
    ("research", "usd_micros", 40_000_000, 86_400_000),
)
BANDS: Final = ("reactive", "normal", "proactive", "delayed", "dead")


class Fleet:
    """``tick`` lets a second pass in which everybody is heard, and gives the picture after it."""

    def __init__(self, hosts: int = 1_000, seed: int = 1, *, quiet: bool = False) -> None:
        self.names = [f"node-{number:04d}" for number in range(1, hosts + 1)]
        self._decider = MonitorDecider()
        self._state = self._decider.initial()
        self._rng = random.Random(seed)
        self._quiet = quiet
        self._now = 1_000
        self._number = 0
        self._seconds = 0
        self._leases: tuple[str, ...] = ()
        self._load = {name: self._rng.uniform(0.55, 0.9) for name in self.names}
        for command in start(MonitorSettings(), self._state):
            self._decide("svc-monitor", command)

    def tick(self, silent: Sequence[str] = (), cpu: dict[str, int] | None = None) -> Drawn:
        """``silent``: hosts that say nothing now; ``cpu``: permille of some hosts, as they are said to be."""
        self._seconds += 1
        self._now += EVERY_MS
        for name in self.names:
            if name not in silent:
                self._decide(name, self._sample(name, (cpu or {}).get(name)))
        for service, rows in self._pages().items():
            self._decide("svc-monitor", Polled(service, rows))
        self._decide("svc-monitor", Swept(self._instances(), draw=True))
        if self._seconds % 60 == 2:
            body = HostLease(id="lease-1", host=self.names[0], cpu_milli=2_000, memory_bytes=6 * GIB, ttl_ms=60_000)
            self._decide("writer", body)
            self._leases = tuple(row["lease"] for row in lease_rows(self._state, self._now))
        self._settle()
        drawn = self._state.drawn
        assert drawn is not None
        return drawn

    # ---- the decider

    def _decide(self, principal: str, body: Any) -> None:
        self._number += 1
        command = body if isinstance(body, Command) else Command(principal, "", body)
        outcome = self._decider.decide(self._state, command, self._now, (1, 1, self._number))
        for event in outcome.events if isinstance(outcome, Accept) else ():
            self._decider.evolve(self._state, event)

    def _settle(self) -> None:
        while (command := self._decider.due(self._state, self._now)) is not None:
            self._decide(command.principal, command)

    # ---- the story

    def _wave(self, phase: float) -> float:
        return math.sin(self._seconds / 40 + phase)

    def _sample(self, name: str, cpu: int | None) -> HostSample:
        load = min(0.97, self._load[name] + 0.05 * self._wave(len(name)) + self._rng.uniform(-0.03, 0.03))
        return HostSample(
            boot="00000000000000aa",
            seq=self._seconds,
            uptime_ms=self._seconds * EVERY_MS,
            cpu=CpuSample(used_permille=round(load * 1000) if cpu is None else cpu, cores=16),
            memory=MemorySample(total_bytes=64 * GIB, available_bytes=round((1.13 - load) * 64 * GIB)),
            disk=DiskSample(total_bytes=900 * GIB, used_bytes=round(load * 600 * GIB)),
            network=NetworkSample(
                received_bytes=self._seconds * 3_000_000, sent_bytes=self._seconds * 900_000, errors=0, dropped=0
            ),
            pressure=PressureSample(cpu_permille=max(0, round((load - 0.8) * 400))),
            groups=self._groups() if name == self.names[0] else (),
            leases=tuple(self._lease_use(lease) for lease in self._leases) if name == self.names[0] else (),
        )

    def _groups(self) -> tuple[GroupSample, ...]:
        parts = (("limiter", 1, 90), ("agent.writer", 4, 640), ("agent.reader", 2, 310), ("nats", 1, 120))
        return tuple(
            GroupSample(group=group, processes=count, cpu_milli=count * 180, rss_bytes=mib * 2**20)
            for group, count, mib in parts
        )

    def _lease_use(self, lease: str) -> LeaseUse:
        busy = round(1_500 + 300 * self._wave(0))
        return LeaseUse(lease=lease, processes=4, cpu_milli=busy, memory_bytes=5 * GIB, held_by="cgroup")

    def _pages(self) -> dict[str, dict[str, list[Message]]]:
        return {
            "limiter": {"budgets": [self._budget(*row) for row in BUDGETS]},
            LIMITER_BOOK: {"spent": self._spent()},
            SCHEDULER_BOOK: {"spent": self._slots_spent()},
            "breaker": {"circuits": self._circuits()},
            "gpu-manager": {"devices": [self._device(number) for number in range(6)], "gpu_leases": self._gpu_leases()},
            "scheduler": {"queues": [self._queue(band) for band in BANDS], "workers": self._workers()},
        }

    def _budget(self, name: str, dimension: str, limit: int, window_ms: int) -> BudgetRow:
        used = round(limit * (0.9 + 0.04 * self._wave(len(name) + len(dimension))))
        waiting = 0 if self._quiet or name != "anthropic" else 14
        return BudgetRow(
            budget=name, dimension=dimension, limit=limit, window_ms=window_ms, used=used, in_flight=used // 9,
            headroom=limit - used, waiting=waiting, foreign=used // 20 if name == "openai" else 0,
        )  # fmt: skip

    def _circuits(self) -> list[Message]:
        names = ("anthropic/claude", "openai/gpt", "openai/embeddings", "search.internal", "vector-db")
        rows: list[Message] = [
            CircuitRow(target=name, state="closed", failures_permille=4, calls=900) for name in names
        ]
        if not self._quiet:
            rows[3] = CircuitRow(
                target="search.internal", state="open", cause="half of its calls fail", failures_permille=520, calls=88,
                retry_in_ms=4_000,
            )  # fmt: skip
        return rows

    def _device(self, number: int) -> DeviceRow:
        granted = (9 + 2 * number) * GIB
        return DeviceRow(
            host=self.names[number % len(self.names)], device=f"GPU-{number:08x}-aa", name="NVIDIA L4", state="ready",
            total_bytes=24 * GIB, granted_bytes=granted, observed_bytes=granted - GIB, leases=2 + number % 3,
            busy_permille=round(600 + 200 * self._wave(number)), temperature_c=58 + number, age_ms=300,
        )  # fmt: skip

    def _gpu_leases(self) -> list[Message]:
        return [
            GpuLeaseUse(
                principal=agent, purpose="inference", granted_bytes=9 * GIB, observed_bytes=round(part * 9 * GIB)
            )
            for agent, part in (("writer", 0.41), ("reader", 0.82))
        ]

    def _spent(self) -> list[Message]:
        """Money grows by the second; two workers call a provider for those whose tasks they run."""
        return [
            Spent(budget=budget, parent=team, principal=who, requests=9 * part * self._seconds,
                  input_tokens=8_100 * part * self._seconds, output_tokens=2_300 * part * self._seconds,
                  usd_micros=4_100 * part * self._seconds)
            for budget, team, who, part in (
                ("anthropic", "research", "reader", 9), ("anthropic", "product", "writer", 7),
                ("openai", "product", "coder", 5), ("openai", "product", "worker-2", 3),
            )
        ]  # fmt: skip

    def _slots_spent(self) -> list[Message]:
        return [
            SlotsSpent(team=team, agent=who, task_class=name, worker=worker, kind=kind, preemptible=kind == "gpu",
                       attempts=part * self._seconds, slot_ms=part * 700 * self._seconds, usd_micros=0)
            for team, who, name, worker, kind, part in (
                ("product", "writer", "summarise", "worker-3", "gpu", 6),
                ("product", "coder", "summarise", "worker-2", "remote", 2),
                ("research", "reader", "embed", "worker-1", "cpu", 8),
            )
        ]  # fmt: skip

    def _queue(self, band: str) -> QueueRow:
        waiting = {"reactive": 3, "normal": 41, "proactive": 210, "delayed": 6, "dead": 0}[band]
        running = {"reactive": 12, "normal": 30, "proactive": 14}.get(band, 0)
        return QueueRow(queue=band, waiting=round(waiting * (1 + 0.3 * self._wave(1))), running=running)

    def _workers(self) -> list[Message]:
        return [
            WorkerRow(worker=f"worker-{number}", kind=("gpu", "cpu", "remote")[number % 3], state="up", slots=8,
                      running=4 + number % 5, heard_ms=180)
            for number in range(1, 9)
        ]  # fmt: skip

    def _instances(self) -> list[InstanceRow]:
        return [
            InstanceRow(service=service, instance=f"{service}-{number}", version="0.1.0", owner=number == 1,
                        requests=self._seconds * (310 if number == 1 else 0), errors=0, open=2, p50_us=640,
                        p99_us=2_900 if number == 1 else None, rss_bytes=70 * 2**20, cpu_ms=self._seconds * 30)
            for service in SERVICES
            for number in (1, 2)
        ]  # fmt: skip
