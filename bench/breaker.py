"""How soon the whole fleet knows, what a decision costs, what is sent to a dead upstream; beside other breakers.

``python -m bench.breaker [--quick] [--agents N] [--processes N] [--peers PYTHON] [--json FILE]``

A real server, a real registry with its journal fsynced, and agents in several processes, each on a connection of its
own. Times between processes are read from the machine's monotonic clock. The figures:

- ``allow_*``: one decision of the client (`bench.breaker_look`): closed, open, recovering.
- ``registry_cpu_cores``, ``deltas_*``: while each agent reports twice a second, and what is sent while nobody calls.
- ``trip_to_fleet_*``: from the publishing of the report that crosses the threshold (which is before its arrival) to the
  last of all agents refusing a call there, beside those reports. ``plain_broadcast_*``: one bare message to the same
  connections, in turn with the trips; ``trip_over_broadcast_p99`` is the quotient.
- ``calls_to_dead_per_min``: every agent tries a dead upstream once a second; those that are let go after all know.
- ``heal_after_half_loss_s``: agents that lose every other broadcast, changes and pulses; the slowest of all.
- ``stuck_after_dead_prober_s``: the process that holds the only probe permit is killed while others go on trying.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from bench import breaker_peers
from bench.breaker_agents import PLAIN
from bench.breaker_look import each_us
from bench.breaker_rig import DEAD_OPEN_S, PROBE_TTL_S, Process, Site, Upstream
from bench.figures import quantile, say, write
from bursar.bus.connection import NatsBus, connect
from bursar.client.breaker import Breaker
from bursar.client.trust import verifier_of
from bursar.contracts.base import observation_subject

REPORT_EVERY_S = 0.5
PAUSE_S = 0.03
ARRIVES_S = 0.02
TWINS = 50
"""Agents of each process of which a twin loses every other broadcast."""


class Size(NamedTuple):
    """How much is measured."""

    looks: int
    load_s: float
    trips: int
    losses: int
    dead_s: float


QUICK = Size(looks=200_000, load_s=4.0, trips=101, losses=8, dead_s=6.0)
FULL = Size(looks=1_000_000, load_s=20.0, trips=250, losses=40, dead_s=60.0)


async def report(site: Site, target: str) -> float:
    """Have two agents see it fail; when the report was published with which that crosses the threshold."""
    first, second = site.reporters
    _publish(first, target, 3)
    await first.flush()
    await asyncio.sleep(ARRIVES_S)
    began = time.monotonic()
    _publish(second, target, 10)
    return began


def _publish(bus: NatsBus, target: str, errors: int) -> None:
    payload = msgpack.packb({"deltas": [{"target": target, "error": errors}]})
    bus.publish(observation_subject("breaker", "report", bus.principal), payload)


async def looks(site: Site, count: int) -> dict[str, float]:
    """By a client that hears the registry, in this process."""
    bus = await connect(site.url, principal="looker")
    breaker = Breaker(bus, trust=lambda: verifier_of(site.trust))
    if not await breaker.ready(20):
        raise RuntimeError("the registry does not answer")
    await site.fleet.tell("watch", "shut/model")
    await report(site, "shut/model")
    await site.fleet.last("known", "shut/model")
    await asyncio.sleep(0.2)
    if breaker.allows("shut/model"):
        raise RuntimeError("the looker has not heard what all others have")
    figures: dict[str, float] = {}
    for name, target in {"": "fine/eu/model/key", "_open": "shut/model/key"}.items():
        p50, p99 = each_us(breaker.allows, target, count)
        figures |= {f"allow{name}_p50_us": p50, f"allow{name}_p99_us": p99}
    await breaker.close()
    await bus.close()
    return figures


async def load(site: Site, seconds: float) -> dict[str, float]:
    """What the registry uses while all report, and what is sent while nobody has anything to report."""
    before = await site.fleet.sent()
    await asyncio.sleep(1.0)
    idle = (await site.fleet.sent())[0] - before[0]
    await site.fleet.tell("load", REPORT_EVERY_S)
    await asyncio.sleep(1.0)
    messages, size = await site.fleet.sent()
    began, used = time.monotonic(), site.registry_cpu()
    await asyncio.sleep(seconds)
    took, used = time.monotonic() - began, site.registry_cpu() - used
    after, size_after = await site.fleet.sent()
    return {
        "registry_cpu_cores": used / took,
        "deltas_per_s": (after - messages) / took,
        "deltas_per_agent_min": (after - messages) / took * 60 / site.agents,
        "delta_bytes_per_agent_min": (size_after - size) / took * 60 / site.agents,
        "deltas_without_calls": float(idle),
    }


async def trips(site: Site, count: int) -> dict[str, float]:
    """Trips and bare broadcasts in turn, beside the reports of all."""
    told, plain = [], []
    for number in range(count):
        target = f"trip-{number}/model"
        await site.fleet.tell("watch", target)
        await asyncio.sleep(PAUSE_S)
        began = await report(site, target)
        told.append((await site.fleet.last("known", target) - began) * 1000)
        await asyncio.sleep(PAUSE_S)
        name = f"{number:012}"
        began = time.monotonic()
        site.reporters[0].publish(PLAIN, name.encode() + b"x" * 300)
        plain.append((await site.fleet.last("plain", name) - began) * 1000)
    return {
        "trips": float(count),
        "trip_to_fleet_p50_ms": quantile(told, 0.5),
        "trip_to_fleet_p99_ms": quantile(told, 0.99),
        "plain_broadcast_p50_ms": quantile(plain, 0.5),
        "plain_broadcast_p99_ms": quantile(plain, 0.99),
        "trip_over_broadcast_p50": quantile(told, 0.5) / quantile(plain, 0.5),
        "trip_over_broadcast_p99": quantile(told, 0.99) / quantile(plain, 0.99),
    }


async def dead_upstream(site: Site, seconds: float) -> dict[str, float]:
    """All agents go on trying."""
    upstream = Upstream()
    port = await upstream.start()
    before = site.fleet.went_since(0.0)
    await site.fleet.tell("watch", "dead/model")
    known = asyncio.create_task(site.fleet.last("known", "dead/model", within=20.0))
    for process in site.fleet.processes:
        process.tell("call", "dead/model", "127.0.0.1", port, 1.0)
    began = await known
    await asyncio.sleep(seconds)
    calls = site.fleet.went_since(began)
    took = time.monotonic() - began
    await site.fleet.tell("call", "dead/model", "127.0.0.1", port, 0)
    upstream.close()
    opened, at = 0, DEAD_OPEN_S
    while at < took:
        opened, at = opened + 1, at + DEAD_OPEN_S * 2.0 ** (opened + 1)
    return {
        "calls_to_dead_per_min": calls / took * 60,
        "calls_to_dead_before_all_know": float(site.fleet.went_since(0.0) - before - calls),
        "probe_budget_per_min": opened / took * 60,
    }


async def losses(site: Site, count: int) -> dict[str, float]:
    """The slowest agent of the slowest change."""
    for process in site.fleet.processes:
        process.tell("twins", TWINS)
    await asyncio.gather(*(process.until("there") for process in site.fleet.processes))
    targets = [f"lost-{number}/model" for number in range(count)]
    for target in targets:
        await site.fleet.tell("heal", target)
    began = {}
    for target in targets:
        began[target] = await report(site, target)
        await asyncio.sleep(0.1)
    slowest = 0.0
    for process in site.fleet.processes:
        left = set(began)
        while left:
            _, target, at = await process.until("healed", within=20.0)
            left.discard(target)
            slowest = max(slowest, at - began[target])
    return {"heal_after_half_loss_s": slowest, "losses": float(count)}


async def dead_prober(site: Site) -> dict[str, float]:
    """From the kill to the next call that goes."""
    prober = await Process("bench.breaker_prober", site.url, str(site.trust), "stuck/model").start()
    await prober.until("ready")
    await site.fleet.tell("watch", "stuck/model")
    await report(site, "stuck/model")
    await site.fleet.last("known", "stuck/model")
    await prober.until("held", within=10.0)
    upstream = Upstream()
    port = await upstream.start()
    await site.fleet.tell("call", "stuck/model", "127.0.0.1", port, 0.5)
    killed = time.monotonic()
    await prober.kill()
    waits = [asyncio.create_task(process.until("went", "stuck/model", within=20.0)) for process in site.fleet.processes]
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    first = min(float(task.result()[2]) for task in done)
    for task in pending:
        task.cancel()
    await site.fleet.tell("call", "stuck/model", "127.0.0.1", port, 0)
    upstream.close()
    return {"stuck_after_dead_prober_s": first - killed, "probe_ttl_s": PROBE_TTL_S}


async def measure(size: Size, agents: int, processes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        say(f"--- starting {agents} agents in {processes} processes")
        async with Site(Path(name), agents, processes) as site:
            figures: dict[str, Any] = {"agents": agents, "processes": processes}
            say("--- look-ups")
            figures |= await looks(site, size.looks)
            say("--- the load of reports")
            figures |= await load(site, size.load_s)
            say("--- trips beside that load")
            figures |= await trips(site, size.trips)
            await site.fleet.tell("load", 0)
            say("--- a prober that dies")
            figures |= await dead_prober(site)
            say("--- half of all broadcasts lost")
            figures |= await losses(site, size.losses)
            say("--- a dead upstream")
            figures |= await dead_upstream(site, size.dead_s)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything, and no other breakers")
    parser.add_argument("--agents", type=int, default=1_000, help="connections that listen")
    parser.add_argument("--processes", type=int, default=4, help="over which they are spread")
    parser.add_argument("--peers", type=Path, help="the Python that has the other breakers")
    parser.add_argument("--json", type=Path, default=Path("bench/out/breaker.json"), help="where the figures go")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended then, too
    figures = asyncio.run(measure(QUICK if options.quick else FULL, options.agents, options.processes))
    if not options.quick and options.peers:
        figures |= breaker_peers.measure(options.peers)
    write(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
