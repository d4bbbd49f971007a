"""The pace: cut by a 429, back by itself, steered into its band under demand, rising slowly where it has to."""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_control import Adjust
from bursar.contracts.limiter_lease import Lease
from bursar.contracts.limiter_observed import Adapting, RateLimited
from bursar.kernel.decider import Accept, Outcome, Refuse
from bursar_limiter import adapting_events as events
from tests.limiter.fleet import Desk

SECOND = 1_000


def budget(limit: int = 1_000, window: int = 10 * SECOND, **more: Any) -> BudgetSpec:
    fields: dict[str, Any] = {"jitter_ms": 0, "send_within_ms": 1, **more}
    return BudgetSpec(name="p", limits={"requests": LimitSpec(limit=limit, window_ms=window)}, **fields)


def pace(desk: Desk) -> int:
    return desk.status("p").budgets[0].dimensions["requests"].pace_permille


def limited(desk: Desk, after: int = 1_000) -> None:
    body = RateLimited(id=desk.new_id(), budget="p", retry_after_ms=after)
    assert isinstance(desk.ask(body, f"agent-{desk.number}"), Accept)


def ask_for(desk: Desk, until: int, every: int = 20, amount: int = 5) -> int:
    """Demand without end: ten stand in line, each request is settled at once with what it asked for. Returns what was
    granted."""
    granted = 0
    while desk.now < until:
        for _ in range(10 - len(desk.state.live) - waiting(desk)):
            settle(desk, desk.reserve("p", wait_ms=600_000, requests=amount), amount)
        desk.advance(desk.now + every)
        done, desk.answers = list(desk.answers.values()), {}
        granted += sum(settle(desk, outcome, amount) for outcome in done)
    return granted


def left_at(desk: Desk, pace: int) -> None:
    """As if it had been steered to this pace before."""
    (meter,) = desk.state.budgets["p"].meters
    event = (events.TUNED, desk.now, "p", meter.index, meter.window_ms, pace)
    desk.decider.evolve(desk.state, event)
    desk.journal.append(event)
    desk.state.adapting.watch("p", (meter.index, meter.window_ms)).bias = pace - 1_000


def waiting(desk: Desk) -> int:
    return desk.status("p").budgets[0].waiting


def settle(desk: Desk, outcome: Outcome, amount: int) -> int:
    if not isinstance(outcome, Accept):
        return 0
    desk.settle(outcome.reply["reservation"], requests=amount)
    return amount


def test_a_429_cuts_the_pace_once_for_each_freeze_and_it_comes_back() -> None:
    """To 0.7; a second report of the same freeze cuts nothing more; then by events, up to the configured pace."""
    desk = Desk(budget(), now=1_000)
    limited(desk, 1_000)
    assert 695 <= pace(desk) <= 705
    limited(desk, 1_500)
    assert 695 <= pace(desk) <= 705
    seen = []
    for at in range(2_500, 9_000, 500):
        desk.advance(at)
        seen.append(pace(desk))
        desk.check()
    assert seen == sorted(seen)
    assert seen[-1] == 1_000
    assert not desk.state.adapting.budgets["p"].cuts
    assert desk.decider.wake_at(desk.state) is None, "nothing is looked at any more"


def test_a_restart_in_the_middle_of_a_recovery_goes_on_with_it() -> None:
    """Cuts are durable; what is looked at is not."""
    desk = Desk(budget(), now=1_000)
    limited(desk, 1_000)
    desk.advance(3_000)
    copy = desk.copy(9_000)
    assert pace(copy) == 1_000, "the pace has not come back"


def test_repeated_429s_find_a_pace_far_below() -> None:
    """Down to a tenth, never to nothing."""
    desk = Desk(budget(), now=1_000)
    for _ in range(12):
        limited(desk, 500)
        desk.advance(desk.now + 600)
    assert 100 <= pace(desk) <= 200
    desk.advance(desk.now + 1_000)
    desk.granted("p", requests=1)


def test_without_recovery_the_pace_stays() -> None:
    """A switch of the budget; the freeze holds all the same."""
    desk = Desk(budget(adapt=Adapting(recover=False)), now=1_000)
    limited(desk, 700)
    assert pace(desk) == 1_000
    assert desk.refused("p", requests=1)["retry_at_ms"] >= 1_700


def test_under_demand_the_limit_is_used_to_85_to_95_percent() -> None:
    """At the configured pace, and with the reserve for bursts untouched."""
    desk = Desk(budget())
    ask_for(desk, 10_000)
    granted = ask_for(desk, 40_000)
    assert 0.85 <= granted / 3_000 <= 0.95
    assert pace(desk) == 1_000, "there was nothing to steer"


def test_a_pace_that_uses_too_little_is_raised_though_never_above_the_limit() -> None:
    """Here it was left low; after a window of demand it is back in the band."""
    desk = Desk(budget())
    left_at(desk, 600)
    ask_for(desk, 2_000)
    desk.check()
    ask_for(desk, 40_000)
    granted = ask_for(desk, 60_000)
    assert 0.85 <= granted / 2_000 <= 0.96
    assert pace(desk) <= 1_000_000 // 920


def test_a_pace_that_uses_too_much_is_lowered() -> None:
    """Above 95 % of the limit nothing is left for a burst."""
    desk = Desk(budget())
    left_at(desk, 1_087)
    ask_for(desk, 60_000, amount=1)
    granted = ask_for(desk, 80_000, amount=1)
    assert granted / 2_000 <= 0.955


def test_after_a_quiet_window_the_pace_rises_slowly_where_it_is_told_to() -> None:
    """For providers that limit acceleration: from a tenth, in so much time."""
    desk = Desk(budget(burst_permille=1, adapt=Adapting(ramp_ms=10_000)))
    desk.advance(1_000)
    assert pace(desk) == 100
    first = ask_for(desk, 3_000, amount=1)
    middle = ask_for(desk, 7_000, amount=1)
    assert first < 0.5 * 2 * 92
    assert 300 <= pace(desk) <= 800
    ask_for(desk, 14_000, amount=1)
    assert middle > first
    assert pace(desk) == 1_000
    desk.check()
    desk.advance(30_000)
    assert pace(desk) == 100


def test_who_asks_for_nothing_is_not_looked_at() -> None:
    """No event, and nothing that wakes the owner."""
    desk = Desk(budget())
    before = len(desk.journal)
    desk.granted("p", requests=1)
    desk.advance(5_000)
    assert len(desk.journal) == before + 1


def test_refusals_are_demand_too() -> None:
    """Nobody stands in line here: agents come back at the time that they were told."""
    desk = Desk(budget())
    left_at(desk, 600)
    before = pace(desk)
    while desk.now < 30_000:
        outcome = desk.reserve("p", requests=5)
        if isinstance(outcome, Accept):
            settle(desk, outcome, 5)
        else:
            assert isinstance(outcome, Refuse)
            desk.advance(outcome.reply["retry_at_ms"])
    assert pace(desk) > before + 200


def test_another_limit_does_not_bring_back_a_pace_that_was_cut() -> None:
    """A time that is told in a freeze holds, whoever changes the limits meanwhile."""
    desk = Desk(budget(), now=1_000)
    limited(desk)
    cut = pace(desk)
    more: Any = {"requests": LimitSpec(limit=1_200, window_ms=10 * SECOND)}
    desk.must(Adjust(id=desk.new_id(), budget="p", limits=more), "ops")
    assert pace(desk) == cut == 700
    told = desk.refused("p", requests=30)["retry_at_ms"]
    desk.advance(told)
    desk.granted("p", requests=30)


def test_a_pace_that_changes_in_a_freeze_begins_with_an_empty_bucket() -> None:
    """Not with what it would have taken to stand still until then."""
    desk = Desk(budget(), now=1_000)
    limited(desk, after=5_000)
    (meter,) = desk.state.budgets["p"].meters
    for permille in (300, 1_000, 650):
        meter.tune(2_000, permille)
        assert meter.level_at(6_000) == 0


def test_what_was_lent_at_a_raised_pace_is_kept_when_it_falls() -> None:
    """The rates of leases are never above the limit, and a share is not cut before it is renewed."""
    desk = Desk(budget(lease_ms=1_000), now=1_000)
    left_at(desk, 1_080)
    want = (200, 0, 0, 0, 0, 0, 0)
    desk.must(Lease(id=desk.new_id(), budget="p", want=want, demand=want), "holder")
    assert desk.state.leases.rated["p"][0] > 92
    left_at(desk, 900)
    desk.check()
