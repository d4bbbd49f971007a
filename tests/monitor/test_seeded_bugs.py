"""A test must be able to fail: each known mistake is switched on, and a check must object, for the right reason."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bursar.contracts.monitor import SetRules, Silence
from bursar.contracts.monitor_picture import CircuitRow, QueueRow
from bursar.contracts.monitor_policy import Inhibition, Rule, Slo
from bursar.kernel import bugs
from bursar_monitor.bugs import NAMES
from bursar_monitor.burn import MINUTE, Series, burn_milli
from bursar_monitor.forecast import Forecaster
from bursar_monitor.hpa import Recommended, largest, stabilised
from bursar_monitor.pacing import Pace
from tests.monitor.fleet import BUSY, GB, SILENT, Desk, sample
from tests.monitor.test_quotas import CPU, Host
from tests.simulation.monitor import MonitorWorkload
from tests.simulation.simulator import Violation
from tests.simulation.world import History


def samples_are_counted_once() -> None:
    """Duplicates and reordering do not change how many there are."""
    desk = Desk(SILENT)
    for seq in (1, 2, 2, 4, 3, 3, 1):
        desk.observe(sample(seq), "alpha")
    host = desk.status().hosts[0]
    assert (host.samples, host.repeated, host.late, host.missed) == (4, 3, 1, 0)


def a_replayed_sample_is_no_sign_of_life() -> None:
    """A host of which only old messages arrive is silent."""
    desk = Desk(SILENT)
    desk.samples(2)
    for _ in range(12):
        desk.observe(sample(2), "alpha")
        desk.advance(1_000)
    assert desk.firing == {("host-silent", "alpha")}


def a_jumping_signal_makes_one_alert() -> None:
    """Good for a moment is not over."""
    desk = Desk(BUSY)
    desk.samples(5, cpu=950)
    for _ in range(5):
        desk.samples(1, cpu=10)
        desk.samples(5, cpu=950)
    assert len(desk.told) == 1


def a_short_peak_is_no_alert() -> None:
    """Evidence has to hold."""
    desk = Desk(BUSY)
    desk.samples(2, cpu=950)
    desk.samples(1, cpu=10)
    assert not desk.told


def a_silenced_alert_is_told_to_nobody() -> None:
    """Not when it fires and not when it is over."""
    desk = Desk(BUSY)
    desk.must(Silence(id="s-1", rule="cpu-high", for_ms=3_600_000))
    desk.samples(5, cpu=950)
    desk.samples(6, cpu=10)
    assert not desk.told


def old_numbers_are_shown_as_old() -> None:
    """Nothing is heard for four seconds: so old is everything."""
    desk = Desk(SILENT)
    desk.sample()
    desk.advance(4_000)
    assert desk.status().hosts[0].age_ms == 4_000
    assert desk.status().sources["hosts"] == 4_000


def who_was_told_is_told_the_end() -> None:
    """Nobody is left with an alert that is over."""
    desk = Desk(BUSY)
    desk.samples(5, cpu=950)
    desk.samples(6, cpu=10)
    assert [state for state, _, _ in desk.stories()] == ["firing", "resolved"]


def an_idle_host_is_good_while_nobody_waits() -> None:
    """A fleet without work burns no error budget."""
    desk = Desk()
    slo = Slo(name="cpu", signal="cpu_permille", low=700, objective_ppm=950_000)
    desk.must(SetRules(id=desk.id(), rules=(), slos=(slo,)))
    desk.samples(3, cpu=10)
    assert list(desk.state.fresh.values()) == [[3, 0]]


def a_burn_alert_ends_soon_after_its_cause() -> None:
    """The short window is good five minutes later, and the long one is not."""
    series = Series()
    for minute in range(60):
        series.add(minute * MINUTE, int(minute > 50), int(minute <= 50))
    assert burn_milli(series, "burn_1h", 60 * MINUTE, 999_000, 1) == 0


PROVIDER: tuple[Rule, ...] = (
    Rule(name="circuit-open", signal="circuit_open", at_least=1),
    Rule(name="queue-growing", signal="queue_growth", at_least=50, severity="critical"),
)


def outage(desk: Desk) -> None:
    """A queue grows, and then it turns out that a provider is down; after some minutes another is."""
    for waiting in (0, 60):
        desk.page("scheduler", queues=[QueueRow(queue="reactive", waiting=waiting, running=0)])
        desk.advance(1_000)
    for targets in (("p",), ("p", "q")):
        desk.page("breaker", circuits=[CircuitRow(target=target, state="open") for target in targets])
        desk.advance(60_000)


def the_cause_is_what_nothing_explains() -> None:
    """The worst alert is a symptom; the provider is the cause."""
    desk = Desk(*PROVIDER)
    outage(desk)
    assert desk.notified[0]["cause"]["rule"] == "circuit-open"


def an_inhibited_alert_is_not_told() -> None:
    """Its source fires."""
    desk = Desk(*PROVIDER)
    muting = Inhibition(source="circuit-open", target="queue-growing", equal="any")
    desk.must(SetRules(id=desk.id(), rules=PROVIDER, inhibitions=(muting,)))
    outage(desk)
    assert {alert["rule"] for alert in desk.notified[0]["alerts"]} == {"circuit-open"}


def an_incident_is_told_once_in_five_minutes() -> None:
    """Whatever joins it that is no worse."""
    desk = Desk(*PROVIDER)
    outage(desk)
    assert len(desk.notified) == 1


def what_cannot_be_read_takes_nothing_away() -> None:
    """A metric that fails must not let the others scale down."""
    assert largest(5, [3, None]) == 5


def a_fall_is_held() -> None:
    """By what was wanted within the window."""
    assert stabilised(10, 3, [Recommended(0, 10)], 200_000, 0, 300) == 10


def a_forecast_that_errs_more_is_not_used() -> None:
    """What jumps at random has no season."""
    noise = random.Random(3)
    series = Forecaster(24, 1)
    level = 500
    for _ in range(24 * 6):
        level = max(0, level + noise.choice((-9, 9)))
        series.learn(level)
    assert series.forecast().is_naive


def a_bound_that_is_crossed_is_sent() -> None:
    """Whatever the distance."""
    pace = Pace(100)
    pace.wants(sample(1, cpu=695))
    pace.took(sample(1, cpu=695))
    assert pace.wants(sample(2, cpu=705))


def is_caught(bug: str, check: Callable[[], None]) -> bool:
    """The check passes without the bug and fails with it."""
    check()
    with bugs.switched_on(bug), pytest.raises(AssertionError):
        check()
    return True


def is_caught_by_histories(bug: str, words: str, seeds: int = 400) -> bool:
    """Whether, with the bug in place, some history of the simulator breaks the promise that these words name."""
    with bugs.switched_on(bug):
        for seed in range(seeds):
            try:
                History(seed, MonitorWorkload).play()
            except Violation as violation:
                if words in str(violation):
                    return True
    return False


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("bug", "words"),
    [
        ("monitor_sample_counted_twice", "counted twice"),
        ("monitor_flapping_alert", "over before its time"),
        ("monitor_hold_ignored", "without its hold"),
        ("monitor_silence_ignored", "silenced and told"),
        ("monitor_stale_shown_as_fresh", "ms old"),
        ("monitor_lent_twice", "more is guaranteed"),
    ],
)
def test_histories_catch_the_mistake_too(bug: str, words: str) -> None:
    """The simulator's checks can fail, each for the right reason."""
    assert is_caught_by_histories(bug, words)


def test_seeded_bug_monitor_sample_counted_twice_is_caught() -> None:
    """A repeated sample must not be counted."""
    assert is_caught("monitor_sample_counted_twice", samples_are_counted_once)


def test_seeded_bug_monitor_replay_revives_host_is_caught() -> None:
    """A repeated sample must not look like a sign of life."""
    assert is_caught("monitor_replay_revives_host", a_replayed_sample_is_no_sign_of_life)


def test_seeded_bug_monitor_flapping_alert_is_caught() -> None:
    """An alert must not end at the first good reading."""
    assert is_caught("monitor_flapping_alert", a_jumping_signal_makes_one_alert)


def test_seeded_bug_monitor_hold_ignored_is_caught() -> None:
    """An alert must not fire at the first bad reading."""
    assert is_caught("monitor_hold_ignored", a_short_peak_is_no_alert)


def test_seeded_bug_monitor_silence_ignored_is_caught() -> None:
    """A silence must be looked at."""
    assert is_caught("monitor_silence_ignored", a_silenced_alert_is_told_to_nobody)


def test_seeded_bug_monitor_stale_shown_as_fresh_is_caught() -> None:
    """An age must be that of the number, not of the answer."""
    assert is_caught("monitor_stale_shown_as_fresh", old_numbers_are_shown_as_old)


def test_seeded_bug_monitor_end_not_told_is_caught() -> None:
    """An end must be told to whom the beginning was told."""
    assert is_caught("monitor_end_not_told", who_was_told_is_told_the_end)


def test_seeded_bug_monitor_idle_is_bad_is_caught() -> None:
    """Below the band must count only while somebody waits."""
    assert is_caught("monitor_idle_is_bad", an_idle_host_is_good_while_nobody_waits)


def test_seeded_bug_monitor_long_window_only_is_caught() -> None:
    """A burn rate must be that of both windows."""
    assert is_caught("monitor_long_window_only", a_burn_alert_ends_soon_after_its_cause)


def test_seeded_bug_monitor_root_is_first_is_caught() -> None:
    """The cause must be found by the graph."""
    assert is_caught("monitor_root_is_first", the_cause_is_what_nothing_explains)


def test_seeded_bug_monitor_inhibition_ignored_is_caught() -> None:
    """An inhibition must mute."""
    assert is_caught("monitor_inhibition_ignored", an_inhibited_alert_is_not_told)


def test_seeded_bug_monitor_told_too_often_is_caught() -> None:
    """The interval between two notifications must be kept."""
    assert is_caught("monitor_told_too_often", an_incident_is_told_once_in_five_minutes)


def test_seeded_bug_monitor_scales_down_blind_is_caught() -> None:
    """Ignorance must not scale down."""
    assert is_caught("monitor_scales_down_blind", what_cannot_be_read_takes_nothing_away)


def test_seeded_bug_monitor_window_ignored_is_caught() -> None:
    """A stabilisation window must hold."""
    assert is_caught("monitor_window_ignored", a_fall_is_held)


def test_seeded_bug_monitor_forecast_unjudged_is_caught() -> None:
    """A forecast must have been better than the naive one."""
    assert is_caught("monitor_forecast_unjudged", a_forecast_that_errs_more_is_not_used)


def test_seeded_bug_monitor_bound_overlooked_is_caught() -> None:
    """A crossed bound must be sent, however small the step."""
    assert is_caught("monitor_bound_overlooked", a_bound_that_is_crossed_is_sent)


def a_host_is_leased_once() -> None:
    """What one has, another does not get."""
    host = Host()
    assert host.lease(cpu_milli=CPU)["ok"]
    assert not host.lease(cpu_milli=CPU)["ok"]


def leased_memory_is_not_lent() -> None:
    """Whoever has leased it may fill it at any moment."""
    host = Host()
    idle = host.lease("ann", memory_bytes=20 * GB, ttl_ms=60_000)["lease"]
    borrower = host.lease("bob", memory_bytes=4 * GB, most_memory_bytes=30 * GB, ttl_ms=60_000)["lease"]
    host.use(idle, memory=0)
    for _ in range(25):
        host.use(borrower, memory=host.limits()[borrower][1])
        host.seconds(1)
        assert host.limits()[idle][1] == 20 * GB


def test_seeded_bug_monitor_lent_twice_is_caught() -> None:
    """A guarantee must be given once."""
    assert is_caught("monitor_lent_twice", a_host_is_leased_once)


def test_seeded_bug_monitor_guarantee_forgotten_is_caught() -> None:
    """Memory must stay with whoever has leased it."""
    assert is_caught("monitor_guarantee_forgotten", leased_memory_is_not_lent)


def test_every_seeded_bug_has_its_test() -> None:
    """None of the known mistakes goes without the test that shows that it is seen."""
    for name in NAMES:
        assert f"test_seeded_bug_{name}_is_caught" in globals(), name
