"""Work for every service of a site, and a ledger of what each call was told.

A call is what its service makes durable before it answers: a reservation, an order to a circuit, a lease of memory on a
simulated card, a task with its result, a silence. Each has a limit in time; what it was told must be in the service's
accounts afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from bursar.bus.connection import NatsBus, connect
from bursar.client.caller import Caller
from bursar.client.fleet import Fleet
from bursar.client.gpu import Gpu
from bursar.client.limiter import Limiter
from bursar.client.time import SystemClock
from bursar.client.worker import Worker
from bursar.client.worker_task import WorkerTask
from bursar.contracts.base import admin_subject
from bursar.errors import BursarError
from bursar_gpu_manager.node import Probe
from bursar_gpu_manager.simulated import simulated_host
from tests.containers.site import SERVICES, Site

BUDGET = "demo"
PAUSE = 0.1
"""Seconds between two calls of a caller: far below what the services allow, so that nobody waits for room."""
CALLERS = 4
DEADLINE = 10.0
"""Seconds in which a call must be answered; a later answer is late."""
TTL = 20.0
"""Seconds after which a reservation that nobody knows of ends by itself."""
GIB = 1024**3

Call = Callable[[int], Awaitable[object]]
"""One call, by its number; returns the name of what it was told, which is no other's. Raises what makes it a lost
one."""
Order = Callable[..., Awaitable[dict[str, Any]]]
Orders = Callable[[Order, int], Awaitable[object]]


class Load:
    """What came of every call: seconds until it was answered, what it was told, and the calls that were not."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.told: list[object] = []
        self.lost: list[str] = []
        self._numbers = 0

    def late(self, within: float = DEADLINE) -> list[float]:
        return [seconds for seconds in self.took if seconds > within]

    async def grow(self, calls: int, within: float = 60.0) -> None:
        """Wait until so many more calls have been answered."""
        wanted, until = len(self.took) + calls, time.monotonic() + within
        while len(self.took) < wanted:
            assert time.monotonic() < until, f"{wanted - len(self.took)} calls are missing after {within:g} s: {self}"
            await asyncio.sleep(0.05)

    async def caller(self, call: Call, stop: asyncio.Event) -> None:
        """Call again and again until told to stop."""
        while not stop.is_set():
            self._numbers += 1
            began = time.monotonic()
            try:
                told = await call(self._numbers)
                self.took.append(time.monotonic() - began)
                self.told.append(told)
            except Exception as error:  # noqa: BLE001 - whatever it is, the call is lost, and the test says so
                self.lost.append(repr(error))
            await asyncio.sleep(PAUSE)

    def __repr__(self) -> str:
        return f"{len(self.took)} calls, the slowest {max(self.took, default=0.0):.2f} s, lost {self.lost[:3]}"


@asynccontextmanager
async def load(site: Site, service: str = "limiter") -> AsyncIterator[Load]:
    """Callers at work inside the block; at its end every call has been answered."""
    found, stop = Load(), asyncio.Event()
    async with WORK[service](site) as call:
        callers = [asyncio.create_task(found.caller(call, stop)) for _ in range(CALLERS)]
        try:
            await found.grow(5)
            yield found
        finally:
            stop.set()
            await asyncio.gather(*callers)


@asynccontextmanager
async def nothing_is_lost(site: Site, service: str = "limiter", within: float = DEADLINE) -> AsyncIterator[Load]:
    """Work on a service inside the block; afterwards every call has been answered, in time, and what it was told is in
    the accounts of the service."""
    before = await granted(site)
    async with load(site, service) as seen:
        yield seen
    await accounts_agree(site, service, seen, before, within)


async def accounts_agree(site: Site, service: str, seen: Load, before: int, within: float = DEADLINE) -> None:
    """See `nothing_is_lost`. ``before``: what `granted` was."""
    print(f"{service}: {seen}")  # noqa: T201 - a figure
    assert not seen.lost, seen.lost[:3]
    assert not seen.late(within), f"late: {max(seen.took)}"
    assert len(set(seen.told)) == len(seen.told) > CALLERS, "two calls were told the same"
    await CHECKS[service](site, seen, before)


# ---- the limiter: reservations


@asynccontextmanager
async def _reserving(site: Site) -> AsyncIterator[Call]:
    """They ask for no leases: each call is a decision of the service."""
    async with _bus(site, "demo") as bus:
        limiter = Limiter(bus, patience=2 * DEADLINE, leases=False)
        await limiter.start()

        async def call(_: int) -> object:
            permit = await limiter.acquire(BUDGET, input_tokens=1, output_tokens=1, wait=DEADLINE, ttl=TTL)
            permit.sent()
            await permit.settle(input_tokens=1, output_tokens=1)
            return permit.fence

        yield call
        await limiter.close(DEADLINE)


async def granted(site: Site) -> int:
    """How many reservations of the budget the limiter says it has granted."""
    return int((await _budget(site))["granted"])


async def _budget(site: Site) -> dict[str, Any]:
    [budget] = (await ask(site, "limiter", "status", {"budget": BUDGET}))["budgets"]
    return dict(budget)


async def _reserved(site: Site, seen: Load, before: int) -> None:
    """All that was granted counts, and nothing is open: what was withdrawn has gone back. An answer that broke off with
    its connection is a grant that nobody was told of: it is withdrawn, and asked for again."""
    assert await granted(site) - before >= len(seen.told)
    until = time.monotonic() + 2 * TTL
    while (open_ := [(await _budget(site))[key] for key in ("reservations", "waiting")]) != [0, 0]:
        assert time.monotonic() < until, f"reservations and waiting: {open_}"
        await asyncio.sleep(0.2)


# ---- the breaker: a circuit forced open, let go, closed; the monitor: a silence, ended


@asynccontextmanager
async def _ordering(site: Site, service: str, orders: Orders) -> AsyncIterator[Call]:
    """Each order is refused by name when the one before it is not in force: a lost one is found at once."""
    async with _bus(site, "ops") as bus:
        clock = SystemClock()
        caller = Caller(bus, service, clock, subject=admin_subject)
        await caller.start()

        async def order(verb: str, **fields: Any) -> dict[str, Any]:
            reply = await caller.ask(verb, fields, clock.now() + 2_000 * DEADLINE)
            assert reply.body["ok"] is True
            return reply.body

        yield partial(orders, order)
        await caller.close()


async def _circuit(order: Order, number: int) -> object:
    target = f"rolling-{number}"
    await order("force-open", target=target, note="a test")
    await order("release", target=target)
    await order("reset", target=target)
    return target


async def _closed(site: Site, seen: Load, _: int) -> None:
    circuits = (await ask(site, "breaker", "query", {}))["circuits"]
    assert not set(seen.told) & {circuit["target"] for circuit in circuits}


async def _silence(order: Order, number: int) -> object:
    silence = (await order("silence", subject=f"rolling-{number}", for_ms=3_600_000))["silence"]
    await order("unsilence", silence=silence)
    return silence


async def _heard(site: Site, seen: Load, _: int) -> None:
    rows = (await ask(site, "monitor", "status", {"only": "silences"}))["silences"]
    assert not set(seen.told) & {row["silence"] for row in rows}


# ---- the GPU manager: leases of memory on simulated cards


@asynccontextmanager
async def _leasing(site: Site) -> AsyncIterator[Call]:
    host = simulated_host("rack-1", "4x80GiB")
    async with _bus(site, "rack-1") as probed, _bus(site, "demo") as bus:
        probe = asyncio.create_task(Probe(probed, host, 0.2).run())
        gpu = Gpu(bus, patience=2 * DEADLINE)
        await gpu.start()

        async def call(_: int) -> object:
            async with gpu.lease(GIB, wait=DEADLINE, ttl=60.0) as lease:
                lease.check()
                return lease.fence_numbers

        try:
            yield call
        finally:
            await gpu.close()
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)


async def _leased(site: Site, seen: Load, _: int) -> None:
    """All memory has gone back."""
    until = time.monotonic() + 2 * TTL
    while any(device["granted"] for device in (await ask(site, "gpu-manager", "status", {}))["devices"]):
        assert time.monotonic() < until, "there are leases that nobody holds"
        await asyncio.sleep(0.2)


# ---- the scheduler: tasks with their results


@asynccontextmanager
async def _submitting(site: Site) -> AsyncIterator[Call]:
    async with AsyncExitStack() as stack:
        hand, demo = [await stack.enter_async_context(_bus(site, name)) for name in ("hand-1", "demo")]
        working = await stack.enter_async_context(Fleet(None, bus=hand))
        asking = await stack.enter_async_context(Fleet(None, bus=demo, patience=2 * DEADLINE))
        worker = Worker(working, slots=2 * CALLERS, grace=5.0)

        @worker.task("echo")
        async def echo(task: WorkerTask) -> Any:
            return task.payload

        running = asyncio.create_task(worker.run(signals=False))

        async def call(number: int) -> object:
            handle = await asking.scheduler.submit("echo", number)
            assert await handle.result(2 * DEADLINE) == number
            return handle.id

        try:
            yield call
        finally:
            worker.stop()
            await running


async def _done(site: Site, seen: Load, _: int) -> None:
    """None is left."""
    status = await ask(site, "scheduler", "status", {})
    assert [status[key] for key in ("waiting", "assigned", "running", "dead")] == [0, 0, 0, 0]


# ---- asking


@asynccontextmanager
async def _bus(site: Site, principal: str) -> AsyncIterator[NatsBus]:
    bus = await connect(site.url.split(","), site.credentials(principal), principal=principal)
    try:
        yield bus
    finally:
        await bus.close()


async def ask(site: Site, service: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    """A question as the operator, asked again for 20 s until it is answered."""
    until = time.monotonic() + 20.0
    async with _bus(site, "ops") as bus:
        while True:
            with contextlib.suppress(BursarError):
                answer = await bus.request(f"bursar.req.{service}.{verb}.ops", json.dumps(body).encode(), 2.0)
                if answer.data and "error" not in (told := json.loads(answer.data)):
                    return dict(told)
            assert time.monotonic() < until, f"{service} does not answer {verb}"
            await asyncio.sleep(0.2)


WORK: dict[str, Callable[[Site], AbstractAsyncContextManager[Call]]] = {
    "limiter": _reserving,
    "breaker": lambda site: _ordering(site, "breaker", _circuit),
    "gpu-manager": _leasing,
    "scheduler": _submitting,
    "monitor": lambda site: _ordering(site, "monitor", _silence),
}
CHECKS: dict[str, Callable[[Site, Load, int], Awaitable[None]]] = {
    "limiter": _reserved,
    "breaker": _closed,
    "gpu-manager": _leased,
    "scheduler": _done,
    "monitor": _heard,
}
assert WORK.keys() == CHECKS.keys() == set(SERVICES)
