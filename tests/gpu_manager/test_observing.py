"""Reports, their order, devices that come and go, silence."""

from __future__ import annotations

from bursar.bus.codec import decode, encode
from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Broadcast, Refuse
from bursar_gpu_manager.observing import MAX_OF_HOST
from bursar_gpu_manager.reporting import report
from bursar_gpu_manager.simulated import simulated_host
from tests.gpu_manager.desk import GIB, Desk, code


def test_a_device_becomes_durable_when_it_is_first_announced() -> None:
    """With its host's labels; the same report again changes nothing."""
    desk = Desk("h1=2x16GiB")
    assert list(desk.state.devices) == ["h1/SIM-h1-0", "h1/SIM-h1-1"]
    events = len(desk.journal)
    desk.observe("h1")
    assert len(desk.journal) == events
    assert desk.status().hosts[0].labels == {"zone": "1"}
    desk.check()


def test_a_report_speaks_for_its_sender_only() -> None:
    """The same uuid under another host is another device."""
    desk = Desk("h1=1x16GiB")
    said = desk.observe("h1")
    desk.say("thief", said.model_copy(update={"boot": "c0"}))
    assert list(desk.state.devices) == ["h1/SIM-h1-0", "thief/SIM-h1-0"]
    desk.say("thief", wire.Report(boot="c0", seq=99, devices=()))
    assert [device.lost for device in desk.state.devices.values()] == [False, True]


def test_old_and_repeated_reports_are_dropped() -> None:
    """By number within a boot; a boot that is over does not come back."""
    desk = Desk("h1=1x16GiB")
    first = desk.observe("h1")
    desk.hosts["h1"].allocate(desk.process("h1")[0], "SIM-h1-0", GIB)
    desk.observe("h1")
    desk.say("h1", first)
    assert desk.device("h1/SIM-h1-0").used == GIB
    desk.observe("h1", boot="b1", seq=1)
    desk.say("h1", first.model_copy(update={"seq": 1_000}))
    assert desk.device("h1/SIM-h1-0").used == GIB
    assert desk.state.old_reports == 2


def test_without_a_fresh_report_nothing_new_is_granted_and_the_old_stays() -> None:
    """Fail closed for admission, not for holders."""
    desk = Desk("h1=1x16GiB")
    desk.configure(silence_ms=60_000)
    lease = desk.granted()["lease"]
    desk.advance(2_001)
    refused = desk.refused()
    assert (refused["reason"], refused["retry_in_ms"]) == ("not_observed", 500)
    device = desk.device("h1/SIM-h1-0")
    assert (device.state, device.fresh, device.room, device.used) == ("ready", False, None, None)
    assert isinstance(desk.renew(lease), Accept)
    desk.observe("h1")
    desk.granted()


def test_an_unknown_figure_is_not_zero() -> None:
    """A card that cannot say how much is in use gets no leases; other unknown figures do not matter."""
    desk = Desk("h1=1x16GiB")
    device = wire.DeviceReport(uuid="SIM-h1-0", index=0, model="Simulated 16GiB", total=16 * GIB)
    desk.say("h1", wire.Report(boot="b0", seq=50, devices=(device,), labels={"zone": "1"}))
    assert desk.refused()["reason"] == "not_observed"
    known = device.model_copy(update={"used": 0})
    desk.say("h1", wire.Report(boot="b0", seq=51, devices=(known,), labels={"zone": "1"}))
    desk.granted()
    assert desk.device("h1/SIM-h1-0").temperature is None


def test_a_silent_host_loses_its_devices_and_their_holders_are_told() -> None:
    """Durably, after the time that is set; sets end as a whole."""
    desk = Desk("h1=2x16GiB", "h2=1x16GiB")
    mine = desk.granted(devices=2, principal="ann", hosts=("h1",))["lease"]
    other = desk.granted(hosts=("h2",))["lease"]
    desk.live(3_000, silent=("h1",))
    assert desk.device("h1/SIM-h1-0").state == "ready"
    desk.live(1_000, silent=("h1",))
    status = desk.status()
    assert [device.state for device in status.devices] == ["lost", "lost", "ready"]
    assert desk.notices() == [("ann", mine, "device_lost")]
    assert {lease.lease: lease.state for lease in status.leases} == {mine: "ending", other: "held"}
    assert code(desk.renew(mine, "ann")) == "lease_ended"
    assert desk.refused(hosts=("h1",))["reason"] == "no_device"
    assert (status.counters.devices_lost, status.counters.device_lost) == (2, 1)
    desk.check()


def test_a_lost_device_that_is_back_still_counts_what_may_be_in_use() -> None:
    """The holder may not have heard of it: until it must have stopped, or says that it has."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(12 * GIB, ttl_ms=60_000)["lease"]
    desk.advance(4_000)
    desk.observe("h1")
    assert desk.device("h1/SIM-h1-0").state == "ready"
    assert desk.refused(8 * GIB)["reason"] == "no_room"
    desk.granted(3 * GIB)
    outcome = desk.release(lease)
    assert isinstance(outcome, Accept)
    desk.granted(8 * GIB)
    desk.check()


def test_a_lost_lease_ends_by_time_when_its_holder_says_nothing() -> None:
    """And is remembered as what it was."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(12 * GIB, ttl_ms=10_000)["lease"]
    desk.advance(4_000)
    desk.observe("h1")
    desk.live(6_500)
    assert desk.state.leases == {}
    outcome = desk.release(lease)
    assert isinstance(outcome, Refuse)
    assert outcome.reply["outcome"] == "device_lost"
    desk.granted(12 * GIB)


def test_a_card_that_the_probe_calls_lost_is_lost_at_once() -> None:
    """The other cards of the host go on."""
    desk = Desk("h1=2x16GiB")
    first = desk.granted(12 * GIB, "ann")
    second = desk.granted(12 * GIB, "bob")["lease"]
    desk.hosts["h1"].lose(first["devices"][0]["uuid"])
    desk.observe("h1")
    assert desk.notices() == [("ann", first["lease"], "device_lost")]
    assert isinstance(desk.renew(second, "bob"), Accept)
    said = [told for told in desk.told if isinstance(told, Broadcast) and told.body["state"] == "lost"]
    assert [(told.kind, told.name, told.body["device"]) for told in said] == [("device", "h1", "h1/SIM-h1-0")]
    desk.hosts["h1"].restore("SIM-h1-0")
    desk.observe("h1")
    assert desk.device("h1/SIM-h1-0").state == "ready"
    desk.check()


def test_a_changed_card_is_announced_again() -> None:
    """Its size counts as it is now."""
    desk = Desk("h1=1x16GiB")
    desk.granted(12 * GIB)
    desk.hosts["h1"].devices["SIM-h1-0"].total = 8 * GIB
    desk.observe("h1")
    device = desk.device("h1/SIM-h1-0")
    assert device.total == 8 * GIB
    assert device.room == -4 * GIB - GIB // 2
    assert desk.refused(GIB)["missing"] == 5 * GIB + GIB // 2
    desk.check()


def test_the_managers_own_pause_is_not_the_hosts_silence() -> None:
    """Reports of that time are waiting to be read; but none is fresh."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(ttl_ms=60_000)["lease"]
    desk.live(1_000)
    desk.now += 20_000
    desk.settle_due()
    assert desk.device("h1/SIM-h1-0").state == "ready"
    assert desk.refused()["reason"] == "not_observed"
    desk.observe("h1")
    assert isinstance(desk.renew(lease), Accept)
    desk.granted()


def test_after_a_take_over_a_host_has_its_time_to_report() -> None:
    """The new owner has heard nothing yet: silence begins now."""
    desk = Desk("h1=1x16GiB")
    desk.granted()
    desk.live(2_000)
    desk.take_over()
    desk.advance(3_000)
    assert not desk.notices()
    desk.advance(1_000)
    assert len(desk.notices()) == 1


def test_a_probe_cannot_fill_the_ledger() -> None:
    """A host has at most so many devices, the lost ones included."""
    desk = Desk()
    for seq in range(1, 200):
        device = wire.DeviceReport(uuid=f"U-{seq}", index=0, total=GIB, used=0)
        desk.say("h1", wire.Report(boot="b0", seq=seq, devices=(device, device)))
    assert len(desk.state.devices) <= MAX_OF_HOST
    desk.check()


def test_a_card_that_comes_back_under_other_names_finds_room() -> None:
    """However often: what is lost and counts for nobody is forgotten, what a lease counts on is not."""
    desk = Desk()
    card = wire.DeviceReport(uuid="first", index=0, total=16 * GIB, used=0)
    desk.say("h1", wire.Report(boot="b0", seq=1, devices=(card,)))
    lease = desk.granted(GIB, ttl_ms=60_000)["lease"]
    for seq in range(2, 12):
        parts = tuple(wire.DeviceReport(uuid=f"MIG-{seq}-{n}", index=0, total=2 * GIB, used=0) for n in range(56))
        desk.say("h1", wire.Report(boot="b0", seq=seq, devices=parts))
    assert desk.device("h1/first").state == "lost"
    assert lease in desk.state.leases
    assert sum(device.state == "ready" for device in desk.status("h1").devices) == 56
    desk.granted(GIB)
    desk.check()


def test_a_report_of_a_host_of_divided_cards_fits_into_a_message() -> None:
    """Eight cards of seven parts with all that can be said of them, and the processes of all."""
    host = simulated_host("h1", "8xH100")
    for uuid in [card.uuid for card in host.cards()]:
        for part in host.divide(uuid, 7):
            for _ in range(8):
                host.allocate(host.start()[0], part, GIB)
    said, _ = decode(wire.Report, encode(report(host, "b" * 16, 2**40, {}, {"zone": "z" * 100})))
    assert len(said.devices) == 56
    desk = Desk()
    desk.say("h1", said)
    assert len(desk.state.devices) == 56


def test_status_of_one_host_tells_of_that_host() -> None:
    """Its devices and the leases on them; of an unknown host nothing."""
    desk = Desk("h1=1x16GiB", "h2=1x16GiB")
    desk.granted(hosts=("h1",))
    lease = desk.granted(hosts=("h2",), purpose="weights", note="of m")["lease"]
    status = desk.status("h2")
    assert [device.host for device in status.devices] == ["h2"]
    assert [(row.lease, row.purpose, row.note) for row in status.leases] == [(lease, "weights", "of m")]
    assert desk.status("h3").devices == []


def test_a_card_whose_size_nobody_knows_is_none_and_one_that_told_it_before_has_it() -> None:
    """Unknown is neither zero nor lost."""
    desk = Desk()
    nameless = wire.DeviceReport(uuid="u", index=0, used=0)
    desk.say("h1", wire.Report(boot="b0", seq=1, devices=(nameless,)))
    assert desk.status().devices == []
    known = nameless.model_copy(update={"total": 16 * GIB, "reserved": GIB})
    desk.say("h1", wire.Report(boot="b0", seq=2, devices=(known,)))
    assert (desk.device("h1/u").room, desk.device("h1/u").reserved) == (15 * GIB - GIB // 2, GIB)
    desk.say("h1", wire.Report(boot="b0", seq=3, devices=(nameless,)))
    told = desk.device("h1/u")
    assert (told.state, told.total, told.reserved, told.room) == ("ready", 16 * GIB, None, 16 * GIB - GIB // 2)
    desk.check()


def test_the_status_of_a_large_fleet_fits_into_one_message() -> None:
    """At most 1,024 devices are listed, and all are counted; of one host all of its."""
    desk = Desk()
    devices = tuple(wire.DeviceReport(uuid=f"GPU-{n:032}", index=n, total=GIB, used=0) for n in range(16))
    for number in range(66):
        desk.say(f"host-number-{number}", wire.Report(boot="b0", seq=1, devices=devices))
    status = desk.status()
    assert (len(status.devices), status.devices_total) == (1_024, 1_056)
    assert len(status.model_dump_json()) < 1_048_576
    assert len(desk.status("host-number-65").devices) == 16
