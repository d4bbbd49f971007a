"""Recovery: a part of the calls, counted and not drawn; relapse; and what is heard when half of it is lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.breaker_verdict import Share, Stopped
from bursar.contracts.breaker import digest_of
from tests.client.breaker_fakes import FakeRegistry, breaker_and_registry, moment
from tests.client.fakes import FakeBus
from tests.client.virtual import LoopClock, run


@pytest.mark.property
@given(st.integers(1, 1000), st.text(max_size=8), st.integers(0, 300), st.integers(1, 700))
def test_of_any_calls_in_a_row_the_part_goes_and_at_most_one_more(
    permille: int, who: str, before: int, calls: int
) -> None:
    """Whoever counts, wherever in the sequence."""
    share = Share(permille, who)
    for _ in range(before):
        share.admits()
    went = sum(share.admits() for _ in range(calls))
    assert calls * permille // 1000 <= went <= -(-calls * permille // 1000)


def test_a_fleet_whose_members_call_once_keeps_to_the_part_too() -> None:
    """Each begins elsewhere in the sequence."""
    went = sum(Share(50, f"agent-{number} p 7").admits() for number in range(2_000))
    assert 60 <= went <= 140


def test_the_share_grows_step_by_step_and_a_relapse_takes_it_back() -> None:
    """5, 25, 50, all; and open again at once when the registry says so."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            for share in (50, 250, 500):
                there.change("p", "ramping", 10_000, share=share)
                await moment()
                verdicts = [breaker.allows("p/m") for _ in range(1_000)]
                assert sum(map(bool, verdicts)) == share
                stopped = next(verdict for verdict in verdicts if not verdict)
                assert isinstance(stopped, Stopped)
                assert (stopped.circuit, stopped.state, stopped.may_probe) == ("p", "ramping", False)
                assert all(breaker.peek("p/m") for _ in range(100))
            there.change("p", "open", 5_000, reason="failure_rate")
            await moment()
            assert not any(breaker.allows("p/m") for _ in range(100))
            there.change("p", "ramping", 10_000, share=50)
            there.change("p", "closed")
            await moment()
            assert all(breaker.allows("p/m") for _ in range(100))

    run(history())


def test_targets_below_share_one_count_and_the_smallest_share_on_the_way_holds() -> None:
    """However many there are."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "ramping", 10_000, share=100)
            there.change("p/m", "ramping", 10_000, share=500)
            await moment()
            assert sum(bool(breaker.allows(f"p/m/k{n % 50}")) for n in range(1_000)) == 100

    run(history())


def test_a_call_that_gets_no_part_is_refused_and_one_that_was_let_go_counts_once() -> None:
    """As when a gate has asked before."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "ramping", 10_000, share=200)
            await moment()
            went = 0
            for _ in range(500):
                if breaker.allows("p"):
                    async with breaker.call("p", is_counted=False):
                        went += 1
            assert went == 100
            refused = 0
            for _ in range(100):
                try:
                    with breaker.call("p"):
                        pass
                except CircuitOpen as error:
                    assert (error.state, error.retry_in) == ("ramping", None)
                    refused += 1
            assert refused == 80

    run(history())


def test_without_a_registry_a_share_holds_until_its_time() -> None:
    """Then this process goes by what it sees itself."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.change("p", "ramping", 9_000, share=100)
            await moment()
            there.is_deaf = there.is_mute = True
            there.has_pulse = False
            await moment(8.0)
            assert breaker.is_alone
            assert sum(bool(breaker.allows("p")) for _ in range(100)) == 10
            await moment(1.1)
            assert all(breaker.allows("p") for _ in range(100))

    run(history())


@pytest.mark.parametrize("seed", range(12))
def test_half_of_all_broadcasts_are_lost_and_everybody_knows_within_two_seconds(seed: int) -> None:
    """Changes and pulses alike, each by the toss of a coin; what was missed is asked for."""

    async def history() -> None:
        dice = random.Random(seed)
        bus = FakeBus(delay=0.005)
        there = FakeRegistry(bus)
        breaker = Breaker(bus, clock=LoopClock(), trust=lambda: there.verifier, spread=random.Random(seed))
        assert await breaker.ready()
        worst = 0.0
        for number in range(40):
            there.is_mute = dice.random() < 0.5
            there.change(f"p{number % 7}", "open" if number % 2 else "half_open", 60_000)
            there.is_mute = False
            at = dice.uniform(0.0, 1.0)  # until the next pulse
            waited = 0.0
            while breaker.registry.view.digest != _digest(there):
                await moment(0.01)
                waited += 0.01
                at -= 0.01
                if at <= 0.0:
                    at = 1.0
                    if dice.random() < 0.5:
                        there.pulse()
            worst = max(worst, waited)
        assert worst <= 2.0
        await breaker.close()

    run(history())


def _digest(there: FakeRegistry) -> str:

    return digest_of((row["target"], row["state"], row["revision"]) for row in there._rows())


def test_a_pulse_repeats_what_was_missed_and_nothing_is_asked() -> None:
    """The latest changes stand in it."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            there.repeats, there.is_mute = 3, True
            for n in range(3):
                there.change(f"p{n}", "open", 60_000)
            there.pulse()
            await moment(0.05)
            assert set(breaker.circuits()) == {"p0", "p1", "p2"}
            assert there.count("query") == 1

    run(history())
