"""An edge site as a leaf node: its own services go on while its link is cut, what it shares with the centre comes back.

Two installations with a real server each, and a proxy between the two: the centre has the limiter, the site the breaker
and an agent of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bursar.bus.base import BusError, ConnectFailed, NoResponders
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.server import NatsServer, ServerOptions
from bursar.bus.server.link import listener, remote
from bursar.client.caller import Caller
from bursar.client.errors import LimiterUnavailable
from bursar.client.limiter import Limiter
from bursar.client.time import SystemClock
from bursar.contracts.base import admin_subject
from tests.bus.proxy import Proxy
from tests.bus.support import free_port
from tests.integration.support import Instance, settled_in, until

pytestmark = pytest.mark.integration

BUDGETS = """
[budgets.shared]
limits.requests = { limit = 1_000_000, window = "1m" }
"""


@dataclass
class Edge:
    """``centre`` and ``site``: their homes and servers' addresses; ``link``: the network between them."""

    centre: Home
    site: Home
    centre_url: str
    site_url: str
    link: Proxy

    async def agent(self, name: str) -> NatsBus:
        return await connect(self.site_url, self.site.creds(name), principal=name)

    async def accounts(self) -> tuple[int, int]:
        """How many reservations the limiter has granted and how many are open, as the centre's operator sees it."""
        bus = await connect(self.centre_url, self.centre.creds("ops"), principal="ops")
        answer = await bus.request("bursar.req.limiter.status.ops", b'{"budget": "shared"}', 5.0)
        await bus.close()
        [budget] = json.loads(answer.data)["budgets"]
        return int(budget["granted"]), int(budget["reservations"])

    async def is_linked(self) -> None:
        """Wait until what the site's agents ask reaches the limiter."""
        bus = await self.agent("cam-1")
        async with asyncio.timeout(15):
            while True:
                try:
                    await bus.request("bursar.req.limiter.status.cam-1", b"{}", 1.0)
                    break
                except BusError:
                    await asyncio.sleep(0.05)
        await bus.close()


def _server(home: Home, name: str, extra: dict[str, object]) -> NatsServer:
    return NatsServer(home, options=ServerOptions(home.store_dir, home.path / "run", name=name, extra=extra))


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    centre, site = create_home(tmp_path / "centre"), create_home(tmp_path / "site", ["breaker"])
    mint_agent(centre, "bob")
    for name in ("cam-1", "bob", "stranger"):
        mint_agent(site, name)
    creds = centre.mint_site("oslo", ["cam-1"], ["limiter"])
    (tmp_path / "budgets.toml").write_text(BUDGETS)
    port = free_port()
    link = Proxy(port)
    await link.start()
    there = remote(site, [link.url.replace("nats:", "nats-leaf:")], str(creds), {})
    async with _server(centre, "centre", listener({}, "127.0.0.1", port)) as hub, _server(site, "oslo", there) as here:
        limits = {**await settled_in(centre, hub.url, "limiter"), "BURSAR_BUDGETS": str(tmp_path / "budgets.toml")}
        running = [
            Instance("limiter-1", "bursar_limiter", tmp_path, limits),
            Instance("breaker-1", "bursar_breaker", tmp_path, await settled_in(site, here.url, "breaker")),
        ]
        for instance in running:
            instance.start()
        for instance in running:
            await instance.is_up(("owner",))
        made = Edge(centre, site, hub.url, here.url, link)
        await made.is_linked()
        yield made
        for instance in running:
            instance.kill()
    await link.stop()


async def _order(caller: Caller, number: int) -> None:
    """A durable decision of the site's own breaker, within the second that a take-over would take."""
    reply = await caller.ask("annotate", {"target": f"t-{number}", "note": "x"}, SystemClock().now() + 1_000)
    assert reply.body["ok"] is True


async def test_what_happens_when_the_link_is_cut_and_comes_back(edge: Edge) -> None:
    """The site's own service decides on as if nothing were; what it shares is refused in a typed way, within the
    caller's patience; a caller with more patience is granted when the link is back, and nothing is left over."""
    bus, ops = await edge.agent("cam-1"), await edge.agent("ops")
    hasty, patient = Limiter(bus, patience=1.0, leases=False), Limiter(bus, patience=30.0, leases=False)
    own = Caller(ops, "breaker", SystemClock(), subject=admin_subject)
    for started in (hasty, patient, own):
        await started.start()
    permit = await hasty.acquire("shared")
    await permit.settle()

    edge.link.refuse = True
    edge.link.cut()
    for number in range(20):
        await _order(own, number)
    with pytest.raises(LimiterUnavailable):
        await hasty.acquire("shared")
    waiting = asyncio.create_task(patient.acquire("shared"))
    for number in range(20, 40):
        await _order(own, number)
    assert not waiting.done()

    edge.link.heal()
    permit = await asyncio.wait_for(waiting, 20)
    await permit.settle()
    granted, open_ = await edge.accounts()
    while open_:  # who gave up may have been granted what nobody was told of: it is taken back
        await asyncio.sleep(0.05)
        granted, open_ = await edge.accounts()
    assert 2 <= granted <= 3
    await _order(own, 40)
    await hasty.close()
    await patient.close()
    await own.close()
    await bus.close()
    await ops.close()


async def test_a_link_that_is_silent_is_given_up_and_made_again(edge: Edge) -> None:
    """Nothing is reset, nothing arrives: the servers find out by their pings, and the site goes on meanwhile."""
    ops = await edge.agent("ops")
    own = Caller(ops, "breaker", SystemClock(), subject=admin_subject)
    await own.start()
    before = edge.link.accepted
    edge.link.stall()
    number = 0
    async with asyncio.timeout(30):
        while edge.link.accepted == before:
            number += 1
            await _order(own, number)
    edge.link.strand()
    await edge.is_linked()
    await own.close()
    await ops.close()


async def test_nothing_passes_but_what_the_link_is_for(edge: Edge) -> None:
    """Neither for others of the site, nor under a name of the centre, nor to another service, nor with the link's own
    credentials as a client."""
    for name in ("bob", "stranger"):
        bus = await edge.agent(name)
        with pytest.raises(NoResponders):
            await bus.request(f"bursar.req.limiter.status.{name}", b"{}", 2.0)
        await bus.close()
    cam = await edge.agent("cam-1")
    for service in ("scheduler", "monitor", "gpu-manager"):
        with pytest.raises(NoResponders):
            await cam.request(f"bursar.req.{service}.status.cam-1", b"{}", 2.0)
    await cam.close()
    with pytest.raises(ConnectFailed):
        await connect(edge.centre_url, edge.centre.path / "sites/oslo.creds", principal="oslo", timeout=3.0)


async def test_a_site_does_not_hear_what_others_are_told(edge: Edge) -> None:
    """Answers to the centre's agents, and what its other services broadcast, stay there; the limiter's broadcasts and
    answers to its own agents come."""
    heard: list[str] = []
    cam, bob = await edge.agent("cam-1"), await edge.agent("bob")
    await cam.subscribe("bursar.evt.limiter.freeze.*", lambda msg: heard.append(msg.subject))
    await cam.subscribe("bursar.evt.scheduler.x.*", lambda msg: heard.append(msg.subject))
    await bob.subscribe("_R.bob.>", lambda msg: heard.append(msg.subject))
    await cam.flush()
    await bob.flush()
    limiter = await connect(edge.centre_url, edge.centre.creds("svc-limiter"), principal="svc-limiter")
    scheduler = await connect(edge.centre_url, edge.centre.creds("svc-scheduler"), principal="svc-scheduler")

    def is_heard() -> bool:
        limiter.publish("_R.bob.1", b"secret")
        scheduler.publish("bursar.evt.scheduler.x.y", b"news")
        limiter.publish("bursar.evt.limiter.freeze.y", b"news")
        return len(heard) >= 20

    await until(is_heard, 10, "the limiter's broadcasts")
    assert set(heard) == {"bursar.evt.limiter.freeze.y"}
    for bus in (cam, bob, limiter, scheduler):
        await bus.close()
