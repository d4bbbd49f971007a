"""Which looks a probe sends, and what nobody misses because of those that it does not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts.monitor import CpuSample, GpuSample, HostSample, MemorySample, PressureSample, SetRules
from bursar.contracts.monitor_policy import Slo
from bursar_monitor.pacing import ALARMING, BOUNDS, LEAST, Pace, dead_band, side, values_of
from bursar_monitor.settings import DEFAULT_RULES, read_rules
from tests.monitor.fleet import BUSY, Desk, full, sample

LEVEL = st.integers(0, 1_000)


def seen(cpu: int = 100, memory: int = 300, pressure: int = 0, **fields: object) -> HostSample:
    return sample(1, cpu=cpu).model_copy(
        update={
            "memory": MemorySample(total_bytes=1_000, available_bytes=1_000 - memory),
            "pressure": PressureSample(io_permille=pressure),
            **fields,
        }
    )


def sent(pace: Pace, *samples: HostSample) -> list[bool]:
    found = []
    for one in samples:
        found.append(pace.wants(one))
        if found[-1]:
            pace.took(one)
    return found


def test_what_says_nothing_new_is_sent_every_fourth_time() -> None:
    """Noise far away from every bound is nothing new."""
    assert sent(Pace(), *(seen(cpu=100 + 20 * (n % 3)) for n in range(9))) == [True, *[False, False, False, True] * 2]
    assert all(sent(Pace(1), *[seen()] * 3))


def test_a_bound_that_is_crossed_is_told_at_once() -> None:
    """In either direction, whatever the distance; and the dead band is small near a bound."""
    pace = Pace(100)
    assert sent(pace, seen(cpu=690), seen(cpu=699), seen(cpu=700), seen(cpu=699)) == [True, False, True, True]
    assert dead_band("cpu", 690) == LEAST
    assert dead_band("cpu", 100) == 300


def test_beyond_the_bound_of_an_alert_each_look_is_evidence() -> None:
    """The alert fires and clears as soon as it would with every look sent."""
    assert all(sent(Pace(), *[seen(cpu=950)] * 5))
    assert all(sent(Pace(), *[seen(memory=820)] * 5))
    assert sent(Pace(), seen(cpu=950), seen(cpu=890), seen(cpu=890)) == [True, True, False]


def test_a_slow_drift_is_sent_when_it_has_left_the_dead_band() -> None:
    """Against what was sent, not against the look before."""
    assert sent(Pace(100), *(seen(cpu=100 + 50 * n) for n in range(8))) == [True, *[False] * 6, True]


def test_devices_that_come_go_or_are_lost_are_told_at_once() -> None:
    """So is a device that fills up by a quarter of a GiB or more."""
    one = GpuSample(index=0, uuid="A", memory_used_bytes=0)
    pace = Pace(100)
    steps = [(), (one,), (one,), (one.model_copy(update={"lost": True}),), (one,),
             (one.model_copy(update={"memory_used_bytes": 1 << 28}),), ()]  # fmt: skip
    assert sent(pace, *(seen(gpus=gpus) for gpus in steps)) == [True, True, False, True, True, True, True]


def test_what_is_not_known_any_more_is_told() -> None:
    """A value that comes or goes."""
    assert sent(Pace(100), seen(), sample(1, cpu=None), sample(1, cpu=None), full(1)) == [True, True, False, True]
    assert set(values_of(full(1))) == {"cpu", "memory", "disk"}


@pytest.mark.property
@given(st.lists(st.tuples(LEVEL, LEVEL, LEVEL), min_size=1, max_size=60), st.integers(1, 6))
def test_nobody_is_ever_wrong_about_the_side_of_a_bound(levels: list[tuple[int, int, int]], most: int) -> None:
    """After each look what was sent is on the same side of every bound, within the dead band, and not too old."""
    pace, last, since = Pace(most), None, 0
    for cpu, memory, pressure in levels:
        one = seen(cpu, memory, pressure)
        since += 1
        if pace.wants(one):
            assert pace.looks == since
            pace.took(one)
            last, since = one, 0
        assert last is not None
        assert since < most
        for name, value in values_of(one).items():
            told = values_of(last)[name]
            assert side(name, value) == side(name, told)
            assert abs(value - told) <= dead_band(name, told)
            assert value < ALARMING[name] or since == 0


def test_an_error_budget_is_the_same_whether_each_look_is_sent_or_not() -> None:
    """A sample counts for the looks that it stands for, each as what it was."""
    noise = random.Random(5)
    levels = [noise.choice((200, 210, 650, 690, 720, 880, 930)) for _ in range(300)]
    slo = Slo(name="cpu", signal="cpu_permille", high=850, objective_ppm=950_000)

    def counted(most: int) -> list[list[int]]:
        desk, pace, seq = Desk(), Pace(most), 0
        desk.must(SetRules(id=desk.id(), rules=(), slos=(slo,)))
        for cpu in levels:
            one = sample(seq + 1, cpu=cpu)
            if pace.wants(one):
                seq += 1
                desk.observe(one.model_copy(update={"looks": pace.looks}), "alpha")
                pace.took(one)
        desk.observe(sample(seq + 1, cpu=levels[-1], looks=pace.looks + 1), "alpha")
        return list(desk.state.fresh.values())

    assert counted(4) == counted(1)


def test_an_alert_fires_no_later_than_with_every_look_sent() -> None:
    """Three seconds beyond its bound, seen by the monitor as it is seen by the probe."""

    def fired_at(most: int) -> int:
        desk, pace, seq = Desk(BUSY), Pace(most), 0
        for second in range(40):
            one = sample(seq + 1, cpu=950 if second >= 20 else 300)
            if pace.wants(one):
                seq += 1
                desk.observe(one, "alpha")
                pace.took(one)
            if desk.firing:
                return second
            desk.advance(1_000)
        raise AssertionError("it never fired")

    assert fired_at(4) == fired_at(1)


def test_bounds_are_those_of_the_rules_that_come_with_the_monitor() -> None:
    """Whoever changes a rule is reminded of the probe."""
    policy = read_rules(DEFAULT_RULES)
    limits = {rule.signal: {rule.at_least, rule.clears_below} for rule in policy.rules}
    assert limits["cpu_permille"] <= set(BOUNDS["cpu"])
    assert limits["memory_permille"] <= set(BOUNDS["memory"])
    assert limits["disk_permille"] <= set(BOUNDS["disk"])
    bands = {slo.name: (slo.low, slo.high) for slo in policy.slos}
    assert set(bands["cpu"]) <= set(BOUNDS["cpu"])
    assert {(limit or 0) * 8 // 10 for limit in bands["memory"]} <= set(BOUNDS["memory"])
    silence = next(rule for rule in policy.rules if rule.signal == "host_silence_ms")
    assert silence.at_least > 4_000, "a probe may say nothing for four seconds"


def test_a_cpu_sample_is_small() -> None:
    """What is not known is not sent."""
    payload = sample(1).model_dump(exclude_none=True)
    assert "memory" not in payload
    assert HostSample.model_validate(payload, strict=False) == sample(1)
    assert CpuSample.model_validate(payload["cpu"]).used_permille == 100
