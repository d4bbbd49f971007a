"""Hosts with simulated cards for the tests against a real server: their probes, and holders that really allocate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bursar.client.fleet import Fleet
from bursar.client.gpu import Gpu
from bursar.client.gpu_errors import GpuRefused, GpuUnavailable
from bursar.client.gpu_lease import GpuLease
from bursar.contracts.gpu import StatusReply
from bursar_gpu_manager.core import GpuDecider
from bursar_gpu_manager.node import Probe
from bursar_gpu_manager.simulated import SimulatedHost, simulated_host
from tests.integration.support import Rig

GIB = 1024**3
INTERVAL = 0.1


def manager(directory: Path, **env: str) -> Rig:
    return Rig(directory, module="bursar_gpu_manager", service="gpu-manager", decider=GpuDecider, env=env)


class Hosts:
    """Probes of simulated hosts, each on its own connection."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.hosts: dict[str, SimulatedHost] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, what: str) -> SimulatedHost:
        self.hosts[name] = simulated_host(name, what)
        await self.start_probe(name)
        return self.hosts[name]

    async def start_probe(self, name: str) -> None:
        probe = Probe(await self.rig.bus(name), self.hosts[name], INTERVAL)
        self._probes[name] = asyncio.get_running_loop().create_task(probe.run())

    async def stop_probe(self, name: str) -> None:
        probe = self._probes.pop(name)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

    async def close(self) -> None:
        for name in list(self._probes):
            await self.stop_probe(name)

    def judged(self) -> dict[str, int]:
        """What the simulated drivers have counted."""
        hosts = self.hosts.values()
        return {
            "violations": sum(len(host.violations) for host in hosts),
            "out_of_memory": sum(host.out_of_memory for host in hosts),
            "allocations": sum(host.allocations for host in hosts),
        }


@asynccontextmanager
async def hosts_of(rig: Rig, **hosts: str) -> AsyncIterator[Hosts]:
    """``h1="2x16GiB"``: returns when the manager has the devices and room on them."""
    found = Hosts(rig)
    try:
        for name, what in hosts.items():
            await found.add(name, what)
        async with Fleet(None, bus=await rig.bus("watcher")) as fleet:
            count = sum(len(host.devices) for host in found.hosts.values())
            await when(fleet.gpu, lambda told: sum(device.fresh for device in told.devices) == count)
        yield found
    finally:
        await found.close()


async def when(gpu: Gpu, check: Callable[[StatusReply], bool], within: float = 10.0) -> StatusReply:
    """Ask for the status until it is as wanted."""
    async with asyncio.timeout(within):
        while not check(status := await gpu.status()):  # noqa: ASYNC110 - the manager tells when asked
            await asyncio.sleep(0.02)
    return status


class Holder:
    """An agent that leases, allocates what it was granted on the simulated card, holds it, frees it, and again."""

    def __init__(self, hosts: Hosts, fleet: Fleet, memory: int, devices: int = 1, ttl: float = 2.0) -> None:
        self.hosts = hosts
        self.gpu = fleet.gpu
        self.memory = memory
        self.devices = devices
        self.ttl = ttl
        self.turns = 0
        self.lost: list[str] = []
        self.fences: list[tuple[int, int, int]] = []

    async def work(self) -> None:
        while True:
            with suppress(GpuRefused, GpuUnavailable):
                async with self.gpu.lease(self.memory, devices=self.devices, ttl=self.ttl, wait=5.0) as lease:
                    self.fences.append(lease.fence_numbers)
                    await self._use(lease)
                    self.turns += 1

    async def _use(self, lease: GpuLease) -> None:
        """Load bit by bit, as long as the lease holds."""
        host = self.hosts.hosts[lease.host]
        pid, started = host.start()
        try:
            await lease.bind((pid, started))
            for _ in range(4):
                for held in lease.devices:
                    lease.check()
                    host.allocate(pid, held.uuid, self.memory // 4)
                await asyncio.sleep(0.02)
            lease.check()
        except Exception as error:  # noqa: BLE001 - whatever ends it: the memory goes back
            self.lost.append(type(error).__name__)
        finally:
            host.exit(pid)
