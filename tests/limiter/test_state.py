"""Dump, load, replay, and events in words."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from tests.limiter.fleet import Desk
from tests.limiter.test_recovery import lose, redeclare

HUGE = BudgetSpec(
    name="huge/one",
    limits={
        "requests": LimitSpec(limit=2**53 - 1, window_ms=31_536_000_000),
        "input_tokens": LimitSpec(limit=2**50, window_ms=600_000, bucket=2**49),
        "output_tokens": LimitSpec(limit=1000, window_ms=1000, charge="production"),
        "concurrent": LimitSpec(limit=50, window_ms=0),
        "usd_micros": LimitSpec(limit=10**9, window_ms=0),
    },
    jitter_ms=60_000,
    utilisation_permille=1,
    burst_permille=1000,
)


def lively() -> Desk:
    """A desk with something of everything."""
    desk = Desk(HUGE, now=10**12)
    calls = [desk.granted("huge/one", requests=2**51, input_tokens=2**40 + n, output_tokens=7) for n in range(2)]
    calls += [desk.granted("huge/one", concurrent=1, usd_micros=5, ttl_ms=200 * n) for n in range(1, 6)]
    desk.settle(calls[0], requests=2**50, input_tokens=2**41, output_tokens=9)
    desk.cancel(calls[2])
    desk.advance(desk.now + 500)
    desk.settle(calls[3], usd_micros=50)
    desk.reload(HUGE, HUGE.model_copy(update={"name": "b", "jitter_ms": 5}))
    lost = desk.granted("b", concurrent=1)
    lose(desk, 1)
    redeclare(desk, lost, concurrent=1)
    return desk


def test_the_state_survives_msgpack() -> None:
    """Whatever the sizes: no integer of a dump is too large, and lists may come back as tuples."""
    desk = lively()
    packed = msgpack.packb(desk.dump())
    for use_list in (True, False):
        value = msgpack.unpackb(packed, use_list=use_list, strict_map_key=False)
        state = desk.decider.load(value)
        validate(state, desk.now)
        assert msgpack.packb(desk.decider.dump(state)) == packed


@pytest.mark.parametrize("use_list", [True, False])
def test_events_survive_msgpack(use_list: bool) -> None:
    """Replayed from the journal's bytes they make the same state."""
    desk = lively()
    state = desk.decider.initial()
    for event in desk.journal:
        desk.decider.evolve(state, tuple(msgpack.unpackb(msgpack.packb(event), use_list=use_list)))
    assert desk.decider.dump(state) == desk.dump()


def test_every_event_can_be_told_in_words() -> None:
    """One line each, with what it is about."""
    desk = lively()
    words = [desk.decider.describe(event) for event in desk.journal]
    assert {event[0] for event in desk.journal} == set("gsctlbxa")
    assert all("\n" not in line for line in words)
    for part in ("granted 1.1.", "to agent", "settled", "cancelled", "timed out", "late report", "replaced", "lost"):
        assert any(part in line for line in words), part
    assert "requests 2251799813685248" in words[1]


def test_a_new_state_is_empty_and_asks_for_nothing() -> None:
    """Nothing is due, and nothing will be."""
    decider = LimiterDecider()
    state = decider.initial()
    assert decider.due(state, 10**9) is None
    assert decider.wake_at(state) is None
    assert decider.dump(decider.load(decider.dump(state))) == decider.dump(state)


def test_validate_finds_a_broken_state() -> None:
    """It is no formality: a ledger that disagrees with its sum is found."""
    desk = lively()
    desk.state.budgets["huge/one"].meters[0].in_flight += 1
    with pytest.raises(AssertionError, match="in flight"):
        validate(desk.state, desk.now)
