"""Leases at the limiter: what counts, until when, on which objects, and who gets how much."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.client.local import NOTHING
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_lease import Lease
from bursar.kernel.decider import Accept, Refuse
from tests.limiter.fleet import Desk
from tests.limiter.lease_holder import Holder, hand

LENGTH = 1_000
ENDS = LENGTH + 20
WINDOW = 10_000
J = 100


def spec(name: str = "b", parent: str | None = None, **changed: Any) -> BudgetSpec:
    limits: dict[Any, Any] = {
        "input_tokens": LimitSpec(limit=1_000, window_ms=WINDOW, paced=False),
        "concurrent": LimitSpec(limit=4, window_ms=0),
    }
    return BudgetSpec(name=name, parent=parent, **{"limits": limits, "jitter_ms": J, "max_ttl_ms": 60_000, **changed})


def used(desk: Desk, budget: str = "b", dimension: str = "input_tokens") -> int:
    (told,) = desk.status(budget).budgets
    return told.dimensions[dimension].limit - told.dimensions[dimension].headroom


def test_an_advance_counts_before_its_holder_hears_of_it() -> None:
    """What is lent is not there for others."""
    desk = Desk(spec())
    holder = Holder(desk)
    assert isinstance(holder.ask(hand(input_tokens=600, concurrent=2)), Accept)
    assert holder.lease.hand[1] == 600
    assert used(desk) == 600
    desk.refused(input_tokens=401)
    desk.granted(input_tokens=400)
    desk.check()


def test_an_advance_counts_on_every_object_of_the_path() -> None:
    """A parent has never less than those below it hold."""
    desk = Desk(spec("org"), spec("team", "org"), spec("b", "team"))
    Holder(desk).ask(hand(input_tokens=600))
    assert [used(desk, name) for name in ("org", "team", "b")] == [600, 600, 600]
    desk.refused("team", input_tokens=401)
    desk.check()


def test_no_more_is_lent_than_the_scarcest_object_has_left() -> None:
    """An advance fits like any grant, all dimensions in proportion."""
    limits: Any = {"input_tokens": LimitSpec(limit=100, window_ms=WINDOW, paced=False)}
    desk = Desk(spec("org", limits=limits), spec("b", "org"))
    holder = Holder(desk)
    holder.ask(hand(input_tokens=600, concurrent=4))
    assert holder.lease.hand[1] == 100
    assert holder.lease.hand[3] == 1
    desk.check()


def test_what_is_not_returned_counts_as_spent() -> None:
    """A holder that is never heard of again has spent all of it, at the last moment it could."""
    desk = Desk(spec())
    Holder(desk).ask(hand(input_tokens=600))
    desk.advance(ENDS)
    assert used(desk) == 600
    desk.advance(LENGTH + WINDOW + J)
    desk.refused(input_tokens=401)
    desk.advance(ENDS + WINDOW + J + 30)
    desk.granted(input_tokens=1_000)
    desk.check()


def test_a_lease_is_not_granted_again_before_its_end_and_the_drift() -> None:
    """The limiter lets a lease end later than its holder does."""
    desk = Desk(spec())
    holder = Holder(desk)
    holder.ask(hand(concurrent=4))
    desk.advance(LENGTH - 2)
    permit = holder.take(concurrent=1)
    assert permit is not None
    desk.advance(LENGTH)
    assert holder.take(concurrent=1) is None
    desk.advance(ENDS - 1)
    desk.refused(concurrent=1)


def test_what_is_given_back_is_there_for_others_at_once() -> None:
    """It was never spent."""
    desk = Desk(spec())
    holder = Holder(desk)
    holder.ask(hand(input_tokens=600, concurrent=4))
    assert holder.take(input_tokens=100) is not None
    outcome = holder.give_back()
    assert isinstance(outcome, Accept)
    assert outcome.reply["open"] is False
    assert used(desk) == 100
    desk.granted(input_tokens=900, concurrent=4)
    desk.check()


def test_a_report_charges_what_was_taken_as_of_now() -> None:
    """It leaves the window one window and J after the report, which is after it was spent."""
    desk = Desk(spec())
    holder = Holder(desk)
    holder.ask(hand(input_tokens=600))
    assert holder.take(input_tokens=250) is not None
    desk.advance(500)
    holder.renew()
    (told,) = desk.status("b").budgets
    assert told.dimensions["input_tokens"].used == 250
    assert told.dimensions["input_tokens"].in_flight == 350
    desk.check()


def test_a_refund_leaves_the_window_in_which_it_was_charged() -> None:
    """Not the present one: what leaves early there would leave early at nobody's cost but the provider's."""
    desk = Desk(spec())
    holder = Holder(desk)
    holder.ask(hand(input_tokens=600))
    permit = holder.take(input_tokens=500)
    assert permit is not None
    desk.advance(500)
    holder.renew(unused=hand(input_tokens=100))
    desk.advance(900)
    permit.end(input_tokens=100)
    assert holder.lease.hand[1] == 0
    holder.renew()
    assert used(desk) == 100
    desk.check()
    desk.advance(500 + WINDOW + J + 30)
    assert used(desk) == 0


def test_a_refund_that_is_older_than_the_window_changes_nothing() -> None:
    """Nothing of it is there any more."""
    desk = Desk(spec(max_ttl_ms=60_000))
    holder = Holder(desk, ttl_ms=60_000)
    holder.ask(hand(input_tokens=600))
    permit = holder.take(input_tokens=500)
    assert permit is not None
    holder.renew(unused=hand(input_tokens=100))
    desk.advance(WINDOW + J + 100)
    holder.lapse()
    permit.end(input_tokens=100)
    desk.granted(input_tokens=900)
    holder.renew()
    assert used(desk) == 900
    desk.check()


def test_usage_beyond_the_advance_is_charged_and_owed() -> None:
    """The next advance covers it first."""
    desk = Desk(spec())
    holder = Holder(desk)
    holder.ask(hand(input_tokens=100))
    permit = holder.take(input_tokens=100)
    assert permit is not None
    permit.end(input_tokens=160)
    holder.renew(want=hand(input_tokens=100))
    assert holder.lease.hand[1] == 100
    assert used(desk) == 260
    desk.check()


def test_calls_in_flight_outlive_the_lease_until_they_are_told_to_have_ended() -> None:
    """A crash of the holder frees no slot before the calls' time to live."""
    desk = Desk(spec())
    holder = Holder(desk, ttl_ms=5_000)
    holder.ask(hand(concurrent=4))
    assert holder.take(concurrent=3) is not None
    desk.advance(ENDS + 100)
    desk.refused(concurrent=1)
    desk.advance(ENDS + 5_000 - 1)
    desk.refused(concurrent=1)
    desk.advance(ENDS + 5_000)
    desk.granted(concurrent=4)
    desk.check()


def test_a_late_report_frees_the_slots_of_a_lease_that_is_over() -> None:
    """The account goes on when its holder does."""
    desk = Desk(spec())
    holder = Holder(desk, ttl_ms=5_000)
    holder.ask(hand(concurrent=4))
    permit = holder.take(concurrent=3)
    assert permit is not None
    desk.advance(2_000)
    holder.renew()
    desk.granted(concurrent=1)
    desk.refused(concurrent=1)
    permit.end()
    holder.renew(unused=hand(concurrent=3))
    desk.granted(concurrent=3)
    desk.check()


def test_produced_output_stays_lent_until_the_call_ends() -> None:
    """Where output is charged as it is produced, the window of a long call begins when it ends."""
    limits: Any = {"output_tokens": LimitSpec(limit=1_000, window_ms=WINDOW, charge="production", paced=False)}
    desk = Desk(spec(limits=limits))
    holder = Holder(desk)
    holder.ask(hand(output_tokens=500))
    permit = holder.take(output_tokens=400)
    assert permit is not None
    for at in range(500, 8_001, 500):
        desk.advance(at)
        holder.renew()
        assert used(desk, dimension="output_tokens") == 500
    permit.end(output_tokens=300)
    desk.advance(8_500)
    holder.renew()
    (told,) = desk.status("b").budgets
    assert told.dimensions["output_tokens"].used == 300
    assert told.dimensions["output_tokens"].in_flight == 200
    desk.check()


def test_a_holder_cannot_say_that_it_has_more_than_it_was_given() -> None:
    """What it says it has is cut to what the limiter knows."""
    desk = Desk(spec())
    holder = Holder(desk)
    holder.ask(hand(input_tokens=100, concurrent=1))
    _, told = holder.report()
    lie = told._replace(hand=hand(input_tokens=900, concurrent=4), open=hand(concurrent=4), unused=hand(input_tokens=9))
    desk.ask(holder.renewal(lie), "agent")
    assert used(desk) == 100
    assert used(desk, dimension="concurrent") == 1
    desk.check()


def test_reports_of_another_and_old_ones_are_refused_and_change_nothing() -> None:
    """Each with a code of its own."""
    desk = Desk(spec())
    holder = Holder(desk)
    holder.ask(hand(input_tokens=100))
    _, told = holder.report()
    before = desk.dump()
    assert desk.rejected(desk.ask(holder.renewal(told), "other")) == "not_yours"
    holder.key = "9.9.9"
    assert desk.rejected(desk.ask(holder.renewal(told), "agent")) == "unknown_lease"
    assert desk.dump() == before
    holder.key = holder.told["lease"]
    desk.ask(holder.renewal(told), "agent")
    before = desk.dump()
    assert desk.rejected(desk.ask(holder.renewal(told), "agent")) == "old_report"
    assert desk.dump() == before


def test_a_lease_of_a_budget_that_is_not_there_or_gives_none_is_refused() -> None:
    """The caller learns that it has to reserve directly."""
    desk = Desk(spec("b", lease_ms=0))
    outcome = Holder(desk).ask(hand(input_tokens=1))
    assert isinstance(outcome, Refuse)
    assert outcome.reply["reason"] == "not_leasable"
    body = Lease(id=desk.new_id(), budget="nothing", want=NOTHING, demand=NOTHING)
    assert desk.rejected(desk.ask(body)) == "unknown_budget"


def test_leases_survive_dump_and_load_and_replay() -> None:
    """A restart needs no learning: what is out is known."""
    desk = Desk(spec("org"), spec("b", "org"))
    holder = Holder(desk)
    holder.ask(hand(input_tokens=600, concurrent=2))
    assert holder.take(input_tokens=50, concurrent=1) is not None
    desk.advance(400)
    holder.renew(want=hand(input_tokens=300))
    desk.check()
    desk.state = desk.decider.load(desk.dump())
    assert used(desk, "org") == 600
    desk.refused(input_tokens=401)
    assert isinstance(holder.renew(want=hand(input_tokens=100)), Accept)
    desk.check()
    desk.advance(60_000)
    desk.granted(input_tokens=1_000, concurrent=4)
    desk.check()


def test_after_a_reload_the_old_lease_ends_and_still_counts() -> None:
    """New limits see what is lent; a lease under other rules is not prolonged."""
    desk = Desk(spec("b"))
    holder = Holder(desk)
    holder.ask(hand(input_tokens=600))
    limits: Any = {"input_tokens": LimitSpec(limit=2_000, window_ms=WINDOW, paced=False)}
    desk.reload(spec("b", limits=limits))
    desk.check()
    assert used(desk) >= 600
    outcome = holder.renew(want=hand(input_tokens=600))
    assert isinstance(outcome, Accept)
    assert outcome.reply["over"] is True
    desk.advance(ENDS + 10)
    desk.check()


def test_a_removed_budget_takes_its_leases_along() -> None:
    """Nothing of it is left behind."""
    desk = Desk(spec("b"), spec("c"))
    Holder(desk).ask(hand(input_tokens=600))
    desk.reload(spec("c"))
    desk.check()
    desk.advance(60_000)
    desk.check()


def test_the_rates_of_all_leases_are_no_more_than_the_objects() -> None:
    """Σ r <= r, whoever asks for how much."""
    limits: Any = {"input_tokens": LimitSpec(limit=60_000, window_ms=60_000)}
    desk = Desk(spec("b", limits=limits))
    holders = [Holder(desk, f"agent-{number}") for number in range(5)]
    for holder in holders:
        holder.ask(hand(input_tokens=500), hand(input_tokens=700))
    for at in range(500, 4_000, 500):
        desk.advance(at)
        for holder in holders:
            holder.take(input_tokens=20)
            holder.renew(hand(input_tokens=500), hand(input_tokens=700))
            desk.check()
    rates = [holder.told["rates"][1] for holder in holders]
    assert sum(rates) <= 920
    assert min(rates) >= 150


def test_a_shift_of_demand_is_followed_within_two_seconds() -> None:
    """Who had everything has its share; nobody's lease was cut."""
    limits: Any = {"input_tokens": LimitSpec(limit=60_000, window_ms=60_000)}
    desk = Desk(spec("b", limits=limits))
    greedy, late = Holder(desk, "greedy"), Holder(desk, "late")
    greedy.ask(hand(input_tokens=1_000), hand(input_tokens=2_000))
    for at in range(500, 10_001, 500):
        desk.advance(at)
        while greedy.take(input_tokens=10) is not None:
            pass
        greedy.renew(hand(input_tokens=1_000), hand(input_tokens=2_000))
    assert greedy.told["rates"][1] > 900
    late.ask(hand(input_tokens=1_000), hand(input_tokens=2_000))
    got = 0
    for at in range(10_100, 13_001, 100):
        desk.advance(at)
        while late.take(input_tokens=10) is not None:
            got += 10 if at > 12_000 else 0
        while greedy.take(input_tokens=10) is not None:
            pass
        for holder in (greedy, late):
            if at % 500 == 0 or not any(holder.told["add"]):
                holder.renew(hand(input_tokens=1_000), hand(input_tokens=2_000))
    assert late.told["rates"][1] >= 400
    assert got >= 250
    desk.check()


def test_whose_turn_has_come_is_not_starved_by_leases() -> None:
    """While the head of a line waits in vain, leases there get nothing."""
    limits: Any = {"input_tokens": LimitSpec(limit=60_000, window_ms=60_000)}
    desk = Desk(spec("b", limits=limits))
    holder = Holder(desk)
    holder.ask(hand(input_tokens=900), hand(input_tokens=2_000))
    asked = desk.reserve(wait_ms=30_000, input_tokens=3_000)
    del asked
    for at in range(500, 20_001, 500):
        desk.advance(at)
        while holder.take(input_tokens=10) is not None:
            pass
        holder.renew(hand(input_tokens=900), hand(input_tokens=2_000))
    assert any(isinstance(answer, Accept) for answer in desk.answers.values())


def test_too_many_leases_of_one_principal_are_refused() -> None:
    """Memory is bounded."""
    desk = Desk(spec())
    for _ in range(256):
        Holder(desk).ask(NOTHING)
    assert desk.rejected(Holder(desk).ask(NOTHING)) == "too_many"


def test_leases_of_the_lost_are_feared_for_as_long_as_they_may_last() -> None:
    """After a loss of data nothing is granted until what lost leases may have allowed is over."""
    desk = Desk(spec(limits={"input_tokens": LimitSpec(limit=1_000, window_ms=WINDOW, paced=False)}))
    desk.advance(5_000)
    for event in desk.decider.recover(desk.state, desk.now):
        desk.decider.evolve(desk.state, event)
    told = desk.refused(input_tokens=1)
    assert told["reason"] == "recovering"
    assert told["retry_at_ms"] >= 5_000 + ENDS - 10 + WINDOW + J


@pytest.mark.parametrize("level", ["org", "b"])
def test_a_direct_reservation_and_a_lease_share_one_limit(level: str) -> None:
    """Neither sees room that the other has."""
    desk = Desk(spec("org"), spec("b", "org"))
    desk.granted(level, input_tokens=700)
    holder = Holder(desk)
    holder.ask(hand(input_tokens=600))
    assert holder.lease.hand[1] == 300
    desk.check()
