"""NVIDIA's cards behind the port: what the driver says, what it cannot say, and what befalls it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bursar.bus.codec import decode, encode
from bursar.contracts import gpu as wire
from bursar_gpu_manager.nvml import Nvml, started_at
from bursar_gpu_manager.nvml_reading import cpu_list, throttle_of
from bursar_gpu_manager.port import Card, DeviceLost, Memory, NoDevices, ProcessUse, Sensors, Topology
from bursar_gpu_manager.reporting import report
from tests.gpu_manager.fake_nvml import DRIVER_NOT_LOADED, GPU_IS_LOST, MIB, NOT_SUPPORTED, OPTIONAL, FakeNvml


def test_a_healthy_card_is_read_as_it_is(tmp_path: Path) -> None:
    """Memory without what the driver keeps, sensors, and processes with their start."""
    (tmp_path / "41").mkdir()
    (tmp_path / "41" / "stat").write_text(f"41 (a name) with ) S {' '.join(str(n) for n in range(4, 60))}")
    library = FakeNvml()
    library.running, library.drawing = [(41, 500 * MIB), (42, 10 * MIB)], [(42, 20 * MIB), (43, None)]
    nvml = Nvml(library, tmp_path)
    assert list(nvml.cards()) == [Card("GPU-0", 0, "NVIDIA Test Card"), Card("GPU-1", 1, "NVIDIA Test Card")]
    assert nvml.memory("GPU-0") == Memory(16_000 * MIB, 300 * MIB, 700 * MIB, 15_000 * MIB)
    first = nvml.sensors("GPU-1")
    assert (first.utilisation, first.temperature, first.power_mw) == (37, 61, 123_456)
    assert nvml.processes("GPU-0") == [
        ProcessUse(41, 22, 500 * MIB),
        ProcessUse(42, None, 20 * MIB),
        ProcessUse(43, None, None),
    ]
    nvml.close()
    assert not library.is_open


@pytest.mark.parametrize(
    ("used", "free", "expected"),
    [(700, 15_000, 700), (1_000, 15_000, 700), (400, 15_000, 700), (9_000, 15_000, 9_000)],
)
def test_whether_used_includes_what_the_driver_keeps_is_found_out(used: int, free: int, expected: int) -> None:
    """By adding up; the larger figure when neither way adds up."""
    library = FakeNvml()
    library.memory |= {"used": used * MIB, "free": free * MIB}
    nvml = Nvml(library)
    nvml.cards()
    assert nvml.memory("GPU-0").used == expected * MIB


def test_what_is_not_supported_is_unknown_and_never_zero() -> None:
    """Each call by itself; version 1 of the memory call stands in for version 2."""
    library = FakeNvml()
    nvml = Nvml(library)
    nvml.cards()
    library.fails = dict.fromkeys(["utilisation", "temperature", "power", "memory_v2"], NOT_SUPPORTED)
    told = nvml.sensors("GPU-0")
    assert (told.utilisation, told.temperature, told.power_mw) == (None, None, None)
    assert nvml.memory("GPU-0") == Memory(16_000 * MIB, None, 1_000 * MIB, 15_000 * MIB)
    library.fails["memory_v1"] = NOT_SUPPORTED
    assert nvml.memory("GPU-0") == Memory(None, None, None, None)
    library.fails["processes"] = NOT_SUPPORTED
    assert nvml.processes("GPU-0") is None
    fields = report(nvml, "b0", 1, {"GPU-0": 16_000 * MIB}, {})
    said, _ = decode(wire.Report, encode(fields))
    row = said.devices[0]
    assert (row.total, row.used, row.temperature, row.processes) == (16_000 * MIB, None, None, None)


def test_a_large_card_tells_heat_clocks_links_and_counters() -> None:
    """Everything that the driver offers, in the port's units; counters from the second look on."""
    library = FakeNvml(cards=3)
    nvml = Nvml(library)
    nvml.cards()
    nvml.sensors("GPU-0")
    assert nvml.sensors("GPU-0") == Sensors(
        utilisation=37, temperature=61, power_mw=123_456, memory_utilisation=11, sm_activity=61, dram_activity=89,
        memory_temperature=70, slowdown_at=87, margin=25, power_limit_mw=700_000, clock_mhz=1_980,
        memory_clock_mhz=1_593, throttle=("power_cap", "thermal_hardware"), pcie_tx=5 * 1024, pcie_rx=6 * 1024,
    )  # fmt: skip
    assert nvml.topology("GPU-0") == Topology(
        numa_node=1, cpus="0-15,64", bus_id="00000000:17:00.0", pcie_generation=5, pcie_width=16, links=("GPU-1",),
        divided=False,
    )  # fmt: skip
    assert library.samples == 2
    nvml.close()
    nvml.close()
    assert library.samples == 0


@pytest.mark.parametrize("call", ["sample", "metrics"])
def test_counters_that_fail_for_a_while_are_unknown_and_keep_nothing(call: str) -> None:
    """The driver's samples are given back, and later there are figures again."""
    library = FakeNvml()
    nvml = Nvml(library)
    nvml.cards()
    nvml.sensors("GPU-0")
    library.fails[call] = NOT_SUPPORTED
    for _ in range(5):
        assert nvml.sensors("GPU-0").dram_activity is None
    assert library.samples <= 2
    del library.fails[call]
    nvml.sensors("GPU-0")
    assert nvml.sensors("GPU-0").dram_activity == 89
    nvml.close()
    assert library.samples == 0


def test_each_call_that_is_not_supported_leaves_only_its_own_figure_unknown() -> None:
    """A small card without counters, links, division or a node is read to the end."""
    library = FakeNvml()
    library.fails = dict.fromkeys(OPTIONAL, NOT_SUPPORTED)
    nvml = Nvml(library)
    nvml.cards()
    for _ in range(2):
        assert nvml.sensors("GPU-0") == Sensors()
        assert nvml.topology("GPU-0") == Topology()
    assert nvml.memory("GPU-0").used == 700 * MIB
    assert nvml.processes("GPU-0") == []


@pytest.mark.parametrize(
    ("without", "expected"), [("margin", (61, 87, 26)), ("threshold", (61, 86, 25)), ("temperature", (None, 87, 25))]
)
def test_margin_and_slowdown_follow_from_each_other(without: str, expected: tuple[int | None, ...]) -> None:
    """Where the driver tells only one of them."""
    library = FakeNvml()
    library.fails = {without: NOT_SUPPORTED}
    nvml = Nvml(library)
    nvml.cards()
    told = nvml.sensors("GPU-0")
    assert (told.temperature, told.slowdown_at, told.margin) == expected


def test_the_node_is_the_only_one_near_the_card_where_it_has_none_of_its_own() -> None:
    """Of a card near two nodes it is not known."""
    library = FakeNvml()
    library.fails = {"node": NOT_SUPPORTED}
    nvml = Nvml(library)
    nvml.cards()
    assert nvml.topology("GPU-0").numa_node == 1
    assert cpu_list([0b1011]) == "0-1,3"
    assert cpu_list([0, 1 << 63]) == "127"


def test_reasons_of_low_clocks_have_names_and_unknown_bits_are_not_lost() -> None:
    """The older call stands in for the newer one."""
    assert throttle_of(0) == ()
    assert throttle_of(0x2 | 0x100 | 0x4000) == ("clocks", "other")
    library = FakeNvml()
    library.fails = {"throttle": NOT_SUPPORTED}
    library.bits = 0x20
    nvml = Nvml(library)
    nvml.cards()
    assert nvml.sensors("GPU-0").throttle == ("thermal_software",)


def test_a_divided_card_shows_up_as_its_parts() -> None:
    """Each with memory of its own, and the heat of the whole."""
    library = FakeNvml()
    nvml = Nvml(library)
    nvml.cards()
    library.parts = {1: 2}
    library.fails = {"utilisation:200": NOT_SUPPORTED}
    assert [(card.uuid, card.index, card.parent) for card in nvml.cards()] == [
        ("GPU-0", 0, ""),
        ("MIG-200", 1, "GPU-1"),
        ("MIG-201", 1, "GPU-1"),
    ]
    told = nvml.sensors("MIG-200")
    assert (told.utilisation, told.sm_activity, told.temperature) == (None, None, 61)
    assert nvml.topology("MIG-200").divided is True


def test_what_was_divided_in_another_way_is_not_there_any_more() -> None:
    """Parts that were made anew, the whole card again, a divided card without parts, another card in its place."""
    library = FakeNvml(cards=1)
    nvml = Nvml(library)
    library.parts = {0: 2}
    assert [card.uuid for card in nvml.cards()] == ["MIG-100", "MIG-101"]
    library.first = 5
    assert [card.uuid for card in nvml.cards()] == ["MIG-105", "MIG-106"]
    with pytest.raises(DeviceLost):
        nvml.memory("MIG-100")
    library.parts = {}
    assert [card.uuid for card in nvml.cards()] == ["GPU-0"]
    for _ in range(2):
        nvml.sensors("GPU-0")
    library.parts = {0: 0}
    assert list(nvml.cards()) == []
    assert library.samples == 0
    with pytest.raises(DeviceLost):
        nvml.sensors("GPU-0")


def test_cards_on_a_switch_are_linked_to_one_another() -> None:
    """And to no card beside it; the parts of a divided card to none."""
    library = FakeNvml(cards=4)
    library.switched = {0, 1, 2}
    library.fails = {"links:3": NOT_SUPPORTED}
    nvml = Nvml(library)
    nvml.cards()
    library.nvmlDeviceGetNvLinkRemotePciInfo = lambda handle, link: SimpleNamespace(busId=b"switch")  # type: ignore[method-assign]
    links = {card.uuid: nvml.topology(card.uuid).links for card in nvml.cards()}
    assert links == {
        "GPU-0": ("GPU-1", "GPU-2"),
        "GPU-1": ("GPU-0", "GPU-2"),
        "GPU-2": ("GPU-0", "GPU-1"),
        "GPU-3": None,
    }
    library.parts = {2: 1}
    nvml = Nvml(library)
    nvml.cards()
    assert nvml.topology("GPU-0").links == ("GPU-1",)
    assert nvml.topology("MIG-300").links == ()


def test_what_is_slow_to_ask_is_asked_rarely() -> None:
    """The driver measures traffic on PCIe while the caller waits."""
    library = FakeNvml(cards=8)
    nvml = Nvml(library)
    for _ in range(40):
        for card in nvml.cards():
            nvml.sensors(card.uuid)
            nvml.topology(card.uuid)
    assert library.asked.count("pcie") == 8 * 2 * 2
    assert library.asked.count("generation") == 8


def test_a_card_that_has_fallen_off_the_bus_is_lost_and_still_named() -> None:
    """At whatever call it shows; the others go on."""
    library = FakeNvml()
    nvml = Nvml(library)
    totals: dict[str, int] = {}
    report(nvml, "b0", 1, totals, {})
    library.fails = {"memory_v2:0": GPU_IS_LOST}
    with pytest.raises(DeviceLost):
        nvml.memory("GPU-0")
    said, _ = decode(wire.Report, encode(report(nvml, "b0", 2, totals, {})))
    assert [(row.uuid, row.lost, row.total) for row in said.devices] == [
        ("GPU-0", True, 16_000 * MIB),
        ("GPU-1", False, 16_000 * MIB),
    ]
    library.fails = {"nvmlDeviceGetHandleByIndex:1": GPU_IS_LOST, "memory_v2:1": GPU_IS_LOST}
    assert [card.uuid for card in nvml.cards()] == ["GPU-0", "GPU-1"]
    with pytest.raises(DeviceLost):
        nvml.memory("GPU-1")
    with pytest.raises(DeviceLost):
        nvml.sensors("GPU-9")


def test_without_a_driver_or_the_library_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typed error, not a trace."""
    library = FakeNvml()
    library.fails["nvmlInit"] = DRIVER_NOT_LOADED
    with pytest.raises(NoDevices, match="NVML does not start"):
        Nvml(library)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoDevices, match="not installed"):
        Nvml()


def test_the_real_library_has_the_names_that_are_called() -> None:
    """The adapter is written against nvidia-ml-py as it is installed."""
    import pynvml  # type: ignore[import-untyped]

    for name in vars(FakeNvml):
        if name.startswith(("nvml", "NVML")):
            assert hasattr(pynvml, name), name


def test_the_start_of_a_process_tells_it_from_a_later_one() -> None:
    """Of this process it is known, of none that does not exist."""
    assert (started_at(os.getpid()) or 0) > 0
    assert started_at(2**22 + 1) is None
