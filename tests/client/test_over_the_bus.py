"""The client over the two buses: the in-memory twin and a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bursar
from bursar.bus.base import Bus
from bursar.bus.connection import connect
from bursar.bus.identity import create_home, mint_agent
from bursar.bus.memory import MemoryNetwork
from bursar.bus.server import NatsServer
from bursar.client.fleet import Fleet
from tests.client.fakes import FakeLimiter, Link

AGENT = "agent-1"


async def limiter_on(bus: Bus) -> FakeLimiter:
    link = Link(bus, AGENT)
    there = FakeLimiter(link)
    await link.listen()
    return there


@pytest.fixture(params=["memory", pytest.param("nats", marks=pytest.mark.integration)])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Bus, Bus]]:
    """Connections of an agent and of the limiter."""
    if request.param == "memory":
        network = MemoryNetwork()
        yield network.connect(AGENT), network.connect("svc-limiter")
        return
    async with NatsServer.plain(tmp_path) as server:
        agent = await connect(server.url, principal=AGENT)
        service = await connect(server.url, principal="svc-limiter")
        yield agent, service
        await agent.close()
        await service.close()


async def test_reserve_and_settle_over_a_bus(both: tuple[Bus, Bus]) -> None:
    """One round trip each."""
    agent, service = both
    there = await limiter_on(service)
    async with Fleet(None, bus=agent) as fleet:
        assert fleet.principal == AGENT
        async with fleet.limiter.reserve("b", input_tokens=5) as permit:
            permit.sent()
            permit.used(input_tokens=4)
        assert there.settled[permit.reservation][0] == "used"
        assert fleet.limiter.caller.retries == 0


async def test_a_limiter_that_comes_late_is_waited_for(both: tuple[Bus, Bus]) -> None:
    """Nobody listens at first: the server says so, and the client asks again."""
    agent, service = both
    async with Fleet(None, bus=agent) as fleet:
        asking = asyncio.ensure_future(fleet.limiter.acquire("b"))
        await asyncio.sleep(0.2)
        assert not asking.done()
        await limiter_on(service)
        permit = await asking
        assert fleet.limiter.caller.retries >= 1
        await permit.cancel()


@pytest.mark.integration
async def test_an_agent_needs_nothing_but_its_credentials(tmp_path: Path) -> None:
    """connect() finds the server and the name; the permissions of an agent suffice for all that the client does."""
    home = create_home(tmp_path / "home")
    mint_agent(home, AGENT)
    async with NatsServer(home) as server:
        service = await connect(server.url, home.creds("svc-limiter"), principal="svc-limiter")
        there = await limiter_on(service)
        async with bursar.connect(home=home.path) as fleet:
            assert fleet.principal == AGENT
            permit = await fleet.limiter.acquire("b", input_tokens=5)
            assert 0.2 < permit.left <= 0.3
            await permit.settle(input_tokens=4)
            assert (await fleet.limiter.status("b")).budgets[0].name == "b"
            there.take_over(lost=True)
            await fleet.limiter.status()
        await service.close()
