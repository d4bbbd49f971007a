"""Latency buckets and counts."""

from __future__ import annotations

import random

from bursar.bus.stats import EndpointStats, bucket_of, top_of


def test_buckets_grow_with_the_latency_and_are_an_eighth_wide() -> None:
    """Every latency is at most its bucket's top, and more than 8/9 of it."""
    rng = random.Random(1)
    samples = sorted([*range(2000), *(rng.randrange(2 ** rng.randint(1, 62)) for _ in range(20_000))])
    last = 0
    for ns in samples:
        bucket = bucket_of(ns)
        assert bucket >= last
        assert ns <= top_of(bucket) <= max(ns * 9 // 8, ns)
        last = bucket


def test_odd_latencies_do_not_hurt() -> None:
    """A clock that goes back, or stands for years, stays within the table."""
    stats = EndpointStats()
    for ns in (-5, 0, 2**200):
        stats.answered(ns)
    assert stats.percentile(1000) > 0


def test_percentiles_of_nothing_are_zero() -> None:
    """Before the first answer there is no latency."""
    assert EndpointStats().percentile(990) == 0


def test_percentiles_are_those_of_the_samples() -> None:
    """Within the width of a bucket."""
    rng = random.Random(2)
    stats = EndpointStats()
    samples = [rng.randrange(1, 10**8) for _ in range(5000)]
    for ns in samples:
        stats.answered(ns)
    samples.sort()
    for permille in (500, 950, 990, 1000):
        exact = samples[permille * 5 - 1]
        assert exact <= stats.percentile(permille) <= exact * 9 // 8
