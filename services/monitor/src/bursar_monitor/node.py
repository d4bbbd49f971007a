"""``bursar-node`` (or ``python -m bursar_monitor.node``): the probe of one host.

Looks once a second and publishes what says something new (`pacing`), as the principal whose name is the host's. It
decides nothing and keeps nothing but its newest samples, which go out with the next one. Told by environment variables:

    bursar agent add gpu-host-1 --role node
    BURSAR_CREDS=.bursar/creds/gpu-host-1.creds bursar-node
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from bursar.bus.base import Bus, BusError
from bursar.bus.connection import connect
from bursar.client.target import principal_of
from bursar.contracts.base import PRINCIPAL, node_subject
from bursar.contracts.monitor_batch import BATCH_KIND, Packer
from bursar.errors import BursarError
from bursar.kernel.clock import SystemClock
from bursar.kernel.settings import told
from bursar.telemetry.logs import to_stderr
from bursar_monitor.cgroups import Cgroups
from bursar_monitor.host_limits import Enforcer
from bursar_monitor.host_plan import Planner
from bursar_monitor.nvml import Gpus, library
from bursar_monitor.pacing import MOST_LOOKS
from bursar_monitor.probe import Probe
from bursar_monitor.processes import Processes

log = logging.getLogger("bursar.node")

GLANCES = 2
"""In so many parts the time between two looks is cut, to look at the processes alone."""
GLANCES_RESTLESS = 4
"""The same, for a while after one of them has crashed."""


class NodeSettings(BaseSettings):
    """Environment variables begin with ``BURSAR_``."""

    model_config = SettingsConfigDict(env_prefix="BURSAR_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    url: str = "nats://127.0.0.1:4222"
    """NATS server, or several with commas between."""
    creds: Path | None = None
    """Credentials of the role ``node``; whose they are is the host's name. None: a server without authentication."""
    host: str = ""
    """The host's name; that of the credentials, or of the machine, unless given."""
    sample_ms: Annotated[int, Field(ge=100, le=60_000)] = 1_000
    """Time between two looks at the host."""
    sample_most: Annotated[int, Field(ge=1, le=10)] = MOST_LOOKS
    """How many looks that say nothing new are left out before one is sent all the same; 1: each look is sent."""
    disk: str = "/"
    """A path on the file system that is watched."""
    tree: Annotated[int, Field(ge=0)] = 0
    """Number of a process: only its descendants are looked at, where several fleets share a machine. 0: all."""
    cgroup: Path = Path("/sys/fs/cgroup/bursar")
    """Directory below which each lease of this host gets a cgroup, where it may be written to."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR; log lines are JSON on standard error."""


def host_name(settings: NodeSettings) -> str:
    """Whose samples these are, as a principal."""
    if settings.creds is not None:
        return principal_of(settings.creds)
    name = re.sub(r"[^a-z0-9-]+", "-", (settings.host or socket.gethostname()).lower()).strip("-")[:64]
    return name if re.fullmatch(PRINCIPAL, name) else "host"


class Node:
    """Publishes samples of one host until it is stopped."""

    def __init__(self, bus: Bus, probe: Probe, every: float) -> None:
        self._bus = bus
        self._probe = probe
        self._packer = Packer()
        self._every = every
        self.sent = 0
        self.unsent = 0

    def publish(self) -> None:
        """One look; sent when it says something new, with the ones before it, so that one that was lost (there was no
        connection, nobody listened) comes with the next."""
        sample = self._probe.look()
        if sample is None:
            return
        payload = self._packer.pack(sample)
        try:
            self._bus.publish(node_subject(self._bus.principal, BATCH_KIND), payload)
            self.sent += 1
        except BusError:
            self.unsent += 1

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.publish()
            await self._pause(stop)

    async def _pause(self, stop: asyncio.Event) -> None:
        """Until the next look; in between at the processes alone, which may live for less than that."""
        parts = GLANCES_RESTLESS if self._probe.is_restless else GLANCES
        for part in range(parts):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._every / parts)
            if stop.is_set() or part + 1 == parts:
                return
            self._probe.glance()


async def serve(settings: NodeSettings) -> int:
    """Until SIGTERM or SIGINT (0), or until the connection has ended for ever (1)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    name = host_name(settings)
    bus = await connect(settings.url.split(","), settings.creds, principal=name, on_closed=stop.set)
    gpus = Gpus(library())
    processes = Processes(tree=settings.tree)
    enforcer = Enforcer(processes, Cgroups.open(settings.cgroup))
    probe = Probe(
        SystemClock(), gpus, settings.disk, most=settings.sample_most, processes=processes, uses=enforcer.uses
    )
    node = Node(bus, probe, settings.sample_ms / 1000)
    planning = asyncio.create_task(Planner(bus, enforcer).run())
    log.info("node_started", extra={"host": name, "every_ms": settings.sample_ms})
    try:
        await node.run(stop)
    finally:
        is_closed = bus.is_closed
        planning.cancel()
        enforcer.take(())
        enforcer.uses()
        gpus.close()
        await bus.close()
    log.info("node_stopped", extra={"sent": node.sent, "unsent": node.unsent})
    return 1 if is_closed else 0


def main() -> int:
    settings = told(NodeSettings, "bursar-node")
    to_stderr("node", "", settings.log_level)
    try:
        return asyncio.run(serve(settings))
    except BursarError as error:
        log.critical("cannot_start", extra={"code": error.code, "text": error.text})
        return 1


if __name__ == "__main__":
    sys.exit(main())
