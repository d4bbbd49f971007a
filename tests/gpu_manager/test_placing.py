"""Which device a lease gets: by heat, role, nearness, group, load and what is left over."""

from __future__ import annotations

import pytest

from bursar.contracts import gpu as wire
from bursar.contracts import gpu_advice as advice
from tests.gpu_manager.desk import GIB, Desk

HOT = 87_000


def device_of(reply: dict[str, object]) -> str:
    devices = reply["devices"]
    assert isinstance(devices, list)
    return str(devices[0]["device"])


def heat(desk: Desk, host: str, index: int, degrees: int) -> None:
    desk.hosts[host].devices[f"SIM-{host}-{index}"].heat = 1_000 * degrees


def test_a_hot_card_gets_nothing_and_a_warm_one_last() -> None:
    """Also if everything else speaks for it; it has to be cooler for a while before it counts as such."""
    desk = Desk("h1=2xH100")
    desk.granted(4 * GIB, hosts=("h1",), ttl_ms=60_000)
    heat(desk, "h1", 0, 86)
    desk.observe("h1")
    assert desk.device("h1/SIM-h1-0").heat == "hot"
    assert device_of(desk.granted(4 * GIB)) == "h1/SIM-h1-1"
    heat(desk, "h1", 1, 86)
    desk.observe("h1")
    assert desk.refused(4 * GIB)["reason"] == "hot"
    for index in (0, 1):
        heat(desk, "h1", index, 40)
    for _ in range(20):
        desk.live(1_000)
        for index in (0, 1):
            heat(desk, "h1", index, 40)
    assert desk.refused(4 * GIB)["reason"] == "hot"
    desk.live(15_000)
    desk.granted(4 * GIB)


def test_a_card_that_gets_hot_fast_is_drained_before_it_slows_down() -> None:
    """From the rate at which its margin falls."""
    desk = Desk("h1=2xH100")
    for degrees in range(40, 72):
        heat(desk, "h1", 0, degrees)
        desk.live(500)
    told = desk.device("h1/SIM-h1-0")
    assert told.margin is not None
    assert told.margin > 15
    assert told.heat == "hot"
    assert desk.device("h1/SIM-h1-1").heat == "ok"


def test_a_throttling_card_is_hot_whatever_its_margin_and_a_power_cap_is_no_heat() -> None:
    """As the driver's reasons say."""
    desk = Desk()
    reasons: list[tuple[tuple[wire.Throttle, ...], str]] = [(("thermal_software",), "hot"), (("power_cap",), "ok")]
    for number, (throttle, expected) in enumerate(reasons):
        device = wire.DeviceReport(uuid=f"u{number}", index=0, total=GIB, used=0, margin=40, throttle=throttle)
        for seq in (1, 2):
            desk.say(f"h{number}", wire.Report(boot="b0", seq=seq, devices=(device,)))
        assert desk.device(f"h{number}/u{number}").heat == expected


def test_large_models_go_to_primary_cards_and_loading_to_secondary_ones() -> None:
    """By labels of the host or of one card; when there is no other, it is taken all the same."""
    desk = Desk("h1=2x16GiB", "h2=2x16GiB")
    said = desk.observe("h1")
    labels = {"zone": "1", "role": "secondary", "role-1": "primary"}
    desk.say("h1", said.model_copy(update={"seq": 50, "labels": labels}))
    desk.seqs["b0"] = 60
    assert [device.role for device in desk.status("h1").devices] == ["secondary", "primary"]
    assert device_of(desk.granted(8 * GIB, hosts=("h1",), purpose="weights")) == "h1/SIM-h1-1"
    assert device_of(desk.granted(GIB, hosts=("h1",), purpose="loading")) == "h1/SIM-h1-0"
    assert device_of(desk.granted(9 * GIB, hosts=("h1",), role="primary")) == "h1/SIM-h1-0"


def test_a_set_is_taken_from_one_node_if_there_is_one() -> None:
    """With "same" from nothing else; cards without links are never linked."""
    desk = Desk("h1=8xH100", "h2=2xL40S")
    for index in (0, 1, 2, 4, 5):
        desk.granted(70 * GIB, ttl_ms=60_000, exclude=tuple(f"SIM-h1-{other}" for other in range(8) if other != index),
                     hosts=("h1",))  # fmt: skip
    near = desk.granted(60 * GIB, devices=2, numa="same", hosts=("h1",))
    assert {row["index"] for row in near["devices"]} == {6, 7}
    assert desk.refused(60 * GIB, devices=2, one_host=False)["reason"] == "no_room"
    assert desk.refused(20 * GIB, devices=2, link="same", hosts=("h2",))["reason"] == "topology"
    desk.granted(20 * GIB, devices=2, numa="same", hosts=("h2",))


def test_devices_that_have_to_be_near_are_of_one_host() -> None:
    """Though the set may be of several; parts of a divided card are linked to nothing."""
    desk = Desk("h1=1xH100", "h2=1xH100")
    assert desk.refused(20 * GIB, devices=2, one_host=False, numa="same")["reason"] in ("never_fits", "topology")
    assert desk.refused(20 * GIB, devices=2, one_host=False, link="same")["reason"] in ("never_fits", "topology")
    desk.granted(20 * GIB, devices=2, one_host=False)
    parts = tuple(
        wire.DeviceReport(uuid=f"MIG-{n}", index=n // 2, total=40 * GIB, used=0, parent=f"GPU-{n // 2}",
                          links=("MIG-1", "MIG-3"))
        for n in range(4)
    )  # fmt: skip
    desk.say("h3", wire.Report(boot="c0", seq=1, devices=parts))
    assert desk.refused(20 * GIB, devices=2, link="same", hosts=("h3",))["reason"] == "topology"
    desk.granted(20 * GIB, devices=2, hosts=("h3",))


@pytest.mark.parametrize(("apart", "other"), [("device", "h1/SIM-h1-1"), ("host", "h2/SIM-h2-0")])
def test_leases_of_a_group_are_kept_apart(apart: str, other: str) -> None:
    """If it can be avoided, or never; the group is durable."""
    desk = Desk("h1=2x16GiB", "h2=24GiB")
    desk.granted(8 * GIB, group="replicas", exclude=("SIM-h1-1", "h2"), ttl_ms=60_000)
    desk.take_over()
    for host in desk.hosts:
        desk.observe(host)
    assert device_of(desk.granted(4 * GIB, group="replicas", apart=apart)) == other
    assert desk.refused(GIB, group="replicas", apart=apart, strictly=True, exclude=(other,)
                        + (("h2",) if apart == "device" else ("SIM-h1-1",)))["reason"] == "apart"  # fmt: skip
    desk.granted(GIB, group="replicas", apart=apart, exclude=(other,))
    desk.check()


def test_two_parts_of_a_card_are_not_apart() -> None:
    """What befalls the card befalls both."""
    desk = Desk("h1=2xH100")
    for uuid in ("SIM-h1-0", "SIM-h1-1"):
        desk.hosts["h1"].divide(uuid, 2)
    desk.observe("h1")
    first = device_of(desk.granted(GIB, group="replicas", apart="device", strictly=True))
    second = device_of(desk.granted(GIB, group="replicas", apart="device", strictly=True))
    assert {name.rpartition("-")[0] for name in (first, second)} == {"h1/MIG-SIM-h1-0", "h1/MIG-SIM-h1-1"}
    assert desk.refused(GIB, group="replicas", apart="device", strictly=True)["reason"] == "apart"
    desk.granted(GIB, group="replicas", apart="device")


def test_pack_fills_holes_and_spread_takes_the_most_room() -> None:
    """As asked."""
    desk = Desk("h1=16GiB+24GiB")
    assert device_of(desk.granted(4 * GIB)) == "h1/SIM-h1-0"
    assert device_of(desk.granted(4 * GIB, policy="spread")) == "h1/SIM-h1-1"


def test_a_card_whose_bandwidth_is_used_up_is_taken_last() -> None:
    """Where counters tell it, in three of five windows."""
    desk = Desk("h1=2xH100")
    host = desk.hosts["h1"]
    pid, _ = host.start()
    host.allocate(pid, "SIM-h1-0", GIB)
    host.work(pid, "SIM-h1-0", 90, 3_300)
    desk.live(5_000)
    assert desk.device("h1/SIM-h1-0").load == "saturated"
    assert device_of(desk.granted(4 * GIB)) == "h1/SIM-h1-1"


def test_where_a_card_cannot_tell_the_curve_of_its_engine_does() -> None:
    """Until the engine's lease has ended; what counters measure is believed before it."""
    desk = Desk("h1=2xA100")
    full = desk.granted(4 * GIB, "ann", exclude=("SIM-h1-1",), ttl_ms=60_000)["lease"]
    rows = ((1, 100_000, 5_000), (32, 1_600_000, 8_000), (512, 5_000_000, 60_000))
    runs = tuple(advice.MeasuredRun(batch=batch, throughput=rate, itl_us=itl) for batch, rate, itl in rows)
    desk.ask(advice.Tune(id="t-1", curve=advice.Curve(runs=runs), batch=512), "ann")
    desk.live(5_000)
    assert desk.device("h1/SIM-h1-0").load == "saturated"
    assert device_of(desk.granted(4 * GIB)) == "h1/SIM-h1-1"
    desk.release(full, "ann")
    desk.live(6_000)
    assert desk.device("h1/SIM-h1-0").load == "calm"


def test_placement_reads_what_is_true_now() -> None:
    """A cordon, a card that is lost, a host that is silent, and settings change it at once."""
    desk = Desk("h1=16GiB", "h2=16GiB")
    desk.configure(silence_ms=60_000)
    desk.ask(wire.Cordon(id="c-1", target="h1/SIM-h1-0"), "ops")
    assert device_of(desk.granted(GIB)) == "h2/SIM-h2-0"
    desk.ask(wire.Uncordon(id="c-2", target="h1/SIM-h1-0"), "ops")
    desk.hosts["h2"].lose("SIM-h2-0")
    desk.observe("h2")
    assert device_of(desk.granted(GIB)) == "h1/SIM-h1-0"
    desk.hosts["h2"].restore("SIM-h2-0")
    desk.observe("h2")
    desk.live(2_500, silent=("h1",))
    assert device_of(desk.granted(GIB, policy="spread")) == "h2/SIM-h2-0"
    desk.observe("h1")
    desk.configure(reserve=15 * GIB)
    assert desk.refused(GIB)["reason"] == "no_room"
    desk.check()
