"""A flood by one principal: what it does to how long the others wait.

Real processes: a NATS server that syncs each append, two instances of the limiter, and the flood in a process of its
own. The others are agents at an ordinary pace; each request of theirs is a durable decision. Quiet and flooded phases
take turns in one run, so that what else the machine does is in both.

The flood is bounded: so many requests a second, sent whatever comes of them.

    python -m bench.deploy_flood nats://127.0.0.1:4222 RATE      the flood itself: a line "on" or "off" on its standard
                                                                 input starts and stops it
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgpack  # type: ignore[import-untyped]

from bench.figures import median, quantile, say
from bench.stack import BUDGET, Stack
from bursar.bus.base import BusError, Msg
from bursar.bus.connection import NatsBus, connect
from bursar.contracts.base import request_subject

OTHERS: Final = 100
PACE: Final = 10.0
"""Requests a second of each of the others."""
FLOOD: Final = 2_000
"""Requests a second of the flood: two hundred times what each of the others asks, twice what all of them ask."""
SLICE_SECONDS: Final = 0.01
FLOODER: Final = "flood"
SENT: Final = "sent"
RATE: Final = "BURSAR_PRINCIPAL_RATE"
RATE_OF_IMAGES: Final = "500"
"""BURSAR_PRINCIPAL_RATE as the Dockerfiles have it (a test compares)."""


def _reservation(number: int, session: str) -> bytes:
    body: dict[str, Any] = {
        "id": f"{session}-{number}",
        "budget": BUDGET,
        "amounts": {"input_tokens": 1},
        "ttl_ms": 1000,
    }
    return bytes(msgpack.packb(body))


# ---- the flood


async def flood(url: str, rate: float) -> None:
    """Send while told to; what was answered is told on the standard output, as one line for each phase."""
    bus = await connect(url, principal=FLOODER)
    answers: Counter[str] = Counter()
    inbox = bus.new_inbox()

    def heard(msg: Msg) -> None:
        answers[(msg.headers or {}).get("Nats-Service-Error", "ok")[:60]] += 1

    await bus.subscribe(inbox, heard)
    subject, session = request_subject("limiter", "reserve", FLOODER), secrets.token_hex(4)
    loop, number, sending = asyncio.get_running_loop(), 0, asyncio.Event()
    told_until = [0]

    def told() -> None:
        line = sys.stdin.readline()
        if line.startswith("on"):
            sending.set()
        else:
            sending.clear()
            print({**answers, SENT: number - told_until[-1]}, flush=True)
            told_until.append(number)
            answers.clear()
        if not line:
            os._exit(0)

    loop.add_reader(sys.stdin.fileno(), told)
    while True:
        await sending.wait()
        due = loop.time()
        while sending.is_set():
            for _ in range(round(rate * SLICE_SECONDS)):
                number += 1
                bus.publish(subject, _reservation(number, session), inbox)
            due += SLICE_SECONDS
            await asyncio.sleep(max(0.0, due - loop.time()))


class Flood:
    """The flood's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.answers: Counter[str] = Counter()

    async def start(self) -> None:
        await self._say(b"on\n")

    async def stop(self) -> None:
        await self._say(b"off\n")
        assert self._process.stdout is not None
        told = (await self._process.stdout.readline()).decode()
        self.answers.update(ast.literal_eval(told))

    async def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        await self._process.stdin.drain()


@asynccontextmanager
async def flood_of(url: str, rate: float) -> AsyncIterator[Flood]:
    """A flood that has not begun yet; ends with the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.deploy_flood", url, str(rate), stdin=pipe, stdout=pipe
    )
    try:
        yield Flood(process)
    finally:
        process.kill()
        await process.wait()


# ---- the others


class Others:
    """Agents at their own pace, spread evenly; an answer that is late makes no request late. ``waited``: seconds until
    each answer; ``failed``: what was no grant."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._buses: list[NatsBus] = []
        self.failed: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        for number in range(OTHERS):
            self._buses.append(await connect(self._url, principal=f"agent-{number}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for bus in self._buses:
            await bus.close()

    async def ask_for(self, seconds: float) -> list[float]:
        waited = await asyncio.gather(*(self._ask(bus, i, seconds) for i, bus in enumerate(self._buses)))
        return [one for each in waited for one in each]

    async def _ask(self, bus: NatsBus, number: int, seconds: float) -> list[float]:
        loop, session, waited = asyncio.get_running_loop(), secrets.token_hex(4), []
        due = loop.time() + number / (OTHERS * PACE)
        subject = request_subject("limiter", "reserve", bus.principal)
        for turn in range(round(seconds * PACE)):
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += 1.0 / PACE
            began = time.perf_counter()
            try:
                answer = await bus.request(subject, _reservation(turn, session), 5.0)
            except BusError as error:
                self.failed[error.code] += 1
                continue
            if answer.headers:
                self.failed[answer.headers.get("Nats-Service-Error", "")[:60]] += 1
            waited.append(time.perf_counter() - began)
        return waited


@contextlib.asynccontextmanager
async def rated() -> AsyncIterator[None]:
    """Services that start inside have the rate of the images; whoever starts some later has not."""
    before = os.environ.get(RATE)
    os.environ[RATE] = before or RATE_OF_IMAGES
    try:
        yield
    finally:
        del os.environ[RATE]
        if before is not None:
            os.environ[RATE] = before


async def measure(directory: Path, *, phases: int, seconds: float, rate: float = FLOOD) -> dict[str, Any]:
    """The p99 of the others (ms) without and with the flood, and the second over the first: medians over pairs of
    phases. The services run with the rate that the images have."""
    pairs: list[tuple[list[float], list[float]]] = []
    async with (
        rated(),
        Stack(directory) as stack,
        Others(stack.server.url) as others,
        flood_of(stack.server.url, rate) as tide,
    ):
        await others.ask_for(1.0)
        for _ in range(phases):
            quiet = await others.ask_for(seconds)
            await tide.start()
            pairs.append((quiet, await others.ask_for(seconds)))
            await tide.stop()
            await others.ask_for(0.5)
        say(f"flood: {dict(tide.answers)}; others failed {dict(others.failed)}")
    p99 = [(quantile(quiet, 0.99) * 1000, quantile(flooded, 0.99) * 1000) for quiet, flooded in pairs]
    return {
        "flood_per_s": rate,
        "flood_others_p99_quiet_ms": median([quiet for quiet, _ in p99]),
        "flood_others_p99_ms": median([flooded for _, flooded in p99]),
        "flood_p99_ratio": median([flooded / quiet for quiet, flooded in p99]),
        "flood_others_failed": others.failed.total(),
    }


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(flood(sys.argv[1], float(sys.argv[2])))
