"""``bursar-gpu-node``: the probe of one host. It looks at the cards twice a second and publishes what it saw.

    bursar-gpu-node                                            NVIDIA's cards of this machine
    bursar-gpu-node --simulate 4x24GiB                         cards that exist only in this process
    bursar-gpu-node --simulate 2x24GiB --creds a.creds --creds b.creds --control 127.0.0.1:0

The probe connects as a principal of the role ``node``, whose name is the host's: the server lets it speak for no other
host. A report is a plain message that nobody answers; one that is lost is made up for by the next. With several
credentials (or names, on a server without authentication) a simulating probe plays several hosts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import Bus, BusError
from bursar.bus.connection import NatsBus, connect
from bursar.client.target import DEFAULT_URL, principal_of
from bursar.contracts.base import node_subject
from bursar.contracts.gpu import DEFAULT_RESERVE, OBSERVED
from bursar.errors import BursarError
from bursar.telemetry.logs import to_stderr
from bursar_gpu_manager.control import Control
from bursar_gpu_manager.nvml import Nvml
from bursar_gpu_manager.port import DevicePort
from bursar_gpu_manager.reporting import report
from bursar_gpu_manager.simulated import SimulatedHost, simulated_host

log = logging.getLogger("bursar.gpu-node")

INTERVAL: Final = 0.5
"""Seconds between two looks at the cards."""


@dataclass
class Probe:
    """Observes one port and publishes as the bus's principal. ``in_thread``: reading may block (a real driver)."""

    bus: Bus
    port: DevicePort
    interval: float = INTERVAL
    labels: Mapping[str, str] = field(default_factory=dict)
    in_thread: bool = False
    boot: str = field(default_factory=lambda: secrets.token_hex(8))
    seq: int = 0
    _totals: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.publish()
            await asyncio.sleep(self.interval)

    async def publish(self) -> None:
        """Look once, and say it; without a connection it is not said."""
        self.seq += 1
        fields = await asyncio.to_thread(self._look) if self.in_thread else self._look()
        with contextlib.suppress(BusError):
            self.bus.publish(node_subject(self.bus.principal, OBSERVED), msgpack.packb(fields))

    def _look(self) -> dict[str, Any]:
        self.port.advance(int(self.interval * 1000.0))
        return report(self.port, self.boot, self.seq, self._totals, self.labels)


@dataclass(frozen=True)
class Options:
    """What the command line says; ``hosts``: (name, credentials or None)."""

    url: str
    hosts: tuple[tuple[str, Path | None], ...]
    simulate: str
    interval: float
    control: str
    reserve: int
    labels: dict[str, str]


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Raises `SystemExit` (2) on what cannot be understood."""
    parser = argparse.ArgumentParser(prog="bursar-gpu-node", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default=os.environ.get("BURSAR_URL") or DEFAULT_URL)
    parser.add_argument("--creds", type=Path, action="append", default=[], help="of the role node; BURSAR_CREDS")
    parser.add_argument("--name", action="append", default=[], help="of the host, for a server without authentication")
    parser.add_argument("--simulate", default="", metavar="4x24GiB", help="play cards instead of looking at real ones")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between reports")
    parser.add_argument("--control", default="", metavar="HOST:PORT", help="let processes use the simulated cards")
    parser.add_argument("--reserve", type=int, default=DEFAULT_RESERVE, help="bytes that the simulation wants free")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=TEXT")
    chosen = parser.parse_args(arguments)
    creds = chosen.creds or ([Path(os.environ["BURSAR_CREDS"])] if os.environ.get("BURSAR_CREDS") else [])
    hosts = (
        [(principal_of(path), path) for path in creds] if not chosen.name else [(name, None) for name in chosen.name]
    )
    if not hosts:
        parser.error("nothing says which host this is: run `bursar agent add HOST --role node` and pass --creds")
    if len(hosts) > 1 and not chosen.simulate:
        parser.error("one probe looks at one real host")
    if not 0.05 <= chosen.interval <= 60.0:
        parser.error("--interval is 0.05 to 60 seconds")
    labels = dict(label.partition("=")[::2] for label in chosen.label)
    return Options(
        chosen.url, tuple(hosts), chosen.simulate, chosen.interval, chosen.control, chosen.reserve, labels
    )  # fmt: skip


async def serve(options: Options) -> int:
    """Run until SIGTERM or SIGINT (status 0), or until a connection has ended for ever (status 1)."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, 0)
    ports: dict[str, DevicePort] = {name: _port(name, options) for name, _ in options.hosts}
    control = Control({name: port for name, port in ports.items() if isinstance(port, SimulatedHost)})
    buses: list[NatsBus] = []
    tasks: list[asyncio.Task[None]] = []
    try:
        for name, creds in options.hosts:
            bus = await connect(options.url.split(","), creds, principal=name, on_closed=lambda: end(1))
            buses.append(bus)
            probe = Probe(bus, ports[name], options.interval, options.labels, in_thread=not options.simulate)
            tasks.append(loop.create_task(probe.run()))
            tasks[-1].add_done_callback(lambda task: end(1) if not task.cancelled() else None)
        address = await control.start(options.control) if options.control else ""
        log.info("started", extra={"hosts": list(ports), "control": address})
        return await ended
    finally:
        await _close(tasks, buses, control, list(ports.values()))


def _port(name: str, options: Options) -> DevicePort:
    if options.simulate:
        return simulated_host(name, options.simulate, options.reserve)
    return Nvml()


async def _close(
    tasks: Sequence[asyncio.Task[None]], buses: Sequence[NatsBus], control: Control, ports: Sequence[DevicePort]
) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.error("probe_failed", exc_info=outcome)
    await control.close()
    for bus in buses:
        await bus.close()
    for port in ports:
        port.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; returns the exit status."""
    to_stderr("gpu-node", "", "INFO")
    try:
        return asyncio.run(serve(parse(arguments)))
    except BursarError as error:
        log.critical("cannot_start", extra={"code": error.code, "text": error.text})
        return 1


if __name__ == "__main__":
    sys.exit(main())
