"""When a circuit opens, by which cause, and when it does not."""

from __future__ import annotations

import pytest

from bursar.contracts.breaker import Rule
from bursar_breaker.lifecycle import AUTH, CONSECUTIVE, FAILURE_RATE, OVERLOAD, SLOW_RATE
from tests.breaker.desk import Desk, rule


def test_failures_of_a_fleet_of_one_open_the_circuit() -> None:
    """A single reporter is a quorum when there is nobody else."""
    desk = Desk()
    desk.report(ok=2, error=1)
    assert desk.state_of() == "closed"
    desk.report(error=1)
    assert desk.state_of() == "open"
    assert desk.state.circuits["p"].reason == FAILURE_RATE
    assert desk.told[-1] == {
        "v": 1, "target": "p", "state": "open", "revision": 1, "generation": 1, "reason": FAILURE_RATE,
        "remaining_ms": 500, "share": 0,
    }  # fmt: skip
    desk.check()


@pytest.mark.parametrize("kind", ["timeout", "error", "overload"])
def test_each_kind_of_fault_counts_towards_the_rate(kind: str) -> None:
    """Time-outs, 5xx and overload without a time follow the rate rule."""
    desk = Desk()
    desk.saw({kind: 4})
    assert desk.state.circuits["p"].reason == FAILURE_RATE


@pytest.mark.parametrize("kind", ["rate_limited", "cancelled"])
def test_quota_and_cancelled_calls_do_not_trip(kind: str) -> None:
    """429 is the limiter's matter, and what the caller gave up says nothing about the target."""
    desk = Desk(rule(consecutive=2))
    for _ in range(5):
        desk.saw({kind: 50})
    desk.report(ok=1)
    assert desk.state_of() == "closed"
    assert desk.status().circuits[0].counts[kind] == 250


def test_below_the_minimum_of_calls_no_rate_is_judged() -> None:
    """Three failures of three are too few for a rule that wants four calls."""
    desk = Desk()
    desk.report(error=3)
    assert desk.state_of() == "closed"


def test_one_bad_reporter_trips_nothing_while_another_succeeds() -> None:
    """However much it reports: a quorum has two voices where there are two reporters."""
    desk = Desk(rule(consecutive=5))
    desk.report(who="bob", ok=3)
    for _ in range(20):
        desk.report(who="ann", error=1_000)
    assert desk.state_of() == "closed"
    shown = desk.status().circuits[0]
    assert (shown.reporters, shown.failing) == (2, 1)
    desk.report(who="bob", error=3)
    assert desk.state_of() == "open"


def test_a_quorum_is_a_part_of_a_large_fleet() -> None:
    """Of 40 reporters a tenth must see it: three do not suffice, four do."""
    desk = Desk(rule(failure_permille=100))
    for number in range(36):
        desk.report(who=f"a{number}", ok=1)
    for number in range(3):
        desk.report(who=f"b{number}", error=50)
    assert desk.state_of() == "closed"
    desk.report(who="b3", error=50)
    assert desk.state_of() == "open"


def test_a_thousand_agents_with_one_call_each_trip_together() -> None:
    """No agent alone has enough calls for a rule of its own."""
    desk = Desk(rule(minimum_calls=100))
    for number in range(1_000):
        desk.report(who=f"a{number}", error=1)
        if desk.state_of() == "open":
            break
    assert number + 1 == 100


def test_consecutive_failures_trip_below_the_minimum_of_calls() -> None:
    """The streak of the fleet, which any success ends."""
    desk = Desk(rule(consecutive=3, minimum_calls=1_000))
    desk.report(error=2)
    desk.report(ok=1)
    desk.report(error=2)
    assert desk.state_of() == "closed"
    desk.report(timeout=1)
    assert desk.state.circuits["p"].reason == CONSECUTIVE


def test_a_sudden_outage_opens_at_once_though_the_window_is_full_of_successes() -> None:
    """The streak asks who has failed since the last success, not whose rate is bad by now."""
    desk = Desk(rule(consecutive=5))
    for who in ("ann", "bob"):
        desk.report(who=who, ok=500)
    desk.report(who="ann", error=40)
    assert desk.state_of() == "closed"
    desk.report(who="bob", error=1)
    assert desk.state.circuits["p"].reason == CONSECUTIVE


def test_a_streak_of_one_reporter_is_no_quorum() -> None:
    """Whoever has failed before the last success has no voice in the streak after it."""
    desk = Desk(rule(consecutive=5))
    for who in ("ann", "bob", "eve"):
        desk.report(who=who, ok=500)
    desk.report(who="bob", error=1)
    desk.report(who="eve", ok=1)
    desk.report(who="ann", error=400)
    assert desk.state_of() == "closed"


def test_slow_calls_trip_by_their_own_rate() -> None:
    """They are no failures: the failure rate stays at nothing."""
    desk = Desk(rule(slow_permille=600))
    desk.report(ok=2, slow=2)
    assert desk.state_of() == "closed"
    desk.report(slow=3)
    assert desk.state_of() == "open"
    assert desk.state.circuits["p"].reason == SLOW_RATE


def test_an_overloaded_target_that_names_a_time_opens_at_once_for_that_time() -> None:
    """One answer of a fleet of one suffices, and the open time is what was asked for."""
    desk = Desk()
    desk.report(overload=1, retry_after_ms=7_000)
    assert desk.state.circuits["p"].reason == OVERLOAD
    assert desk.until() == desk.now + 7_000


def test_overload_with_a_time_needs_a_quorum_where_others_succeed() -> None:
    """One reporter that says so among others that get answers keeps nobody out."""
    desk = Desk()
    desk.report(who="bob", ok=5)
    desk.report(who="ann", overload=1, retry_after_ms=7_000)
    assert desk.state_of() == "closed"
    desk.report(who="bob", overload=1, retry_after_ms=3_000)
    assert desk.state_of() == "open"
    assert desk.until() == desk.now + 7_000


def test_the_time_asked_for_is_capped() -> None:
    """Nobody is believed for longer than the rule says."""
    desk = Desk()
    desk.report(overload=1, retry_after_ms=80_000)
    assert desk.until() == desk.now + 20_000


def test_rejected_keys_open_the_key_and_nothing_above() -> None:
    """401 and 403 speak about the last segment alone; another key of the same model goes on."""
    desk = Desk()
    desk.report("p/m/key-1", auth=3)
    assert desk.state.circuits["p/m/key-1"].reason == AUTH
    assert desk.state_of("p/m") == desk.state_of("p") == desk.state_of("p/m/key-2") == "closed"
    assert desk.state.windows.get("p/m") is None


def test_rejected_keys_open_no_target_of_one_segment() -> None:
    """It names no key: other agents may come with better ones."""
    desk = Desk()
    desk.report("p", auth=50)
    assert desk.state_of("p") == "closed"


def test_a_key_that_works_for_somebody_stays_closed() -> None:
    """The fault is then in what the others send."""
    desk = Desk()
    desk.report("p/k", "bob", ok=1)
    desk.report("p/k", "ann", auth=9)
    assert desk.state_of("p/k") == "closed"


def test_failures_below_open_what_is_above() -> None:
    """A fleet in which every agent has its own key sees together that the model is down."""
    desk = Desk(rule(), rule("p/m", minimum_calls=6))
    for number in range(5):
        desk.report(f"p/m/key-{number}", f"a{number}", error=1)
    assert desk.state_of("p/m") == "closed"
    desk.report("p/m/key-9", "a9", error=1)
    assert desk.state_of("p/m") == "open"
    assert desk.state_of("p/m/key-1") == "closed", "one call is too little for a key of its own"
    assert desk.state_of("p") == "closed", "one model is not its provider"


def test_reports_leave_the_window_after_its_length() -> None:
    """Failures of more than a window ago count no more."""
    desk = Desk()
    desk.report(error=3)
    desk.advance(1_000)
    desk.report(error=1)
    assert desk.state_of() == "closed"
    assert desk.status().circuits[0].calls == 1


def test_open_time_grows_and_is_capped() -> None:
    """500, 1,000, 2,000, then 4,000 ms, as long as it does not stay closed for the calm time."""
    desk = Desk()
    times = []
    for _ in range(5):
        desk.open()
        times.append(desk.until() - desk.now)
        desk.advance(times[-1])
        desk.probed(desk.probe())
        assert desk.state_of() == "closed"
    assert times == [500, 1_000, 2_000, 4_000, 4_000]
    desk.advance(2_000)
    desk.open()
    assert desk.until() - desk.now == 500
    desk.check()


def test_open_circuit_becomes_half_open_when_its_time_is_over_and_not_before() -> None:
    """To the millisecond of the decider's clock."""
    desk = Desk()
    desk.open()
    desk.advance(499)
    assert desk.state_of() == "open"
    desk.advance(1)
    assert desk.state_of() == "half_open"
    assert desk.told[-1]["state"] == "half_open"


def test_the_later_deadline_wins() -> None:
    """Whoever asks for less does not shorten, whoever asks for more lengthens; all hear of it."""
    desk = Desk()
    desk.report(overload=1, retry_after_ms=5_000)
    opened = desk.now
    desk.report(who="bob", overload=1, retry_after_ms=1_000)
    assert desk.until() == opened + 5_000
    desk.report(who="bob", overload=1, retry_after_ms=9_000)
    assert desk.until() == opened + 9_000
    assert desk.told[-1]["remaining_ms"] == 9_000
    assert desk.told[-1]["revision"] == 2
    desk.check()


def test_a_slightly_later_deadline_wins_without_a_broadcast_each() -> None:
    """Many calls that come back one after the other change the circuit once, when its time is over."""
    desk = Desk()
    desk.report(overload=1, retry_after_ms=5_000)
    opened = desk.now
    for later in range(1, 400):
        desk.report(who=f"a{later}", overload=1, retry_after_ms=5_000 + later)
    assert len(desk.told) == 1
    desk.advance(5_000)
    assert desk.state_of() == "open"
    assert desk.until() == opened + 5_399
    desk.advance(399)
    assert desk.state_of() == "half_open"
    desk.check()


def test_deadlines_asked_for_again_and_again_end() -> None:
    """Not beyond the longest believed time after the opening: a liar shuts nothing for ever."""
    desk = Desk()
    desk.report(overload=1, retry_after_ms=5_000)
    opened = desk.now
    for _ in range(9):
        desk.advance(4_000)
        desk.report(overload=1, retry_after_ms=20_000)
        assert desk.state_of() == ("half_open" if desk.now >= opened + 20_000 else "open")
    assert desk.state_of() == "half_open"


def test_what_was_seen_before_a_change_counts_no_more() -> None:
    """A circuit that closes begins with an empty window."""
    desk = Desk()
    desk.half_open()
    desk.probed(desk.probe())
    desk.report(error=3)
    assert desk.state_of() == "closed"


def test_stragglers_do_not_move_a_half_open_circuit() -> None:
    """Only probes do."""
    desk = Desk()
    desk.half_open()
    desk.report(error=100, who="bob")
    desk.report(overload=1, retry_after_ms=5_000, who="bob")
    assert desk.state_of() == "half_open"


def test_a_report_without_counts_is_nothing() -> None:
    """It makes no window."""
    desk = Desk()
    desk.report()
    assert len(desk.state.windows) == 0


def test_circuits_that_open_together_are_not_tried_together() -> None:
    """Jitter from the generator in the state: the same history has the same times, another one others."""

    def times(*targets: str) -> list[int]:
        desk = Desk(rule(jitter_permille=500))
        for target in targets:
            desk.open(target)
        desk.check()
        return [desk.until(target) - desk.now for target in targets]

    names = [f"p{n}" for n in range(20)]
    first = times(*names)
    assert first == times(*names)
    assert all(500 <= time <= 750 for time in first)
    assert len(set(first)) > 10


def test_a_thousand_agents_with_a_call_a_minute_trip_together_in_seconds() -> None:
    """Each makes one call in sixty seconds; the outage is known to all after three, by the rules that come with it."""
    desk = Desk(Rule(growth_permille=2_001))
    agents = [f"a{number}" for number in range(1_000)]
    calls = [(60 * at, who) for at, who in enumerate(agents)]
    outage = 20_000
    began = desk.now
    for moment, who in calls:
        desk.advance(began + moment - desk.now)
        kind = "ok" if moment < outage else "timeout"
        desk.saw({kind: 1}, "provider-a/eu/gpt-x", who)
        if desk.state_of("provider-a/eu/gpt-x") == "open":
            break
    assert 0 < desk.now - began - outage < 3_000
    assert desk.state.circuits["provider-a/eu/gpt-x"].evidence["counts"]["reporters"] > 100
