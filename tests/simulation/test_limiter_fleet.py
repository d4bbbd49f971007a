"""The limiter with its real clients in a world that fails, judged by an oracle that shares no line with it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bursar.client.permit import Permit
from bursar.kernel import bugs
from bursar_limiter import bugs as limiter_bugs
from tests.simulation.limiter_fleet import BURSTY, LARGE, SMALL, TIGHT, WHOLE, drawn, must_hold, played

pytestmark = pytest.mark.simulation

SEEDS = range(8)
MOST_SEEDS = 6


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


def is_caught(switch: Any) -> bool:
    """Whether, with a rule switched off, the oracle objects to some history."""
    with switch:
        return any(
            played(seed, shape, troubled).verdict().violations
            for seed in range(MOST_SEEDS)
            for shape, troubled in ((WHOLE, ()), (BURSTY, ("kills", "pauses")))
        )


@pytest.mark.parametrize(
    "rule",
    [
        limiter_bugs.JITTER_IGNORED,
        limiter_bugs.TIME_OUT_REFUNDS,
    ],
)
def test_seeded_bug_a_safety_rule_switched_off_is_caught_by_the_oracle(rule: str) -> None:
    """Each rule that keeps the fleet below the limit is needed for it."""
    assert is_caught(bugs.switched_on(rule))


def test_seeded_bug_a_client_that_sends_void_permits_is_caught_by_the_oracle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The send deadline is one of the rules."""
    send: Callable[[Permit], None] = lambda permit: None  # noqa: E731 - a rule switched off
    with monkeypatch.context() as patch:
        patch.setattr(Permit, "check", send)
        assert is_caught(contextlib.nullcontext())
