"""The rates of principals: when they hold, what they let through, what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.errors import BursarError
from bursar.kernel.fairness import BURST_NS, KNOWN, SECOND, Fairness

RATE = 100


class Clock:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


class Called:
    """As much of a call as the rates look at."""

    def __init__(self, principal: str) -> None:
        self.principal = principal
        self.dropped = 0

    def drop(self) -> None:
        self.dropped += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fair(clock: Clock) -> Fairness:
    return Fairness(RATE, clock)


def test_who_is_alone_may_use_all_that_there_is(fair: Fairness) -> None:
    """Nobody is protected from nobody; and a service that asks is nobody else."""
    for number in range(10 * RATE):
        assert fair.admits("alice")
        if number % 10 == 0:
            assert fair.admits("svc-monitor")
    assert fair.refused == 0


def test_beside_others_nobody_gets_more_than_a_burst_and_the_rate(fair: Fairness, clock: Clock) -> None:
    """And whoever asks less is never refused."""
    admitted = 0
    for _ in range(1_000):  # ten seconds
        clock.now += SECOND // 100
        assert fair.admits("bob")
        admitted += sum(fair.admits("flood") for _ in range(20))
    assert admitted == pytest.approx(10 * RATE + RATE * BURST_NS / SECOND, abs=2)
    assert fair.refused == 20_000 - admitted


def test_a_flood_from_before_is_not_held_against_anybody_for_longer_than_its_burst(
    fair: Fairness, clock: Clock
) -> None:
    """What was let through while there was nobody else is no debt."""
    assert all(fair.admits("alice") for _ in range(100 * RATE))
    assert fair.admits("bob")
    assert not fair.admits("alice")
    clock.now += BURST_NS
    assert all(fair.admits("alice") for _ in range(RATE // 10))


def test_a_second_after_the_others_have_gone_the_rate_holds_no_more(fair: Fairness, clock: Clock) -> None:
    """Back to all that there is."""
    assert fair.admits("bob")
    assert sum(fair.admits("alice") for _ in range(2 * RATE)) < RATE
    clock.now += SECOND + 2 * BURST_NS
    assert all(fair.admits("alice") for _ in range(2 * RATE))


def test_who_asked_long_ago_is_nobody_who_waits(fair: Fairness, clock: Clock) -> None:
    """Whoever comes after a silence is alone, whoever spoke last before it."""
    assert all(fair.admits(name) for name in ("alice", "bob"))
    clock.now += SECOND + 2 * BURST_NS
    assert all(fair.admits("alice") for _ in range(2 * RATE))


def test_a_refusal_says_when_to_ask_again_and_then_there_is_room(fair: Fairness, clock: Clock) -> None:
    """Before anything of the request is read: the handler is not called."""
    heard: list[Any] = []
    on_call = fair.calls(lambda call, rule: heard.append(call))
    rule: Any = None
    calls: dict[str, Any] = {name: Called(name) for name in ("alice", "bob")}
    on_call(calls["bob"], rule)
    while fair.admits("alice"):
        pass
    with pytest.raises(BursarError) as refused:
        on_call(calls["alice"], rule)
    assert (refused.value.code, refused.value.status) == ("overloaded", 429)
    clock.now += refused.value.facts["retry_after_ms"] * 1_000_000
    on_call(calls["alice"], rule)
    assert [call.principal for call in heard] == ["bob", "alice"]


def test_who_does_not_listen_to_refusals_is_answered_no_more(fair: Fairness, clock: Clock) -> None:
    """No more refusals than requests that would be heard; the rest is dropped."""
    on_call = fair.calls(lambda call, rule: None)
    rule: Any = None
    calls: dict[str, Any] = {name: Called(name) for name in ("alice", "bob")}
    refused = 0
    for _ in range(1_000):
        clock.now += SECOND // 1_000
        if clock.now % (SECOND // 20) == 0:
            on_call(calls["bob"], rule)
        for _ in range(3):
            try:
                on_call(calls["alice"], rule)
            except BursarError:
                refused += 1
    bound = RATE + 2 * RATE * BURST_NS // SECOND
    assert RATE // 2 < refused <= bound
    assert calls["alice"].dropped >= 3_000 - 2 * bound - 3 * RATE
    assert calls["bob"].dropped == 0


def test_an_observation_beyond_the_rate_is_dropped(fair: Fairness) -> None:
    """It is counted as one that found no room."""
    rule: Any = None
    body: Any = None
    hear = fair.observations(lambda principal, body, rule: True)
    assert hear("bob", body, rule)
    assert [hear("alice", body, rule) for _ in range(RATE)].count(False) > RATE // 2


def test_what_is_remembered_is_bounded(fair: Fairness) -> None:
    """However many names there are."""
    for number in range(3 * KNOWN):
        assert fair.admits(f"a-{number}")
    assert len(fair._until) <= KNOWN
