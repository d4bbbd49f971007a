"""What goes first, and what is foretold."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_gpu_manager.cache_policy import Candidate, priority, to_evict
from bursar_gpu_manager.eviction import Eviction, advance, begin, is_freed
from bursar_gpu_manager.predicting import FOLLOWERS, MODELS, Predictor

MIB = 1 << 20


def test_priority_is_clock_and_uses_times_cost_over_size() -> None:
    """Twice the uses, or the cost, or half the size: twice as much above the clock."""
    base = priority(0, 1, 1_000, 1_000 * MIB)
    assert priority(0, 2, 1_000, 1_000 * MIB) == priority(0, 1, 2_000, 1_000 * MIB) == 2 * base
    assert priority(0, 1, 1_000, 500 * MIB) == 2 * base
    assert priority(7, 1, 1_000, 1_000 * MIB) == 7 + base
    assert priority(0, 0, 0, 0) > 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 20)), max_size=12), st.integers(0, 60))
@pytest.mark.property
def test_enough_goes_and_nothing_needlessly(rows: list[tuple[int, int]], needed: int) -> None:
    """None only when all together are not enough; without any one of those chosen it would not be."""
    candidates = [Candidate(value, 0, f"k{number}", size) for number, (value, size) in enumerate(rows)]
    chosen = to_evict(candidates, needed)
    if chosen is None:
        assert sum(size for _, size in rows) < needed
    else:
        freed = sum(candidate.size for candidate in chosen)
        assert freed >= needed
        assert all(freed - candidate.size < needed for candidate in chosen)


def test_one_large_victim_spares_the_small_ones_before_it() -> None:
    """They would have gone first, and are not needed."""
    candidates = [Candidate(1, 0, "small", 1), Candidate(2, 0, "large", 8)]
    assert [candidate.key for candidate in to_evict(candidates, 8) or ()] == ["large"]


def test_nothing_observed_is_freed_at_once_and_stays_freed() -> None:
    """And 95 % is enough, 94 is not."""
    assert begin("k", 0, 5) == Eviction("k", 0, "freed", 0)
    assert advance(begin("k", 0, 5), 99, 10**9).is_over
    assert is_freed(100, 5)
    assert not is_freed(100, 6)
    assert advance(begin("k", 100, 0), 5, 1).is_over


def test_what_followed_often_is_foretold() -> None:
    """Three times and in half of the cases; the same model again says nothing."""
    found = Predictor()
    for _ in range(3):
        found.see("ann", "plan")
        assert found.next_of("ann") is None
        found.see("ann", "plan")
        found.see("ann", "code")
    found.see("bob", "plan")
    assert found.next_of("bob") == "code"
    assert found.next_of("nobody") is None


def test_hints_that_do_not_come_true_stop() -> None:
    """And come back when they do."""
    found = Predictor()

    def follows(other: str) -> None:
        found.see("ann", "plan")
        found.next_of("ann")
        found.see("ann", other)

    for _ in range(3):
        follows("code")
    for number in range(60):
        follows("code" if number % 2 else f"other-{number}")
    found.see("bob", "code")
    assert 0.2 < found.share < 0.8
    wrong = Predictor.load(msgpack.unpackb(msgpack.packb(found.dump())))
    assert wrong.dump() == found.dump()
    wrong._tries, wrong._hits = 20, 6
    wrong._after["plan"] = {"code": 9}
    wrong.see("ann", "plan")
    assert wrong.next_of("ann") is None
    wrong.see("ann", "code")
    wrong.see("ann", "plan")
    assert wrong.next_of("ann") == "code"


def test_a_predictor_is_bounded() -> None:
    """Agents, models, followers, and old counts."""
    found = Predictor()
    for number in range(3 * MODELS):
        found.see(f"agent-{number}", "first")
        found.next_of(f"agent-{number}")
        found.see(f"agent-{number}", f"m{number}")
        found.see("ann", f"m{number}")
    after, last, told, _, _ = found.dump()
    assert len(last) <= MODELS
    assert len(told) <= MODELS
    assert len(after) <= MODELS
    assert all(len(row) - 1 <= FOLLOWERS for row in after)
    for _ in range(500):
        found.see("ann", "x")
        found.see("ann", "y")
    assert sum(count for row in found.dump()[0] for _, count in row[1:]) < 4 * MODELS
