"""Foreign memory and overuse that grow: seen, charged, told; once for each step."""

from __future__ import annotations

from typing import Any

from bursar.contracts.catalog.gpu_manager import Alarm
from bursar.kernel.decider import Broadcast
from tests.gpu_manager.desk import GIB, MAC, Desk

MIB = 1024**2
CARD = "SIM-h1-0"


def alarms(desk: Desk) -> list[Alarm]:
    """What everybody was told since the last look."""
    said = [told for told in desk.told if isinstance(told, Broadcast) and told.kind == "alarm"]
    desk.told.clear()
    return [Alarm.model_validate({**told.body, "fence": f"1.1.1.{MAC}"}) for told in said]


def grow(desk: Desk, size: int, **who: Any) -> int:
    pid, _ = desk.hosts["h1"].start(**who)
    desk.hosts["h1"].allocate(pid, CARD, size)
    return pid


def test_foreign_memory_is_charged_and_told_once_for_each_step() -> None:
    """Everybody hears how much it is and what it was; the same again is no news."""
    desk = Desk("h1=16GiB")
    grow(desk, 255 * MIB, foreign=True)
    desk.live(2_000)
    assert alarms(desk) == []
    assert desk.device(f"h1/{CARD}").foreign == 255 * MIB
    pid = grow(desk, 2 * GIB, foreign=True)
    desk.live(3_000)
    [told] = alarms(desk)
    assert (told.device, told.alarm, told.state) == (f"h1/{CARD}", "foreign", "raised")
    assert (told.bytes, told.before, told.lease) == (2 * GIB + 255 * MIB, 0, None)
    assert desk.device(f"h1/{CARD}").alarm == told.bytes
    assert desk.refused(14 * GIB)["reason"] == "no_room"
    desk.hosts["h1"].allocate(pid, CARD, 100 * MIB)
    desk.live(3_000)
    assert alarms(desk) == []
    desk.hosts["h1"].allocate(pid, CARD, 200 * MIB)
    desk.live(3_000)
    assert [(one.bytes - one.before) // MIB for one in alarms(desk)] == [300]
    desk.hosts["h1"].exit(pid)
    desk.live(3_000)
    assert [(one.state, one.bytes) for one in alarms(desk)] == [("cleared", 0)]
    assert desk.status().counters.alarms == 2
    desk.check()


def test_growth_after_a_fall_is_seen_again() -> None:
    """The level follows down, silently."""
    desk = Desk("h1=16GiB")
    pid = grow(desk, 4 * GIB, foreign=True)
    desk.live(2_000)
    desk.hosts["h1"].free(pid, CARD, 2 * GIB)
    desk.live(2_000)
    assert [one.state for one in alarms(desk)] == ["raised"]
    desk.hosts["h1"].allocate(pid, CARD, GIB)
    desk.live(2_000)
    assert [(one.before // GIB, one.bytes // GIB) for one in alarms(desk)] == [(2, 3)]


def test_a_lease_whose_process_nobody_named_explains_its_memory() -> None:
    """It counts twice, which refuses more, and it is no reason for an alarm; what exceeds it is."""
    desk = Desk("h1=16GiB")
    desk.granted(4 * GIB, ttl_ms=60_000)
    pid = grow(desk, 4 * GIB)
    desk.live(3_000)
    assert alarms(desk) == []
    assert desk.device(f"h1/{CARD}").foreign == 4 * GIB
    desk.hosts["h1"].allocate(pid, CARD, GIB)
    desk.live(3_000)
    assert [one.bytes for one in alarms(desk)] == [GIB]


def test_overuse_of_a_lease_is_shown_and_told_with_its_holder() -> None:
    """It ends with the use, or with the lease; a set counts as a whole."""
    desk = Desk("h1=2x16GiB")
    pid, process = desk.process("h1")
    lease = desk.granted(2 * GIB, devices=2, ttl_ms=60_000, processes=(process,), principal="ann")["lease"]
    desk.hosts["h1"].allocate(pid, CARD, 3 * GIB)
    desk.hosts["h1"].allocate(pid, "SIM-h1-1", 2 * GIB)
    desk.live(3_000)
    [told] = alarms(desk)
    assert (told.alarm, told.lease, told.principal, told.bytes) == ("overuse", lease, "ann", GIB)
    assert desk.device(f"h1/{CARD}").overused == 1
    assert desk.device(f"h1/{CARD}").charged == 3 * GIB
    desk.hosts["h1"].exit(pid)
    desk.live(3_000)
    assert [one.state for one in alarms(desk)] == ["cleared"]
    pid2, other = desk.process("h1")
    desk.renew(lease, "ann", processes=(other,))
    desk.hosts["h1"].allocate(pid2, CARD, 3 * GIB)
    desk.live(3_000)
    assert len(desk.state.alarms) == 1
    desk.release(lease, "ann")
    desk.check()
    assert desk.state.alarms == {}


def test_a_process_that_grows_and_shrinks_all_the_time_does_not_fill_the_journal() -> None:
    """At most one decision a second for a host."""
    desk = Desk("h1=16GiB")
    pid = grow(desk, GIB, foreign=True)
    before = len(desk.journal)
    for _ in range(50):
        desk.hosts["h1"].allocate(pid, CARD, 2 * GIB)
        desk.live(100)
        desk.observe("h1")
        desk.hosts["h1"].free(pid, CARD, 2 * GIB)
        desk.live(100)
        desk.observe("h1")
    assert 5 <= len(desk.journal) - before <= 12


def test_alarms_are_durable_and_not_told_again_after_a_take_over() -> None:
    """What has grown meanwhile is."""
    desk = Desk("h1=16GiB")
    pid = grow(desk, GIB, foreign=True)
    desk.live(2_000)
    desk.take_over()
    alarms(desk)
    desk.live(2_000)
    assert alarms(desk) == []
    desk.take_over()
    desk.hosts["h1"].allocate(pid, CARD, GIB)
    desk.live(2_000)
    assert [one.before for one in alarms(desk)] == [GIB]


def test_an_alarm_is_not_over_because_the_driver_says_nothing() -> None:
    """A list that is not told is no empty list: use beyond a lease stays known, and a lease is not merely granted. What
    is in use beyond all leases is alarmed of, whosever it is."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    desk.granted(2 * GIB, "ann", processes=(process,))
    desk.hosts["h1"].allocate(pid, CARD, 4 * GIB)
    desk.live(2_000)
    assert [one.alarm for one in alarms(desk)] == ["overuse"]
    desk.hosts["h1"].hide_list(CARD)
    desk.live(3_000)
    assert [(one.alarm, one.state) for one in alarms(desk)] == [("foreign", "raised")]
    assert [lease.phase for lease in desk.status().leases] == ["unknown"]
    desk.hosts["h1"].hide_list(CARD, hidden=False)
    desk.hosts["h1"].exit(pid)
    desk.live(3_000)
    assert {(one.alarm, one.state) for one in alarms(desk)} == {("foreign", "cleared"), ("overuse", "cleared")}
    assert [lease.phase for lease in desk.status().leases] == ["granted"]
    desk.check()
