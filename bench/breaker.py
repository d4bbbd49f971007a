"""How soon the whole fleet knows, and what a look-up costs. ``python -m bench.breaker [--agents N] [--trips N]``.

A real server and a real registry, its journal fsynced. Each trip: one report that crosses the threshold is published;
the clock stops when the last of the agents, each with a connection of its own, refuses a call to that target. Beside it
stands a bare unsigned broadcast to the same connections, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgpack  # type: ignore[import-untyped]

from bench.figures import quantile, write
from bursar.bus.connection import NatsBus, connect
from bursar.bus.server import NatsServer, provision
from bursar.bus.signing import Signer
from bursar.client.breaker import Breaker
from bursar.client.fleet import Fleet

PLAIN = "bursar.evt.bench.plain.x"
LOOK_UPS = 200_000


@asynccontextmanager
async def registry(directory: Path) -> AsyncIterator[NatsServer]:
    """A server with a running registry; ends both."""
    keys = directory / "keys"
    keys.mkdir()
    (keys / "fence.key").write_bytes(secrets.token_bytes(32))
    signer = Signer.load_or_create(keys / "signing.nk")
    (directory / "trust.json").write_text(json.dumps({"breaker": signer.public_key}))
    async with NatsServer.plain(directory / "nats") as server:
        bus = await connect(server.url, principal="provisioner")
        await provision(bus, "breaker")
        await bus.close()
        env = {**os.environ, "BURSAR_URL": server.url, "BURSAR_KEYS_DIR": str(keys)}
        with (directory / "breaker.log").open("wb") as log:
            command = [sys.executable, "-m", "bursar_breaker"]
            process = subprocess.Popen(command, env=env, stderr=log)  # noqa: ASYNC220 - at start
        try:
            yield server
        finally:
            process.kill()
            process.wait()


class Watch:
    """Sets an event when every one of these agents refuses a target."""

    def __init__(self, breakers: list[Breaker]) -> None:
        self._breakers = breakers
        self._left: set[int] = set()
        self._target = ""
        self.done = asyncio.Event()
        for number, breaker in enumerate(breakers):
            self._follow(number, breaker)

    def _follow(self, number: int, breaker: Breaker) -> None:
        inner = breaker.registry._changed

        def changed() -> None:
            inner()
            if number in self._left and not breaker.allows(self._target):
                self._left.discard(number)
                if not self._left:
                    self.done.set()

        breaker.registry._changed = changed

    def expect(self, target: str) -> None:
        self._target = target
        self._left = set(range(len(self._breakers)))
        self.done.clear()


async def trips(bus: NatsBus, breakers: list[Breaker], count: int) -> list[float]:
    """Milliseconds from the crossing report to the last agent that knows, once per trip."""
    watch, found = Watch(breakers), []
    for number in range(count):
        watch.expect(f"trip-{number}")
        payload = msgpack.packb({"deltas": [{"target": f"trip-{number}", "error": 10}]})
        began = time.perf_counter()
        bus.publish(f"bursar.obs.breaker.report.{bus.principal}", payload)
        await asyncio.wait_for(watch.done.wait(), 10)
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.02)
    return found


async def plain_broadcasts(bus: NatsBus, buses: list[NatsBus], count: int) -> list[float]:
    """The same fan-out without anything: one message, unsigned, to all connections."""
    left, done, found = 0, asyncio.Event(), []

    def heard(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    for other in buses:
        await other.subscribe(PLAIN, heard)
        await other.flush()
    for _ in range(count):
        left = len(buses)
        done.clear()
        began = time.perf_counter()
        bus.publish(PLAIN, b"x" * 250)
        await asyncio.wait_for(done.wait(), 10)
        found.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.02)
    return found


def look_up_ns(breaker: Breaker, target: str) -> float:
    """Nanoseconds of one `allows`, in a loop, the loop's own cost taken off."""
    allows = breaker.allows
    began = time.perf_counter_ns()
    for _ in range(LOOK_UPS):
        allows(target)
    with_calls = time.perf_counter_ns() - began
    began = time.perf_counter_ns()
    for _ in range(LOOK_UPS):
        pass
    return (with_calls - (time.perf_counter_ns() - began)) / LOOK_UPS


async def run(agents: int, count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with registry(directory) as server, AsyncExitStack() as stack:
            buses = [await connect(server.url, principal=f"agent-{number}") for number in range(agents)]
            bus = await connect(server.url, principal="reporter")
            for other in [*buses, bus]:
                stack.push_async_callback(other.close)
            fleets = [Fleet(None, bus=bus, trust=directory / "trust.json") for bus in buses]
            breakers = [(await stack.enter_async_context(fleet)).breaker for fleet in fleets]
            for breaker in breakers:
                if not await breaker.ready(20):
                    raise RuntimeError("the registry does not answer")
            told = await trips(bus, breakers, count)
            plain = await plain_broadcasts(bus, buses, count)
            figures = {
                "agents": agents,
                "trips": count,
                "trip_to_fleet_p50_ms": quantile(told, 0.5),
                "trip_to_fleet_p99_ms": quantile(told, 0.99),
                "plain_broadcast_p50_ms": quantile(plain, 0.5),
                "plain_broadcast_p99_ms": quantile(plain, 0.99),
                "allows_closed_ns": look_up_ns(breakers[0], "provider-a/eu/gpt-x/key-1"),
                "allows_open_ns": look_up_ns(breakers[0], "trip-0/eu/gpt-x/key-1"),
            }
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=50, help="connections that listen, in this process")
    parser.add_argument("--trips", type=int, default=60, help="how often a circuit opens")
    parser.add_argument("--json", type=Path, default=Path("bench/out/breaker.json"), help="where the figures go")
    options = parser.parse_args()
    write(options.json, asyncio.run(run(options.agents, options.trips)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
