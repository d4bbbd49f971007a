"""Containers that stop, die and are cut off, while agents are at work."""

from __future__ import annotations

import asyncio

import pytest

from tests.containers.load import accounts_agree, nothing_is_lost
from tests.containers.rolling import Rolled, roll_all
from tests.containers.site import NODES, SERVICES, Site, until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

ELECTION_SECONDS = 20.0
"""In which a call is granted although servers elect a new leader meanwhile, which takes them 4 to 9 s by itself."""


@pytest.fixture(scope="module")
def rolled(site: Site) -> Rolled:
    return asyncio.run(roll_all(site))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_rolling_restart_under_load_loses_no_decision_and_none_is_late(
    whole: Site, rolled: Rolled, service: str
) -> None:
    """Nobody who asks notices, and everything that callers were told is in the accounts."""
    await accounts_agree(whole, service, rolled.seen[service], rolled.before)


async def test_a_killed_service_container_is_replaced_by_the_other(whole: Site) -> None:
    """The one that decides is killed; the other decides within seconds; the dead one comes back as its follower."""
    async with nothing_is_lost(whole) as seen:
        dead = await asyncio.to_thread(whole.owner_of, "limiter")
        await asyncio.to_thread(dead.kill)
        await seen.grow(10)
        owner = await asyncio.to_thread(whole.owner_of, "limiter")
        assert owner.name != dead.name
        await asyncio.to_thread(dead.start)
        await asyncio.to_thread(dead.becomes_ready)


async def test_a_killed_nats_node_loses_nothing_that_was_acknowledged(whole: Site) -> None:
    """One of three; it comes back and catches up."""
    async with nothing_is_lost(whole, within=ELECTION_SECONDS) as seen:
        dead = whole[NODES[0]]
        await asyncio.to_thread(dead.kill)
        await seen.grow(10)
        await asyncio.to_thread(dead.start)
        await asyncio.to_thread(dead.becomes_healthy)
        await seen.grow(10)


async def test_a_container_cut_off_from_the_network_stops_deciding_and_heals_without_a_restart(whole: Site) -> None:
    """Its successor decides; it says itself that it is not ready; joined again it follows."""
    async with nothing_is_lost(whole) as seen:
        alone = await asyncio.to_thread(whole.owner_of, "limiter")
        [other] = [box for box in whole.of_service("limiter") if box.name != alone.name]
        started = alone.raw.attrs["State"]["StartedAt"]
        whole.cut_off(alone)
        await asyncio.to_thread(until, lambda: other.facts().get("role") == "owner", 20.0, lambda: str(other.facts()))
        await asyncio.to_thread(until, lambda: not alone.is_ready(), 20.0, lambda: str(alone.facts()))
        await seen.grow(10)
        whole.join(alone)
        await asyncio.to_thread(alone.becomes_ready)
        assert alone.raw.attrs["State"]["StartedAt"] == started
