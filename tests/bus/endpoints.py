"""A service, an agent and an operator on one network in memory, for the tests of endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bursar.bus.call import Call
from bursar.bus.codec import decode_error
from bursar.bus.memory import MemoryBus, MemoryNetwork
from bursar.bus.micro import Endpoint, Service
from bursar.errors import BursarError


class Net:
    """A service, an agent and an operator on one network, and whatever was published anywhere."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.agent = self.network.connect("a1")
        self.ops = self.network.connect("ops")
        self.bus = self.network.connect("svc-limiter")
        self.service = Service(self.bus, "limiter", "1.2.3", "Hands out permits.", {"shard": "0"}, instance="i1")
        self.seen: list[tuple[str, bytes]] = []

    async def watch(self, subject: str) -> None:
        spy = self.network.connect("spy")
        await spy.subscribe(subject, lambda msg: self.seen.append((msg.subject, msg.data)))

    async def add(self, name: str, handler: Callable[[Call], None], **options: Any) -> Endpoint:
        return await self.service.add_endpoint(name, f"bursar.req.limiter.{name}.*", handler, **options)


def echo(call: Call) -> None:
    call.respond(call.data)


def error_in(msg: Any) -> BursarError:
    error = decode_error(msg.headers, msg.data)
    assert error is not None
    return error


async def settle(bus: MemoryBus) -> None:
    for _ in range(3):
        await bus.flush()
