"""Containers that stop, die and are cut off, while agents are at work."""

from __future__ import annotations

import asyncio

import pytest

from tests.containers.load import DEADLINE, Load, granted, load, nothing_is_left
from tests.containers.site import NODES, Box, Site, until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

ELECTION_SECONDS = 20.0
"""In which a call is granted although servers elect a new leader meanwhile, which takes them 4 to 9 s by itself."""


async def _accounts_agree(site: Site, before: int, seen: Load, within: float = DEADLINE) -> None:
    """Every call was answered in time, everything that agents were told was granted is in the limiter's accounts, and
    nothing is left over. An answer that broke off with its connection is a grant that nobody was told of: it is
    withdrawn, and asked for again."""
    assert not seen.lost, seen.lost[:3]
    print(f"{len(seen.granted)} calls, the slowest granted after {max(seen.granted):.2f} s")  # noqa: T201 - a figure
    assert max(seen.granted) < within, "late"
    assert seen.settled == len(seen.granted)
    assert await granted(site) - before >= len(seen.granted)
    await nothing_is_left(site)


async def _restart(box: Box) -> None:
    """SIGTERM, a clean end, a start, and ready again: what a rolling update does to each."""
    assert await asyncio.to_thread(box.stop) == 0
    await asyncio.to_thread(box.start)
    await asyncio.to_thread(box.becomes_ready)


async def test_a_rolling_restart_under_load_loses_no_decision_and_none_is_late(whole: Site) -> None:
    """Standby first or owner first, each instance goes once and comes back, and no agent notices."""
    before = await granted(whole)
    async with load(whole) as seen:
        for box in whole.of_service("limiter"):
            await _restart(box)
            await seen.grow(10)
    await _accounts_agree(whole, before, seen)


async def test_a_killed_service_container_is_replaced_by_the_other(whole: Site) -> None:
    """The one that decides is killed; the other decides within seconds; the dead one comes back as its follower."""
    before = await granted(whole)
    async with load(whole) as seen:
        dead = await asyncio.to_thread(whole.owner_of, "limiter")
        await asyncio.to_thread(dead.kill)
        await seen.grow(10)
        owner = await asyncio.to_thread(whole.owner_of, "limiter")
        assert owner.name != dead.name
        await asyncio.to_thread(dead.start)
        await asyncio.to_thread(dead.becomes_ready)
    await _accounts_agree(whole, before, seen)


async def test_a_killed_nats_node_loses_nothing_that_was_acknowledged(whole: Site) -> None:
    """One of three; it comes back and catches up."""
    before = await granted(whole)
    async with load(whole) as seen:
        dead = whole[NODES[0]]
        await asyncio.to_thread(dead.kill)
        await seen.grow(10)
        await asyncio.to_thread(dead.start)
        await asyncio.to_thread(dead.becomes_healthy)
        await seen.grow(10)
    await _accounts_agree(whole, before, seen, ELECTION_SECONDS)


async def test_a_container_cut_off_from_the_network_stops_deciding_and_heals_without_a_restart(whole: Site) -> None:
    """Its successor decides; it says itself that it is not ready; joined again it follows."""
    before = await granted(whole)
    async with load(whole) as seen:
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
    await _accounts_agree(whole, before, seen)
