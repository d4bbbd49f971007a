"""The server dies, or the network between it and the service stalls, breaks or slows down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bus.proxy import Proxy
from tests.integration import history
from tests.integration.fleet import fleet_of
from tests.integration.support import Rig

log = logging.getLogger(__name__)
pytestmark = pytest.mark.integration

BACK_SECONDS = 2.0
HEAL_SECONDS = 6.0


@pytest.mark.parametrize("down", [0.2, 2.5])
async def test_killed_server_is_back_in_use_within_two_seconds(tmp_path: Path, down: float) -> None:
    """kill -9 of nats-server under load: unknown outcomes are settled, nothing acknowledged is lost or done twice,
    and answers come again within 2 s after the port is open."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig) as fleet:
            await fleet.answers(500)
            rig.server.kill()
            await asyncio.sleep(down)
            _, opened = await asyncio.gather(rig.server.start(), _opened(rig.server.url))
            await fleet.answers(500)
            back = fleet.resumed_after(opened)
        log.info("back after %.3f s, errors %s, owner %s", back, dict(fleet.errors), rig.owner().name)
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)
        assert final.incarnation == 1, "nothing was lost, so nothing is to be recovered"
        assert back <= BACK_SECONDS


async def _opened(url: str) -> float:
    """The moment at which the port can be connected to."""
    split = urlsplit(url)
    while True:
        try:
            _, writer = await asyncio.open_connection(split.hostname, split.port)
        except OSError:
            await asyncio.sleep(0.005)
        else:
            writer.close()
            return time.monotonic()


@asynccontextmanager
async def _proxy(rig: Rig) -> AsyncIterator[Proxy]:
    proxy = Proxy(urlsplit(rig.server.url).port or 0)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


@pytest.mark.parametrize("fault", ["stall", "cut", "delay"])
async def test_service_comes_back_by_itself_after_the_network_heals(tmp_path: Path, fault: str) -> None:
    """The only instance is behind a proxy that stalls, cuts or delays for 4 s: it answers again within 6 s of healing,
    by itself, and nothing acknowledged is lost."""
    async with Rig(tmp_path) as rig, _proxy(rig) as proxy:
        await rig.start("a", url=proxy.url)
        async with fleet_of(rig) as fleet:
            await fleet.answers(500)
            if fault == "stall":
                proxy.stall()
            elif fault == "cut":
                proxy.refuse = True
                proxy.cut()
            else:
                proxy.delay = 0.8
            await asyncio.sleep(4.0)
            proxy.heal()
            healed = time.monotonic()
            await fleet.answers(500)
            back = fleet.resumed_after(healed)
        log.info("%s: back after %.3f s, errors %s", fault, back, dict(fleet.errors))
        assert back <= HEAL_SECONDS
        assert rig["a"].is_running
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)


async def test_owner_that_is_cut_off_is_replaced_and_answers_nothing_stale(tmp_path: Path) -> None:
    """The owner's network stalls while its standby's does not: the standby takes over, and when the stall ends the
    old owner's delayed packets change nothing."""
    async with Rig(tmp_path) as rig, _proxy(rig) as proxy:
        await rig.start("a", url=proxy.url)
        await rig.start("b")
        async with fleet_of(rig) as fleet:
            await fleet.answers(500)
            proxy.stall()
            stalled = time.monotonic()
            await rig["b"].becomes("owner")
            await fleet.answers(300)
            proxy.heal()
            await fleet.answers(300)
            await rig["a"].becomes("standby")
            back = fleet.resumed_after(stalled)
        log.info("replaced after %.3f s, errors %s", back, dict(fleet.errors))
        assert back <= BACK_SECONDS
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)
