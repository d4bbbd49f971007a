"""Discovery: the nearest place that has an answer, one question for all who ask, weights and checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.bus.call import Call
from bursar.bus.memory import MemoryNetwork
from bursar.bus.micro import Service
from bursar.client.discovery import Discovery, Endpoint
from bursar.client.discovery_policy import DOWN_AFTER, SLOWEST_S, WHOLE, Candidate, Health, weights
from bursar.client.fleet import Fleet
from bursar.contracts.monitor_picture import Section

SHORT = {"instances": 0.6, "endpoints": 300.0, "about": 600.0}


async def serving(network: MemoryNetwork, name: str, instance: str) -> Service:
    """An instance of a service that speaks the protocol."""
    service = Service(network.connect(f"svc-{instance}"), name, "1.2.3", "A service.", {"zone": "a"}, instance=instance)
    await service.add_endpoint("work", f"any.{name}.work", lambda call: None)
    await service.start()
    return service


@pytest.fixture
async def network() -> AsyncIterator[MemoryNetwork]:
    made = MemoryNetwork()
    services = [await serving(made, "store", f"store-{number}") for number in (1, 2)]
    yield made
    for service in services:
        await service.stop()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - what is waited for happens in a task of its own
            await asyncio.sleep(0.01)


async def test_an_answer_comes_from_the_registry_once_and_from_here_afterwards(network: MemoryNetwork) -> None:
    """Instances, endpoints and what a service is; who is not there is nobody, and is asked for again."""
    async with Discovery(network.connect("ops")) as discovery:
        found = await discovery.instances("store")
        assert [(one.name, one.version) for one in found] == [("store-1", "1.2.3"), ("store-2", "1.2.3")]
        assert await discovery.instances("store") is found
        assert await discovery.endpoints("store") == (Endpoint("work", "any.store.work"),)
        about = await discovery.about("store")
        assert about is not None
        assert (about.description, about.metadata["zone"]) == ("A service.", "a")
        assert discovery.answered == {"registry": 3, "local": 1}
        assert await discovery.services() == ("store",)
        for _ in range(2):
            assert await discovery.instances("nobody") == ()
        assert await discovery.about("nobody") is None
        assert discovery.answered["nobody"] == 3


async def test_all_who_ask_for_the_same_thing_wait_for_one_question(network: MemoryNetwork) -> None:
    """Single flight; one that is cancelled takes nobody with it."""
    async with Discovery(network.connect("ops")) as discovery:
        asked = [asyncio.create_task(discovery.instances("store")) for _ in range(20)]
        await asyncio.sleep(0)
        asked[0].cancel()
        found = await asyncio.gather(*asked[1:])
        assert len(set(found)) == 1
        assert discovery.answered["registry"] == 1


async def test_what_is_used_is_asked_for_again_before_it_expires(network: MemoryNetwork) -> None:
    """A caller in a steady flow never waits; what nobody uses expires."""
    async with Discovery(network.connect("ops"), ttl=SHORT) as discovery:
        await discovery.instances("store")
        await discovery.about("store")
        async with asyncio.timeout(20):
            while discovery.answered["registry"] < 5:
                await discovery.instances("store")
                await asyncio.sleep(0.02)
        assert discovery.answered["nobody"] == 0
        await until(lambda: not [key for key in discovery._known if key[0] == "instances"])
        before = discovery.answered["registry"]
        await discovery.instances("store")
        assert discovery.answered["registry"] == before + 1


class Picture:
    """A monitor that tells of one limiter with a standby, and of a breaker that was heard long ago."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.limiters = {"l-1": True, "l-2": False}
        self.service = Service(network.connect("svc-monitor"), "monitor", "1.0.0", "It sees.", instance="m-1")

    async def start(self) -> None:
        endpoint = await self.service.add_endpoint("status", "bursar.req.monitor.status.*", self.answer)
        await endpoint.listen()

    def answer(self, call: Call) -> None:
        numbers = {"requests": 200, "errors": 3, "open": 0, "p50_us": 900, "p99_us": 1_000, "rss_bytes": 1, "cpu_ms": 1}
        row = {"v": 1, "service": "limiter", "version": "0.1.0", **numbers, "age_ms": 400}
        rows = [{**row, "instance": name, "owner": owner} for name, owner in self.limiters.items()]
        rows.append({**row, "service": "breaker", "instance": "b-1", "owner": True, "age_ms": 60_000})
        about: dict[str, Any] = {"v": 1, "ok": True, "now_ms": 1, "sources": {}, "left_out": {}}
        sections: dict[str, Any] = {name: [] for name in get_args(Section)}
        call.respond_value({**about, **sections, "instances": rows, "fence": "1.1.1.0123456789abcdef"})


async def test_the_monitors_picture_answers_for_all_services_at_once(network: MemoryNetwork) -> None:
    """One question fills the cache; what is old there is not believed; who may not ask $SRV lives on it."""
    monitor = Picture(network)
    await monitor.start()
    async with Discovery(network.connect("agent-1")) as discovery:
        found = await discovery.instances("limiter")
        assert [(one.name, one.takes, one.errors_permille) for one in found] == [("l-1", True, 15), ("l-2", False, 15)]
        assert await discovery.routes("limiter") == {"l-1": WHOLE, "l-2": 0}
        assert await discovery.instances("breaker") == ()
        assert await discovery.services() == ("limiter",)
        assert discovery.answered == {"shared": 2, "local": 1, "nobody": 1}
    await monitor.service.stop()


async def test_an_agents_checks_ask_the_monitor(network: MemoryNetwork) -> None:
    """An agent may not ping anybody: an instance that the picture has no more is down after two checks."""
    monitor = Picture(network)
    await monitor.start()
    async with Fleet(None, bus=network.connect("agent-1")) as fleet:
        discovery = fleet.discovery
        assert discovery is fleet.discovery
        discovery.watch("limiter")
        await until(lambda: (found := discovery.health("limiter", "l-1")) is not None and found.is_up)
        assert await discovery.routes("limiter") == {"l-1": WHOLE, "l-2": 0}
        del monitor.limiters["l-2"]
        await until(lambda: (found := discovery.health("limiter", "l-2")) is None or not found.is_up)
    await monitor.service.stop()


async def test_a_watched_instance_that_falls_silent_gets_nothing_any_more(network: MemoryNetwork) -> None:
    """Checks go on by themselves; after two that fail the instance is down, and is up again with the first answer."""
    third = await serving(network, "store", "store-3")
    async with Discovery(network.connect("ops")) as discovery:
        assert set(await discovery.routes("store")) == {"store-1", "store-2", "store-3"}
        discovery.watch("store")
        await until(lambda: (found := discovery.health("store", "store-3")) is not None and found.latency is not None)
        await third.stop()
        await until(lambda: (found := discovery.health("store", "store-3")) is not None and not found.is_up)
        routes = await discovery.routes("store")
        assert routes["store-3"] == 0
        assert sum(routes.values()) == WHOLE


def test_checks_are_rarer_the_longer_an_instance_is_well() -> None:
    """From one second to a minute; a failure brings it back to one second."""
    health = Health()
    intervals = []
    for _ in range(8):
        health = health.answered(0.002)
        intervals.append(health.interval)
    assert intervals == [2, 4, 8, 16, 32, SLOWEST_S, SLOWEST_S, SLOWEST_S]
    for number in range(DOWN_AFTER):
        assert health.is_up is (number < DOWN_AFTER)
        health = health.failed()
    assert not health.is_up
    assert health.interval == 1
    health = health.answered(0.002)
    assert health.is_up
    assert health.interval == 1


def test_the_quicker_and_the_healthier_get_more() -> None:
    """In proportion; nothing for who is down or stands by; one of which nothing is known counts as the slowest."""
    found = weights({"a": Candidate(True, True, 0.010), "b": Candidate(True, True, 0.030), "c": Candidate(True, True)})
    assert found == {"a": 600, "b": 200, "c": 200}
    assert weights({"a": Candidate(True, True, 0.01, 500), "b": Candidate(True, True, 0.01)}) == {"a": 333, "b": 667}
    assert weights({"a": Candidate(False, True, 0.01), "b": Candidate(True, False, 0.01)}) == {"a": 0, "b": 0}


candidates = st.builds(
    Candidate, st.booleans(), st.booleans(), st.one_of(st.none(), st.floats(0.0, 5.0)), st.integers(0, 1_000)
)


@pytest.mark.property
@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), candidates, max_size=12))
def test_weights_are_whole_or_nothing(found: dict[str, Candidate]) -> None:
    """They add up to a thousand, unless nobody is left; who cannot take anything gets nothing."""
    made = weights(found)
    assert made.keys() == found.keys()
    assert all(made[name] == 0 for name, one in found.items() if not (one.is_up and one.takes))
    assert sum(made.values()) in {0, WHOLE}
    assert (sum(made.values()) == WHOLE) == any(one.is_up and one.takes for one in found.values())
