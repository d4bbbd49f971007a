"""Processes that stop calling by themselves, ahead of the fleet: they say so, and the fleet decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen
from bursar.contracts.base import observation_subject
from bursar_breaker.lifecycle import CONSECUTIVE
from tests.breaker.desk import Desk, rule
from tests.breaker.wired import Wired
from tests.client.virtual import run

RULES = rule(window_ms=2_000, minimum_calls=10, consecutive=5, open_ms=60_000, max_open_ms=60_000)
"""As those of a fleet that calls often: what was well a moment ago outweighs the few failures before all have
stopped."""


async def calls(agent: Breaker, every: Callable[[], float], fails: Callable[[], bool]) -> None:
    """One after the other, for ever."""
    while True:
        await asyncio.sleep(every())
        try:
            async with agent.call("p/m") as call:
                if fails():
                    call.failed("timeout")
        except CircuitOpen:
            continue


def is_shut_here(agent: Breaker) -> bool:
    verdict = agent.peek("p/m")
    return not verdict and getattr(verdict, "state", "") == "local"


# ---- the registry


def test_where_all_have_stopped_by_themselves_the_circuit_opens() -> None:
    """Though what was well before outweighs what they have seen, and neither a rate nor a streak says so."""
    desk = Desk(RULES)
    for who in ("ann", "bob"):
        desk.report(who=who, ok=500)
    desk.report(who="ann", ok=1, error=5, shut=5)
    assert desk.state_of() == "closed"
    assert {one.reporter: one.view for one in desk.explain().reporters} == {"ann": "stopped", "bob": "fine"}
    desk.report(who="bob", ok=1, timeout=5, shut=5)
    assert desk.state_of() == "open"
    circuit = desk.state.circuits["p"]
    assert circuit.reason == CONSECUTIVE
    assert circuit.evidence["counts"]["stopped"] == 2
    assert "2 have stopped by themselves" in desk.explain().why


def test_one_who_has_stopped_alone_opens_nothing_and_is_shown() -> None:
    """Liar or bad luck: the others go on."""
    desk = Desk(RULES)
    for who in ("bob", "cat", "dan"):
        desk.report(who=who, ok=3)
    for _ in range(20):
        desk.report(who="eve", shut=100_000)
        desk.advance(100)
        for who in ("bob", "cat", "dan"):
            desk.report(who=who, ok=1)
    assert desk.state_of() == "closed"
    assert desk.status().circuits[0].excluded == ["eve"]


def test_a_liar_and_one_with_bad_luck_stop_nobody_else() -> None:
    """Two of five have stopped, one of them lies."""
    desk = Desk(RULES)
    for who in ("bob", "cat", "dan"):
        desk.report(who=who, ok=3)
    desk.report(who="eve", shut=9)
    desk.report(who="flo", error=5, shut=5)
    assert desk.state_of() == "closed"


def test_who_says_that_all_is_well_does_not_outweigh_those_who_have_stopped() -> None:
    """It is one of three or more, whatever it reports."""
    desk = Desk(RULES)
    desk.report(who="eve", ok=100_000)
    for who in ("ann", "bob", "cat"):
        desk.report(who=who, ok=50)
    desk.advance(1_000)
    for who in ("ann", "bob", "cat"):
        desk.report(who="eve", ok=1_000)
        desk.report(who=who, error=5, shut=5)
    assert desk.state_of() == "open"


def test_a_success_takes_the_voice_back() -> None:
    """Who calls again has not stopped."""
    desk = Desk(RULES)
    desk.report(who="bob", ok=1)
    desk.report(who="ann", ok=100, error=5, shut=5)
    desk.report(who="ann", ok=1)
    desk.report(who="bob", ok=100, error=5, shut=5)
    assert desk.state_of() == "closed"
    desk.report(who="ann", error=5, shut=5)
    assert desk.state_of() == "open"


def test_who_is_gone_has_no_voice_any_more() -> None:
    """What was said falls out of the window, as everything that is reported."""
    desk = Desk(RULES)
    for who in ("ann", "bob"):
        desk.report(who=who, ok=100)
    desk.report(who="ann", error=5, shut=5)
    desk.advance(2_200)
    desk.report(who="bob", error=5, shut=5)
    assert desk.state_of() == "closed"
    desk.report(who="ann", shut=5)
    assert desk.state_of() == "open"


@pytest.mark.parametrize(("consecutive", "shut"), [(6, 5), (0, 100)])
def test_who_stops_sooner_than_the_rule_wants_has_no_voice(consecutive: int, shut: int) -> None:
    """Nor does anybody where the operators want no streak to open anything."""
    desk = Desk(RULES.model_copy(update={"consecutive": consecutive}))
    for who in ("ann", "bob", "cat"):
        desk.report(who=who, ok=100)
        desk.report(who=who, error=1, shut=shut)
    assert desk.state_of() == "closed"


def test_what_is_above_opens_when_its_callers_have_stopped_at_more_than_one_target_and_have_no_success() -> None:
    """Each has a key of its own; who still calls something else there has not stopped."""
    for well in (0, 1):
        desk = Desk(RULES, rule("p/m/a", consecutive=0), rule("p/m/b", consecutive=0))
        for who in ("ann", "bob"):
            desk.report("p/m/c", who=who, ok=well * 100)
        for who, key in (("ann", "a"), ("bob", "b")):
            desk.report(f"p/m/{key}", who=who, error=1, shut=5)
        assert desk.state_of("p/m") == ("closed" if well else "open")


# ---- clients and registry together


@pytest.mark.property
@settings(max_examples=25, deadline=None)
@given(
    agents=st.integers(1, 5),
    every=st.sampled_from([0.01, 0.05, 0.2]),
    lost=st.sampled_from([0.0, 0.0, 0.2]),
    well=st.sampled_from([0.0, 0.02, 0.1]),
    seed=st.integers(0, 9),
)
def test_where_all_have_stopped_the_fleet_decides(
    agents: int, every: float, lost: float, well: float, seed: int
) -> None:
    """Whatever is lost, and though a few calls still succeed: within a second of the moment at which all have stopped
    the circuit is open, or one of them has found the target well; where messages are lost, after as many seconds as no
    agent loses all its reports in."""

    async def history() -> None:
        fleet, ill = Wired(RULES, agents=agents, seed=seed, failures=5), [False]
        dice = fleet.random

        def fails() -> bool:
            return ill[0] and dice.random() >= well

        async with fleet.running():
            for agent in fleet.agents:
                fleet.spawn(calls(agent, lambda: dice.uniform(0.5, 1.5) * every, fails))
            await asyncio.sleep(3.0)
            assert not fleet.opened
            ill[0], fleet.lost, since = True, lost, None
            for _ in range(1_500):
                await asyncio.sleep(0.01)
                if "p/m" in fleet.opened or "p" in fleet.opened:
                    return
                since = (since or fleet.now) if all(map(is_shut_here, fleet.agents)) else None
                assert since is None or fleet.now - since <= (8.0 if lost else 1.0), (
                    "all have stopped, nothing is decided"
                )

    run(history())


def test_a_fleet_that_stops_by_itself_opens_as_soon_as_one_that_does_not() -> None:
    """Known to all within a second of the first failure, and no agent calls in between after its fifth."""
    took = {}
    for failures in (0, 5):

        async def history(failures: int = failures) -> None:
            fleet, ill = Wired(RULES, agents=2, seed=1, failures=failures), [False]
            async with fleet.running():
                for agent in fleet.agents:
                    fleet.spawn(calls(agent, lambda: 0.01, lambda: ill[0]))
                await asyncio.sleep(5.0)
                ill[0] = True
                took[failures] = await fleet.until(
                    lambda: all(agent.circuits().get("p/m") == "open" for agent in fleet.agents), 5.0
                )

        run(history())
    assert took[5] <= min(1.0, took[0] + 0.05)


def test_what_one_agent_alone_claims_stops_only_itself() -> None:
    """It says each second that it has stopped; a fleet that has successes goes on."""

    async def history() -> None:
        fleet = Wired(RULES, agents=4, seed=1)
        async with fleet.running():
            for agent in fleet.agents[1:]:
                fleet.spawn(calls(agent, lambda: 0.2, lambda: False))
            await asyncio.sleep(1.0)
            payload = msgpack.packb({"deltas": [{"target": "p/m", "shut": 1_000, "error": 50}]})
            for _ in range(100):
                fleet.buses[0].publish(observation_subject("breaker", "report", "agent-0"), payload)
                await asyncio.sleep(0.1)
            assert not fleet.opened
            assert all(agent.peek("p/m") for agent in fleet.agents)

    run(history())


def test_who_has_stopped_says_so_each_second_until_it_may_try_again() -> None:
    """And sends nothing when there is nothing to say."""

    async def history() -> None:
        fleet = Wired(RULES, agents=2, seed=1, failures=5)
        async with fleet.running():
            fleet.agents[1].record("p/m", "ok")
            await asyncio.sleep(0.5)
            agent = fleet.agents[0]
            for _ in range(5):
                agent.record("p/m", "timeout")
            await asyncio.sleep(0.5)
            assert is_shut_here(agent)
            reports = fleet.asked["report"]
            assert reports == 2
            await asyncio.sleep(30.0)
            assert fleet.asked["report"] == reports, "its time is over, and nobody calls"
            agent.record("p/m", "timeout")
            await asyncio.sleep(3.9)
            assert fleet.asked["report"] == reports + 2, "shut for two seconds now"

    run(history())
