"""After a loss of acknowledged entries."""

from __future__ import annotations

from bursar.kernel.decider import Accept, Park, Refuse
from tests.gpu_manager.desk import GIB, MAC, Desk, code

DEVICE = "h1/SIM-h1-0"


def lost(ttl: int = 10_000) -> Desk:
    """A manager that has just found that entries are gone, with one known lease."""
    desk = Desk("h1=1x16GiB")
    desk.configure(max_ttl_ms=ttl)
    desk.live(500)
    return desk


def test_nothing_is_granted_until_what_may_have_been_granted_is_over() -> None:
    """The longest time to live, and the margin; who waits then gets it."""
    desk = lost()
    desk.lose_log()
    desk.observe("h1")
    refused = desk.refused()
    assert (refused["reason"], refused["retry_in_ms"]) == ("recovering", 10_500)
    assert desk.status().recovering
    assert isinstance(desk.lease(wait_ms=60_000), Park)
    desk.live(10_000)
    assert not desk.answers
    desk.live(1_000)
    assert [type(answer) for answer in desk.answers.values()] == [Accept]
    desk.check()


def test_somebody_who_waits_for_less_than_the_recovery_is_told_why() -> None:
    """The reason is the recovery, not the wait."""
    desk = lost()
    desk.lose_log()
    assert isinstance(desk.lease(wait_ms=1_000), Park)
    desk.live(1_500)
    [answer] = desk.answers.values()
    assert isinstance(answer, Refuse)
    assert answer.reply["reason"] == "recovering"


def test_known_leases_count_as_if_they_had_just_been_renewed() -> None:
    """A renewal of theirs may be among what was lost."""
    desk = lost()
    lease = desk.granted(12 * GIB, ttl_ms=1_000)["lease"]
    desk.lose_log()
    desk.live(9_000)
    assert isinstance(desk.renew(lease), Accept)
    desk.live(3_000)
    assert list(desk.state.leases) == []
    desk.check()


def test_a_lost_lease_is_adopted_from_its_holder() -> None:
    """With its old name and fence; it counts, and is renewed as any other."""
    desk = lost()
    desk.lose_log()
    desk.observe("h1")
    outcome = desk.redeclare("1.1.500", DEVICE, 12 * GIB)
    assert isinstance(outcome, Accept)
    assert (outcome.reply["held"], outcome.reply["adopted"]) == (True, True)
    again = desk.redeclare("1.1.500", DEVICE, 12 * GIB)
    assert isinstance(again, Refuse)
    assert (again.reply["held"], again.reply["adopted"]) == (True, False)
    desk.live(8_000)
    assert isinstance(desk.renew("1.1.500"), Accept)
    desk.live(8_000)
    assert desk.refused(4 * GIB)["reason"] == "no_room"
    assert isinstance(desk.renew("1.1.500"), Accept)
    desk.check()


def test_what_is_declared_must_be_plausible() -> None:
    """Of an earlier incarnation, with its own fence, not larger than the card, in time, one's own, not ended."""
    desk = lost()
    known = desk.granted(GIB, "ann")["lease"]
    ended = desk.granted(GIB, "ann")["lease"]
    desk.release(ended, "ann")
    before = desk.redeclare("1.1.500", DEVICE, GIB)
    assert isinstance(before, Refuse)
    assert not before.reply["held"]
    desk.lose_log()
    assert code(desk.redeclare("2.1.500", DEVICE, GIB)) == "unknown_lease"
    assert code(desk.redeclare("1.1.500", DEVICE, GIB, fence=f"1.1.501.{MAC}")) == "bad_fence"
    assert code(desk.redeclare("1.1.500", DEVICE, 17 * GIB)) == "not_plausible"
    assert code(desk.redeclare(known, DEVICE, GIB, "bob")) == "not_yours"
    gone = desk.redeclare(ended, DEVICE, GIB, "ann")
    assert isinstance(gone, Refuse)
    assert not gone.reply["held"]
    desk.live(11_000)
    late = desk.redeclare("1.1.500", DEVICE, GIB)
    assert isinstance(late, Refuse)
    assert not late.reply["held"]
    desk.check()


def test_adopted_leases_that_do_not_fit_together_are_not_renewed_after_the_recovery() -> None:
    """An old lease that had ended and one that took its place: both count until it is clear who is there."""
    desk = lost()
    old = desk.granted(12 * GIB, ttl_ms=10_000)["lease"]
    desk.lose_log()
    assert isinstance(desk.redeclare("1.1.500", DEVICE, 12 * GIB, "bob"), Accept)
    desk.live(9_000)
    assert isinstance(desk.renew("1.1.500", "bob"), Accept)
    assert isinstance(desk.renew(old), Accept)
    desk.live(2_000)
    assert code(desk.renew("1.1.500", "bob")) == "lease_ended"
    assert isinstance(desk.renew(old), Accept)
    desk.check()


def test_a_lease_on_a_device_that_was_lost_with_the_log_counts_when_it_is_announced() -> None:
    """The device itself may be among what is gone."""
    desk = Desk()
    desk.hosts = Desk("h1=1x16GiB").hosts
    desk.lose_log()
    assert isinstance(desk.redeclare("1.1.500", DEVICE, 12 * GIB, ttl_ms=60_000), Accept)
    desk.check()
    desk.observe("h1")
    assert desk.device(DEVICE).charged == 12 * GIB
    desk.check()


def test_a_longer_time_to_live_that_comes_back_makes_the_recovery_longer() -> None:
    """It may have been in force in what was lost."""
    desk = lost(ttl=2_000)
    desk.lose_log()
    desk.live(1_000)
    desk.configure(max_ttl_ms=5_000)
    assert desk.refused()["retry_in_ms"] == 4_500
    desk.check()
