"""The host's answers: what cannot be written or sent costs one caller an error, never the service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bursar.bus.call import Call
from bursar.bus.codec import MSGPACK, Encoding, encode
from bursar.bus.memory import MemoryNetwork
from bursar.kernel.decider import Refuse
from bursar.kernel.effects import Answer
from bursar.kernel.host import Host
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import ServiceSpec
from tests.bus.endpoints import error_in, settle


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_an_answer_that_cannot_be_written_is_an_error_for_its_caller_only(encoding: Encoding) -> None:
    """An integer beyond 64 bits, say: it was the end of the process, and of the next one when it was asked again."""
    network = MemoryNetwork()
    agent = network.connect("a1")
    bus: Any = network.connect("svc-toy")
    spec = ServiceSpec("toy", "1.0.0", "A toy.", decider=_Nothing, verbs={})
    host = Host(spec, ServiceSettings(), bus, bus)
    held: list[Call] = []
    await host.service.add_endpoint("ask", "bursar.req.toy.ask.*", held.append)
    await host.service.start()
    request = asyncio.ensure_future(agent.request("bursar.req.toy.ask.a1", encode({}, encoding), 1))
    await settle(agent)

    host.answer(Answer(held[0], Refuse({"n": 2**70 if encoding == MSGPACK else float("nan")}), (1, 1, 1)))

    assert error_in(await request).code == "internal"


class _Nothing:
    """A decider that is never asked."""

    name = "toy"
    version = 1

    def initial(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None
