"""A fleet on a bad network: whatever happens to messages, registry and probers, the promises hold, and in the end all
know the same."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bursar.contracts.breaker import ForceOpen, Release
from tests.breaker.fleet import TARGETS, TTL_MS, Fleet

pytestmark = pytest.mark.simulation


def history(seed: int) -> Fleet:
    """Some seconds in which all goes wrong."""
    fleet = Fleet(seed)
    chance = fleet.random
    for _ in range(10):
        fleet.net.lost = chance.choice((0.0, 0.1, 0.5))
        fleet.net.doubled = chance.choice((0.0, 0.3))
        fleet.net.delay = chance.choice((2, 30, 400))
        fleet.net.cut = {agent.name for agent in fleet.agents if chance.random() < 0.1}
        if chance.random() < 0.5:
            fleet.falls_ill(chance.choice(TARGETS), chance.randint(300, 2_500))
        if chance.random() < 0.3:
            fleet.crash(chance.randint(50, 1_500))
        if fleet.is_up and chance.random() < 0.2:
            fleet.desk.order(ForceOpen, "p/m2", for_ms=chance.choice((None, 300)))
        elif fleet.is_up and fleet.desk.state_of("p/m2") == "forced_open":
            fleet.desk.order(Release, "p/m2")
        fleet.run(chance.randint(300, 1_500))
    return fleet


@pytest.mark.parametrize("seed", range(12))
def test_through_loss_delay_duplication_partition_and_crashes_all_know_the_same_in_the_end(seed: int) -> None:
    """Revisions never go back, never more than k probes are under way by true time, the journal keeps the table."""
    history(seed).settle()


def test_the_histories_reach_every_state() -> None:
    """Otherwise they would show nothing."""
    reached = set()
    for seed in range(5):
        desk = history(seed).desk
        reached |= {past.after for pasts in desk.state.history.values() for past in pasts}
    assert {"closed", "open", "half_open", "ramping", "forced_open"} <= reached


@pytest.mark.parametrize("seed", range(5))
def test_after_a_loss_of_data_all_know_the_same_in_the_end(seed: int) -> None:
    """A higher incarnation: whatever was known before is replaced; k holds for probes that were lost."""
    fleet = Fleet(seed, prober_dies=0.5)
    fleet.falls_ill("p/m1", 1_500)
    fleet.run(900)
    fleet.keep()
    fleet.run(fleet.random.randint(200, 2_000))
    fleet.crash(100, loses=True)
    fleet.run(5_000)
    assert fleet.desk.incarnation == 2
    fleet.settle()


@pytest.mark.parametrize("seed", range(6))
def test_a_change_is_known_to_all_within_two_seconds_though_half_of_the_messages_are_lost(seed: int) -> None:
    """By the broadcast, or by one of the pulses that repeat it, or by a question: each of them may be lost."""
    fleet = Fleet(seed, agents=40)
    fleet.run(1_000)
    fleet.net.lost = 0.5
    for number in range(3):
        fleet.desk.order(ForceOpen, f"q{number}")
        revision, began = fleet.desk.state.revision, fleet.now
        while not fleet.know(revision):
            fleet.run(20)
            assert fleet.now - began <= 2_000
        fleet.run(2_500)


@pytest.mark.parametrize("seed", range(4))
def test_a_liar_moves_nothing(seed: int) -> None:
    """One of twelve that reports ten thousand failures of a target that is well, and successes of one that is ill."""
    fleet = Fleet(seed)
    fleet.run(4_000)
    assert fleet.states() == ["closed", "closed"]
    assert fleet.desk.state.revision == 0
    fleet.falls_ill("p/m1", 20_000)
    fleet.run(3_000)
    assert fleet.states()[1] == "closed"
    assert fleet.desk.state.circuits["p/m1"].evidence["excluded"] in (["a0"], ("a0",), [], ())
    assert fleet.states()[0] in {"open", "half_open"}


@pytest.mark.parametrize("seed", range(4))
def test_nothing_opens_without_evidence(seed: int) -> None:
    """Each opening lies within the window, and the delay of messages, of a true illness of that very target; but for
    those by the only one who was heard of since a crash, a fleet of one as far as anybody knows."""
    fleet = history(seed)
    for event in fleet.desk.journal:
        if event[0] == "o":
            target, at, evidence = event[3], event[1], event[7]
            assert evidence["counts"]["failed"] > 0
            if evidence["counts"]["reporters"] == 1:
                continue
            ills = [span for name, spans in fleet.ill.items() if name.startswith(target) for span in spans]
            late = 1_000 + 2 * 400 + TTL_MS
            assert any(begin <= at <= end + late for begin, end in ills), f"{target} opened at {at}, ill {ills}"


@pytest.mark.parametrize("seed", range(3))
def test_half_open_is_never_stuck_though_probers_are_killed_again_and_again(seed: int) -> None:
    """While traffic goes on, the next permit is given at most a second after the dead prober's has run out."""
    fleet = Fleet(seed, liar=False, prober_dies=1.0)
    fleet.falls_ill("p/m1", 1_200)
    fleet.run(2_500)
    assert fleet.states()[0] == "half_open"
    fleet.run(8 * (TTL_MS + 1_000))
    lent = [event[1] for event in fleet.desk.journal if event[0] == "p"]
    assert len(lent) >= 8
    assert max(b - a for a, b in pairwise(lent)) <= TTL_MS + 1_000
    fleet.prober_dies = 0.0
    fleet.run(2 * (TTL_MS + 1_000))
    assert fleet.states()[0] in {"ramping", "closed"}
    fleet.settle()
