"""Many workers in one process: ``python -m tests.integration.scheduler_crowd NAME COUNT``, connected to BURSAR_URL.

They are `bursar.Worker`s, each a principal of its own (``NAME-0`` and so on), on one connection, so that a connection
that drops takes all of them along. Class ``step``: sleeps, fails when it is told to, and returns its fence. Prints a
line when all have registered.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

from bursar.bus.base import Bus, Handler, Msg, Subscription
from bursar.bus.connection import connect
from bursar.client.fleet import Fleet
from bursar.client.worker import Worker
from bursar.client.worker_slots import Reading
from bursar.client.worker_task import WorkerTask


class Seat:
    """A connection that several share, as one of them."""

    def __init__(self, bus: Bus, principal: str) -> None:
        self._bus = bus
        self.principal = principal
        self._inboxes = 0

    @property
    def is_connected(self) -> bool:
        return self._bus.is_connected

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_R.{self.principal}.{self._bus.new_inbox().rpartition('.')[2]}{self._inboxes}"

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._bus.publish(subject, payload, reply, headers)

    async def request(
        self, subject: str, payload: bytes, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        return await self._bus.request(subject, payload, timeout, headers)

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Subscription:
        return await self._bus.subscribe(subject, handler, queue)

    async def flush(self, timeout: float = 2.0) -> None:
        await self._bus.flush(timeout)

    async def close(self) -> None:
        """The connection is not its own."""


class _Still:
    """A host that nobody measures: a thousand workers would."""

    def read(self) -> Reading:
        return Reading(0.5, 0.5)


def equipped(fleet: Fleet) -> Worker:
    worker = Worker(fleet, slots=2, grace=5.0, meter=_Still())

    @worker.task("step")
    async def step(task: WorkerTask) -> dict[str, Any]:
        await asyncio.sleep(task.payload["s"])
        if task.attempt <= task.payload["fails"]:
            raise ValueError("not yet")
        return {"n": task.payload["n"], "fence": task.fence}

    return worker


async def main(name: str, count: int) -> None:
    bus = await connect([os.environ["BURSAR_URL"]], principal=name)
    fleets = [Fleet(None, bus=Seat(bus, f"{name}-{number}")) for number in range(count)]
    workers = []
    for fleet in fleets:
        await fleet.__aenter__()
        workers.append(equipped(fleet))
    running = [asyncio.ensure_future(worker.run(signals=False)) for worker in workers]
    while not all(worker.is_registered for worker in workers):  # noqa: ASYNC110 - there is nothing to await
        await asyncio.sleep(0.1)
    sys.stdout.write("registered\n")
    sys.stdout.flush()
    await asyncio.gather(*running)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
