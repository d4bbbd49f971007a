"""Work conservation: stable just under capacity, not just over; and a discipline that is known to waste shows it."""

from __future__ import annotations

import pytest

from bench.scheduler_sim import Fair, Fcfs, calls_of, compare, fairness, jain, judge, play
from bench.scheduler_stability import batched, growth, is_stable, slotted
from bursar.demo.trace import generate
from bursar_scheduler.placing import POLICIES

pytestmark = pytest.mark.simulation


def test_full_batches_are_stable_up_to_their_capacity() -> None:
    """Tokens come more slowly than b / t_b: the backlog stays; a little faster: it grows."""
    assert is_stable(batched("mixed", 0.95, 150, 1))
    assert not is_stable(batched("mixed", 1.08, 150, 1))


def test_static_batches_are_not_stable_where_full_ones_are() -> None:
    """Batches that let nobody in waste what they could do: they fail well below the capacity."""
    assert is_stable(batched("static", 0.5, 150, 1))
    assert not is_stable(batched("static", 0.8, 150, 1))
    assert is_stable(batched("mixed", 0.8, 150, 1))


@pytest.mark.parametrize("policy", ["score", "token_budget"])
def test_the_scheduler_is_stable_up_to_the_capacity_of_its_workers(policy: str) -> None:
    """Its order and its placement let no slot idle while a call waits."""
    assert is_stable(slotted(policy, 0.9, 800, 2))
    assert not is_stable(slotted(policy, 1.15, 800, 2))


def test_growth_is_told_per_arrival() -> None:
    """A backlog that grows by one with each tenth arrival has a growth of a tenth."""
    assert growth([number // 10 for number in range(4_000)]) == pytest.approx(0.1, abs=0.01)
    assert growth([7] * 400) == 0


def test_fair_shares_on_a_trace() -> None:
    """Agents that want more get equal parts from the scheduler's order, and unequal ones first come, first served;
    fewer calls miss their deadlines."""
    arrivals = generate(3, requests=900, span_s=350.0)
    played = {}
    for name, discipline in (("ours", Fair("score")), ("fcfs", Fcfs("round_robin"))):
        calls = calls_of(arrivals, 0.9)
        play(calls, discipline)
        played[name] = judge(calls)
    assert played["ours"].jain > 0.9 > played["fcfs"].jain
    assert played["ours"].missed < played["fcfs"].missed


def test_every_policy_runs_every_call_once() -> None:
    """In virtual time each call starts after it comes, ends, and never more than two are on a worker."""
    arrivals = generate(5, requests=150, span_s=60.0)
    for policy in POLICIES:
        calls = calls_of(arrivals, 0.8)
        play(calls, Fair(policy))
        assert all(call.submitted_at <= call.started_at < call.ended_at for call in calls)
        for call in calls:
            beside = [o for o in calls if o.worker == call.worker and o.started_at <= call.started_at < o.ended_at]
            assert len(beside) <= 2


def test_jain_is_one_for_equals_and_a_part_for_one_who_has_all() -> None:
    """Its definition; nobody wanting more is fair."""
    assert jain([3, 3, 3]) == 1.0
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 1.0
    assert fairness([]) == 1.0


def test_the_comparison_has_all_its_figures() -> None:
    """Each discipline at each load."""
    figures = compare(generate(2, requests=120, span_s=50.0), [0.7])
    assert len(figures) == 12
    assert all(value >= 0 for value in figures.values())
