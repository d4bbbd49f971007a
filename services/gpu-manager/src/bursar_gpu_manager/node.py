"""``bursar-gpu-node``: the probe of one host. It looks at the cards twice a second, publishes what it saw, and
enforces on its host what the manager has granted.

    bursar-gpu-node                                            NVIDIA's cards of this machine
    bursar-gpu-node --simulate 4x24GiB                         cards that exist only in this process
    bursar-gpu-node --simulate 2x24GiB --creds a.creds --creds b.creds --control 127.0.0.1:0
    bursar-gpu-node --gate /run/bursar/gpu.sock --enforce      processes show their leases; those without one end
    bursar-gpu-node --record FILE, --replay FILE               cards as they were

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
from bursar.client.time import Clock, SystemClock
from bursar.contracts.base import node_subject
from bursar.contracts.gpu import DEFAULT_RESERVE, OBSERVED
from bursar.errors import BursarError
from bursar.telemetry.logs import to_stderr
from bursar_gpu_manager.control import Control
from bursar_gpu_manager.gate import Gate
from bursar_gpu_manager.guard import Guard, end_process
from bursar_gpu_manager.nvml import Nvml
from bursar_gpu_manager.port import DevicePort
from bursar_gpu_manager.replayed import Replayed, header, read_trace, sample_of
from bursar_gpu_manager.reporting import report
from bursar_gpu_manager.simulated import SimulatedHost, simulated_host
from bursar_gpu_manager.smi_traces import is_smi, read_smi

log = logging.getLogger("bursar.gpu-node")

INTERVAL: Final = 0.5
"""Seconds between two looks at the cards."""


@dataclass
class Probe:
    """Observes one port and publishes as the bus's principal. ``in_thread``: reading may block (a real driver).
    ``guard``: enforces on this host what was granted. ``record``: where every look is written, as a trace."""

    bus: Bus
    port: DevicePort
    interval: float = INTERVAL
    labels: Mapping[str, str] = field(default_factory=dict)
    in_thread: bool = False
    boot: str = field(default_factory=lambda: secrets.token_hex(8))
    seq: int = 0
    guard: Guard | None = None
    record: Path | None = None
    clock: Clock = field(default_factory=SystemClock)
    _totals: dict[str, int] = field(default_factory=dict)
    _seen: list[tuple[int, int]] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.publish()
            if self.guard is not None:
                await self.guard.look(int(self.interval * 1000.0), self._seen)
            await asyncio.sleep(self.interval)

    async def publish(self) -> None:
        """Look once, and say it; without a connection it is not said."""
        self.seq += 1
        fields = await asyncio.to_thread(self._look) if self.in_thread else self._look()
        with contextlib.suppress(BusError):
            self.bus.publish(node_subject(self.bus.principal, OBSERVED), msgpack.packb(fields))

    def _look(self) -> dict[str, Any]:
        self.port.advance(int(self.interval * 1000.0))
        at_ms = int(self.clock.now())  # before the cards are read
        fields = report(self.port, self.boot, self.seq, self._totals, self.labels)
        fields["at_ms"] = at_ms
        rows = [row for device in fields["devices"] for row in device.get("processes") or ()]
        self._seen = [(row["pid"], row["started"]) for row in rows if row["started"] is not None]
        if self.guard is not None:
            fields["gate"] = self.guard.gate.counts._asdict()
        if self.record is not None:
            with self.record.open("a", encoding="ascii") as trace:
                trace.write(sample_of(self.port, int(self.seq * self.interval * 1000.0)) + "\n")
        return fields


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
    replay: str = ""
    record: str = ""
    gate: str = ""
    enforce: bool = False
    grace: float = 5.0


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
    parser.add_argument("--replay", default="", metavar="FILE", help="play a trace, or nvidia-smi's CSV, for ever")
    parser.add_argument("--record", default="", metavar="FILE", help="write every look into a trace")
    parser.add_argument("--gate", default="", metavar="PATH", help="socket at which processes show their leases")
    parser.add_argument("--enforce", action="store_true", help="end processes whose lease has ended, and on order")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds that a process may outlive its lease")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=TEXT")
    chosen = parser.parse_args(arguments)
    creds = chosen.creds or ([Path(os.environ["BURSAR_CREDS"])] if os.environ.get("BURSAR_CREDS") else [])
    hosts = (
        [(principal_of(path), path) for path in creds] if not chosen.name else [(name, None) for name in chosen.name]
    )
    if not hosts:
        parser.error("nothing says which host this is: run `bursar agent add HOST --role node` and pass --creds")
    if len(hosts) > 1 and (not chosen.simulate or chosen.gate or chosen.record):
        parser.error("one probe looks at one real host, and has one gate and one trace")
    if chosen.simulate and chosen.replay:
        parser.error("--simulate and --replay exclude each other")
    if not 0.05 <= chosen.interval <= 60.0:
        parser.error("--interval is 0.05 to 60 seconds")
    labels = dict(label.partition("=")[::2] for label in chosen.label)
    return Options(
        chosen.url, tuple(hosts), chosen.simulate, chosen.interval, chosen.control, chosen.reserve, labels,
        chosen.replay, chosen.record, chosen.gate, chosen.enforce, max(0.0, chosen.grace),
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
    guards: list[Guard] = []
    tasks: list[asyncio.Task[None]] = []
    try:
        for name, creds in options.hosts:
            bus = await connect(options.url.split(","), creds, principal=name, on_closed=lambda: end(1))
            buses.append(bus)
            guards.append(_guard(bus, ports[name], options))
            await guards[-1].start(options.gate)
            probe = Probe(bus, ports[name], options.interval, options.labels, guard=guards[-1])
            probe.in_thread = isinstance(ports[name], Nvml)
            probe.record = _trace(options, name)
            tasks.append(loop.create_task(probe.run()))
            tasks[-1].add_done_callback(lambda task: end(1) if not task.cancelled() else None)
        address = await control.start(options.control) if options.control else ""
        log.info("started", extra={"hosts": list(ports), "control": address})
        return await ended
    finally:
        await _close(tasks, [*guards, control, *buses], list(ports.values()))


def _port(name: str, options: Options) -> DevicePort:
    if options.simulate:
        return simulated_host(name, options.simulate, options.reserve)
    if options.replay:
        lines = Path(options.replay).read_text(encoding="ascii").splitlines()
        return Replayed((read_smi if lines and is_smi(lines[0]) else read_trace)(lines), again=True)
    return Nvml()


def _guard(bus: NatsBus, port: DevicePort, options: Options) -> Guard:
    """Ends processes where they are: of this machine, or of simulated cards. Those of a trace are long gone."""
    simulated = isinstance(port, SimulatedHost)
    end = port.kill if isinstance(port, SimulatedHost) else end_process
    gate = Gate(int(options.grace * 1000.0))
    return Guard(bus, gate, end, kills=options.enforce and not options.replay, simulated=simulated)


def _trace(options: Options, name: str) -> Path | None:
    if not options.record:
        return None
    trace = Path(options.record)
    trace.write_text(header(host=name, interval_ms=int(options.interval * 1000.0)) + "\n", encoding="ascii")
    return trace


async def _close(
    tasks: Sequence[asyncio.Task[None]], parts: Sequence[NatsBus | Control | Guard], ports: Sequence[DevicePort]
) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.error("probe_failed", exc_info=outcome)
    for part in parts:
        await part.close()
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
    except (OSError, UnicodeError) as error:
        log.critical("cannot_start", extra={"code": "no_file", "text": str(error)})
        return 1


if __name__ == "__main__":
    sys.exit(main())
