"""A thousand hosts on one monitor, which is a real process: what it takes of a CPU, its memory, and how late it knows.

Every host is looked at once a second and sends what says something new, as a probe does (`bursar_monitor.pacing`). One
more sends every look with a number of its own; the *lag* is the time from its sample to the first answer of the monitor
that has that number, so a question's round trip is in it. The page is on, as it is by default: the whole picture is
drawn once a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import psutil

from bench.figures import quantile
from bench.monitor_rig import Rig
from bench.monitor_sampling import KINDS, levels, sample_of
from bursar.bus.codec import encode
from bursar.contracts.base import node_subject
from bursar.contracts.monitor import HostSample
from bursar_monitor.pacing import MOST_LOOKS, Pace

MARKED: Final = "zz-marked"
"""By its name the last of all hosts."""
WARM_S: Final = 1.0
PATIENCE_S: Final = 15.0
PAUSE_S: Final = 0.05
POLL_S: Final = 0.005


class Host:
    """One simulated host: what it would see in each second, and what of that it tells."""

    def __init__(self, number: int) -> None:
        self.name = f"crowd-{number:04d}"
        self._pace = Pace()
        self._levels = levels(KINDS[number % len(KINDS)], 3_600, random.Random(number))
        self._seq = 0
        self.first_looks = 1 + number % MOST_LOOKS
        """Before the others begin: hosts do not look in step."""

    def look(self) -> HostSample | None:
        sample = sample_of(*next(self._levels))
        if not self._pace.wants(sample):
            return None
        self._pace.took(sample)
        self._seq += 1
        return sample.model_copy(update={"seq": self._seq})


class Crowd:
    """``sent``: samples so far."""

    def __init__(self, rig: Rig, hosts: int) -> None:
        self._rig = rig
        self._hosts = [Host(number) for number in range(hosts)]
        self.sent = 0

    async def run(self) -> None:
        """Every second all look, spread over it as they would be."""
        for host in self._hosts:
            for _ in range(host.first_looks):
                self._look(host)
        while True:
            began = time.monotonic()
            for number, host in enumerate(self._hosts):
                self._look(host)
                if number % 20 == 19:
                    await asyncio.sleep(max(0.0, began + number / len(self._hosts) - time.monotonic()))
            await asyncio.sleep(max(0.0, began + 1.0 - time.monotonic()))

    def _look(self, host: Host) -> None:
        sample = host.look()
        if sample is not None:
            body = encode(sample.model_dump(exclude_none=True))
            self._rig.bus.publish(node_subject(host.name, "host"), body)
            self.sent += 1


async def run(rig: Rig, hosts: int, seconds: float) -> dict[str, float | int]:
    """``seconds``: for the costs, while nobody asks; and as long for the lag."""
    crowd = Crowd(rig, hosts)
    sending = asyncio.create_task(crowd.run())
    try:
        marked = Marked(rig)
        await marked.heard()
        await asyncio.sleep(WARM_S)
        monitor = psutil.Process(rig.processes["monitor"].pid)
        before, sent, began = monitor.cpu_times(), crowd.sent, time.monotonic()
        await asyncio.sleep(seconds)
        after, told, took = monitor.cpu_times(), crowd.sent, time.monotonic() - began
        until, lags = time.monotonic() + seconds, [await marked.lag()]
        while time.monotonic() < until:
            lags.append(await marked.lag())
        seen = marked.place
    finally:
        sending.cancel()
    if seen < hosts:
        raise RuntimeError(f"the monitor knows {seen} of {hosts} hosts")
    return {
        "crowd_hosts": hosts,
        "crowd_samples_per_s": round((told - sent) / took, 1),
        "crowd_cpu_cores": round((after.user + after.system - before.user - before.system) / took, 3),
        "crowd_rss_mib": round(monitor.memory_info().rss / 2**20, 1),
        "crowd_lag_p50_ms": round(quantile(lags, 0.5) * 1_000, 1),
        "crowd_lag_p95_ms": round(quantile(lags, 0.95) * 1_000, 1),
    }


class Marked:
    """The host whose samples are waited for. ``place``: how many hosts stand before it in the picture."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._seq = 0
        self.place = 0

    async def heard(self) -> None:
        """Until it is known."""
        self._tell()
        await self._until_known()

    async def lag(self) -> float:
        """Seconds until the picture has its next sample."""
        told = time.monotonic()
        self._tell()
        await self._until_known()
        took = time.monotonic() - told
        await asyncio.sleep(PAUSE_S)
        return took

    def _tell(self) -> None:
        self._seq += 1
        sample = sample_of(self._seq, 300, 300).model_copy(update={"seq": self._seq})
        self._rig.bus.publish(node_subject(MARKED, "host"), encode(sample.model_dump(exclude_none=True)))

    async def _until_known(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while await self._shown() != self._seq:
            if time.monotonic() > until:
                raise RuntimeError("the monitor does not hear the marked host")
            await asyncio.sleep(POLL_S)

    async def _shown(self) -> int | None:
        """Its last number; asked for as one row, once its place is known."""
        told = await self._rig.status(only="hosts", offset=self.place)
        self.place = max(0, self.place + len(told["hosts"]) + told["left_out"].get("hosts", 0) - 1)
        return next((row["cpu_permille"] for row in told["hosts"] if row["host"] == MARKED), None)
