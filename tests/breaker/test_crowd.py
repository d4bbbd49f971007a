"""Many who wait for few permits: real clients and the real registry, which cannot answer all of them at once."""

from __future__ import annotations

import asyncio

import pytest

from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen
from bursar.contracts.breaker import Probe
from bursar.kernel.decider import Accept, Refuse
from tests.breaker.desk import Desk, rule
from tests.breaker.wired import Wired
from tests.client.virtual import run

pytestmark = pytest.mark.simulation

TTL_S = 1.0
EVERY_S = 0.5
RULES = rule(open_ms=300, max_open_ms=120_000, probe_ttl_ms=round(TTL_S * 1000))


async def stuck(fleet: Wired, stall: float) -> float:
    """Seconds from the death of the first prober to the next call that goes, while each agent tries twice a second and
    the registry stands still for ``stall`` seconds in between."""
    went: list[float] = []

    async def once(agent: Breaker) -> None:
        try:
            async with agent.call("p/m"):
                went.append(fleet.now)
        except CircuitOpen:
            pass

    async def calls(agent: Breaker) -> None:
        await asyncio.sleep(fleet.random.uniform(0.0, EVERY_S))
        while True:
            fleet.spawn(once(agent))
            await asyncio.sleep(EVERY_S)

    desk = fleet.desk
    for who in ("ann", "bob"):
        desk.report("p/m", who=who, ok=1)
    for who in ("ann", "bob"):
        desk.report("p/m", who=who, error=9)
    await fleet.until(lambda: desk.state_of("p/m") == "half_open", 1.0)
    desk.probe("p/m", "dead")
    began = fleet.now
    for agent in fleet.agents:
        fleet.spawn(calls(agent))
    await asyncio.sleep(0.2)
    fleet.stall(stall)
    await fleet.until(lambda: went, 30.0)
    return went[0] - began


@pytest.mark.parametrize(("busy", "stall", "most"), [(0.0005, 0.0, TTL_S + 1.0), (0.003, 1.3, TTL_S + 2.5)])
def test_a_dead_prober_holds_up_no_crowd(busy: float, stall: float, most: float) -> None:
    """Not for longer than its permit and a second; nor for ever where all ask faster than the registry can answer: who
    is answered late would have given up, and all would ask again."""

    async def history() -> None:
        fleet = Wired(RULES, agents=120, seed=3)
        async with fleet.running():
            fleet.busy = busy * 200 / len(fleet.agents)
            assert await stuck(fleet, stall) <= most

    run(history())


def ask(desk: Desk, who: str, request: str) -> Accept | Refuse:
    outcome = desk.ask(Probe(id=request, target="p"), who)
    assert isinstance(outcome, Accept | Refuse)
    return outcome


def test_what_was_refused_is_not_granted_to_a_message_that_comes_late() -> None:
    """Its asker has had its answer: nobody would use that permit, or give it back."""
    desk = Desk()
    desk.half_open()
    lease = desk.probe(who="ann")
    assert ask(desk, "bob", "b-1").reply.get("reason") == "busy"
    desk.probed(lease, "cancelled", "ann")
    assert ask(desk, "bob", "b-1").reply.get("reason") == "busy"
    assert ask(desk, "cat", "b-1").reply["ok"], "another's request of that name"
    desk.advance(400)
    assert ask(desk, "bob", "b-2").reply["ok"]


def test_what_was_refused_while_open_is_not_granted_when_half_open() -> None:
    """The same message again, a little later."""
    desk = Desk()
    desk.open()
    assert ask(desk, "bob", "b-1").reply.get("reason") == "open"
    desk.advance(600)
    assert desk.state_of() == "half_open"
    assert ask(desk, "bob", "b-1").reply.get("reason") == "busy"
    assert ask(desk, "bob", "b-2").reply["ok"]


def test_the_more_wait_the_longer_they_spread() -> None:
    """A second, or four thousandths for each; anew when the circuit has changed."""
    desk = Desk()
    desk.half_open()
    lease = desk.probe()
    spreads = [desk.no_probe(who=f"a{number % 500}")["spread_ms"] for number in range(1_000)]
    assert (spreads[0], spreads[249], spreads[-1]) == (1_000, 1_000, 2_000)
    desk.probed(lease, "error")
    desk.advance(2_000)
    desk.probe()
    assert desk.no_probe(who="bob")["spread_ms"] == 1_000
