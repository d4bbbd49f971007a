"""Batches: when one begins, and how size and time-out follow the latency that is wanted; on plain numbers."""

from __future__ import annotations

import math
import random

import pytest

from bursar.batching import DEFAULTS, LARGEST, SAMPLES, SMALLEST, BatchRule, Collector, Tuner


def test_the_rules_by_what_the_work_is_done_with() -> None:
    """Members and milliseconds."""
    told = {kind: (rule.size, rule.wait_ms) for kind, rule in DEFAULTS.items()}
    assert told == {"model": (10, 100), "database": (50, 50), "file": (20, 200), "network": (15, 150)}


@pytest.mark.parametrize("wrong", [(0, 1.0), (257, 1.0), (1, -1.0), (1, 60_001.0), (1, math.nan)])
def test_a_rule_has_bounds(wrong: tuple[int, float]) -> None:
    """1 to 256 members, at most a minute."""
    with pytest.raises(ValueError, match="a batch"):
        BatchRule(*wrong)


def test_a_batch_begins_when_it_is_full_or_its_first_member_has_waited() -> None:
    """Whichever comes first."""
    waiting: Collector[str] = Collector(BatchRule(3, 100.0))
    assert not waiting.is_due(1e9)
    waiting.add("a", 0.0)
    waiting.add("b", 60.0)
    assert not waiting.is_due(99.0)
    assert waiting.is_due(100.0)
    assert waiting.due_at == 100.0
    waiting.add("c", 60.0)
    assert waiting.is_due(60.0)
    assert waiting.take() == ["a", "b", "c"]
    assert (len(waiting), waiting.due_at) == (0, math.inf)


def test_it_does_not_wait_for_members_that_cannot_come() -> None:
    """All places of the worker are taken by it."""
    waiting: Collector[str] = Collector(BatchRule(10, 100.0))
    waiting.add("a", 0.0)
    assert not waiting.is_due(0.0, room=2)
    waiting.add("b", 0.0)
    assert waiting.is_due(0.0, room=2)


def test_nobody_waits_into_its_deadline() -> None:
    """The batch begins so early that it can be done by then; at once, when it is late already."""
    waiting: Collector[str] = Collector(BatchRule(10, 100.0))
    waiting.run_ms = 30.0
    waiting.add("a", 0.0)
    waiting.add("b", 10.0, deadline=70.0)
    assert waiting.due_at == 40.0
    waiting.add("c", 20.0, deadline=25.0)
    assert waiting.is_due(20.0)


def test_who_is_too_many_waits_on_and_who_left_is_not_taken() -> None:
    """Each keeps its own time."""
    waiting: Collector[str] = Collector(BatchRule(4, 100.0))
    for at, member in enumerate("abcd"):
        waiting.add(member, float(at))
    assert waiting.drop("a")
    assert not waiting.drop("x")
    assert waiting.due_at == 101.0
    waiting.rule = BatchRule(2, 100.0)
    assert waiting.take() == ["b", "c"]
    assert waiting.due_at == 103.0
    assert waiting.drop("d")
    assert waiting.due_at == math.inf


class Bench:
    """Members come at random; a batch takes ``fixed`` ms and ``each`` ms a member."""

    def __init__(self, rule: BatchRule, target: float, fixed: float, each: float, per_second: float) -> None:
        self.tuner = Tuner(rule, target)
        self.fixed, self.each, self.gap = fixed, each, 1000.0 / per_second
        self.now = 0.0
        self.random = random.Random(7)
        self.seen: list[float] = []
        self.sizes: list[int] = []

    def run(self, batches: int) -> None:
        for _ in range(batches):
            rule = self.tuner.rule
            came = [self.now]
            while len(came) < rule.size:
                at = came[-1] + self.random.expovariate(1.0 / self.gap)
                if at > came[0] + rule.wait_ms:
                    break
                came.append(at)
            begins = came[-1] if len(came) == rule.size else came[0] + rule.wait_ms
            ends = begins + self.fixed + self.each * len(came)
            self.sizes.append(len(came))
            for at in came:
                self.seen.append(ends - at)
                self.tuner.ended(at, ends)
            self.now = ends + self.random.expovariate(1.0 / self.gap)

    def p95(self, last: int) -> float:
        ordered = sorted(self.seen[-last:])
        return ordered[math.ceil(0.95 * len(ordered)) - 1]


@pytest.mark.parametrize(("per_second", "fixed", "each"), [(400.0, 10.0, 2.0), (100.0, 20.0, 0.5), (60.0, 5.0, 6.0)])
@pytest.mark.parametrize("target", [60.0, 90.0, 140.0])
def test_the_latency_comes_to_its_target(target: float, per_second: float, fixed: float, each: float) -> None:
    """Within a fifth of it, for light and heavy work, from above and from below."""
    bench = Bench(DEFAULTS["model"], target, fixed, each, per_second)
    bench.run(3_000)
    assert bench.p95(1_000) == pytest.approx(target, rel=0.2)


def test_a_target_out_of_reach_ends_at_a_bound_and_comes_back_at_once() -> None:
    """Nothing winds up: when the work becomes quick the batches grow again within a few steps."""
    bench = Bench(DEFAULTS["model"], 50.0, 200.0, 1.0, 200.0)
    bench.run(2_000)
    assert bench.tuner.rule.size == 1
    assert bench.tuner.factor == SMALLEST
    bench.fixed = 2.0
    bench.run(1_500)
    assert bench.tuner.factor > 10 * SMALLEST
    lazy = Bench(DEFAULTS["model"], 10_000.0, 1.0, 0.0, 1_000.0)
    lazy.run(3_000)
    assert lazy.tuner.factor == LARGEST
    assert max(lazy.sizes) == 40


def test_a_step_goes_by_what_came_in_after_the_last_one() -> None:
    """What was collected under the old rule says nothing about the new one."""
    tuner = Tuner(BatchRule(10, 100.0), 100.0)
    assert [tuner.ended(0.0, 50.0) for _ in range(SAMPLES)] == [False] * (SAMPLES - 1) + [True]
    assert tuner.p95_ms == 50.0
    assert tuner.rule.wait_ms > 100.0
    assert not any(tuner.ended(49.0, 500.0) for _ in range(2 * SAMPLES))
    assert tuner.p95_ms == 50.0


@pytest.mark.parametrize("target", [0.0, -1.0, math.inf, math.nan])
def test_a_target_is_a_time(target: float) -> None:
    """Above nothing, and finite."""
    with pytest.raises(ValueError, match="target"):
        Tuner(DEFAULTS["file"], target)
