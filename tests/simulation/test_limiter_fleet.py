"""The limiter with its real clients in a world that fails, judged by an oracle that shares no line with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from bursar.client.permit import Permit
from bursar.kernel import bugs
from bursar_limiter import bugs as limiter_bugs
from bursar_limiter import leasing_bugs
from tests.simulation.limiter_fleet import drawn, must_hold, played
from tests.simulation.limiter_shapes import BURSTY, LARGE, LEASED, SMALL, TIGHT, WHOLE, Shape

pytestmark = pytest.mark.simulation

SEEDS = range(5)
MOST_SEEDS = 12


def test_no_provider_sees_too_much_whatever_fails() -> None:
    """Owners die, messages are lost, agents stand still, are cut off and killed, clocks are wrong, demand moves: three
    providers see no violation, nobody is shut out, and all of it did happen."""
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        counts.update(drawn(seed).history.counts)
    for what in ("granted", "crashes", "partitions", "pauses", "kills", "void"):
        assert counts[what] > 0, what


def test_a_thousand_agents() -> None:
    """The same with a thousand agents and everything going wrong."""
    world = played(7, LARGE)
    must_hold(world)
    assert len(world.agents) >= 1_000


def test_a_calm_fleet_gets_nearly_all_of_the_limit() -> None:
    """Saturating demand, skewed clocks and nothing else: 85-95 % of the binding limit is really used."""
    world = played(3, replace(SMALL, largest=0.0), troubled=())
    must_hold(world)
    assert 0.85 <= world.utilisation("requests", 4.0, 16.0) <= 0.95


def test_same_seed_is_the_same_history_of_the_fleet() -> None:
    """A failure can be played again."""
    first, second = (played(5, TIGHT) for _ in range(2))
    assert first.history.charges == second.history.charges
    assert first.history.counts == second.history.counts


def is_caught(*runs: tuple[Shape, tuple[str, ...]]) -> bool:
    """Whether the oracle objects to some history."""
    return any(played(seed, *run).verdict().violations for seed in range(MOST_SEEDS) for run in runs)


@pytest.mark.parametrize(
    ("rule", "shape", "troubled"),
    [
        (limiter_bugs.JITTER_IGNORED, WHOLE, ()),
        (limiter_bugs.TIME_OUT_REFUNDS, BURSTY, ("kills", "pauses")),
        (leasing_bugs.PARENT_SHRUNK, LEASED, ()),
        (leasing_bugs.LEASE_NOT_DUMPED, LEASED, ("crashes",)),
        (leasing_bugs.UNRETURNED_REFUNDED, LEASED, ("kills", "partitions")),
    ],
)
def test_seeded_bug_a_safety_rule_switched_off_is_caught_by_the_oracle(
    rule: str, shape: Shape, troubled: tuple[str, ...]
) -> None:
    """Each rule that keeps the fleet below the limit is needed for it."""
    with bugs.switched_on(rule):
        assert is_caught((shape, troubled))


def test_seeded_bug_a_client_that_sends_void_permits_is_caught_by_the_oracle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The send deadline is one of the rules."""
    monkeypatch.setattr(Permit, "check", lambda permit: None)
    assert is_caught((WHOLE, ()), (BURSTY, ()))
