"""The simulated host: as strict as a driver, and the judge of what was granted."""

from __future__ import annotations

import pytest

from bursar.bus.codec import decode, encode
from bursar.contracts import gpu as wire
from bursar.errors import CallerError
from bursar_gpu_manager.port import DeviceLost
from bursar_gpu_manager.reporting import report
from bursar_gpu_manager.simulated import GIB, OutOfMemory, Violation, simulated_host

HALF = GIB // 2


def test_a_host_is_told_in_a_few_words() -> None:
    """Counts, sizes, several kinds."""
    host = simulated_host("h", "2x24GiB + 512MiB")
    assert [device.total for device in host.devices.values()] == [24 * GIB, 24 * GIB, HALF]
    assert [card.uuid for card in host.cards()] == ["SIM-h-0", "SIM-h-1", "SIM-h-2"]
    for bad in ("", "24", "0x1GiB", "17x1GiB", "9x1GiB+9x1GiB", "x1GiB", "2xH1000", "H100+"):
        with pytest.raises(CallerError):
            simulated_host("h", bad)


def test_an_allocation_fails_when_the_card_is_full() -> None:
    """As a driver says it; nothing is taken then."""
    host = simulated_host("h", "1x16GiB")
    pid, _ = host.start(foreign=True)
    host.allocate(pid, "SIM-h-0", 10 * GIB)
    with pytest.raises(OutOfMemory) as error:
        host.allocate(pid, "SIM-h-0", 7 * GIB)
    assert error.value.facts["free"] == 6 * GIB
    assert host.out_of_memory == 1
    host.free(pid, "SIM-h-0", 4 * GIB)
    host.allocate(pid, "SIM-h-0", 7 * GIB)
    host.free(pid, "SIM-h-0", 99 * GIB)
    assert host.devices["SIM-h-0"].used == 0
    assert host.devices["SIM-h-0"].most_used == 13 * GIB


def test_what_leaves_less_than_the_reserve_is_a_violation() -> None:
    """Whoever granted it; not what foreign processes do by themselves."""
    host = simulated_host("h", "1x16GiB")
    stranger, _ = host.start(foreign=True)
    holder, _ = host.start()
    host.allocate(holder, "SIM-h-0", 15 * GIB + HALF)
    assert host.violations == []
    host.allocate(stranger, "SIM-h-0", 1)
    assert host.violations == []
    host.allocate(holder, "SIM-h-0", 1)
    assert host.violations == [Violation("SIM-h-0", holder, 15 * GIB + HALF + 2, 15 * GIB + HALF)]


def test_a_process_that_ends_gives_everything_back() -> None:
    """And can do nothing more."""
    host = simulated_host("h", "2x16GiB")
    pid, _ = host.start()
    host.allocate(pid, "SIM-h-0", GIB)
    host.allocate(pid, "SIM-h-1", GIB)
    host.exit(pid)
    assert [device.used for device in host.devices.values()] == [0, 0]
    with pytest.raises(CallerError):
        host.allocate(pid, "SIM-h-0", 1)
    with pytest.raises(CallerError):
        host.allocate(host.start()[0], "SIM-h-9", 1)


def test_a_lost_card_does_not_answer_and_comes_back_empty() -> None:
    """The others go on."""
    host = simulated_host("h", "2x16GiB")
    pid, _ = host.start()
    host.allocate(pid, "SIM-h-0", GIB)
    host.lose("SIM-h-0")
    for ask in (host.memory, host.processes, host.sensors):
        with pytest.raises(DeviceLost):
            ask("SIM-h-0")
    with pytest.raises(DeviceLost):
        host.allocate(pid, "SIM-h-0", 1)
    assert len(host.cards()) == 2
    host.restore("SIM-h-0")
    assert host.memory("SIM-h-0").used == 0


def test_a_report_of_many_processes_fits_into_one_message() -> None:
    """The largest are named; the others count as foreign."""
    host = simulated_host("h", "16x16GiB")
    for uuid in host.devices:
        for size in range(1, 200):
            host.allocate(host.start()[0], uuid, size)
    payload = encode(report(host, "b0", 1, {}, {}))
    said, _ = decode(wire.Report, payload)
    told = [row.processes or () for row in said.devices]
    assert {len(processes) for processes in told} == {25}
    assert min(process.memory or 0 for process in told[0]) == 175
    assert said.devices[0].used == sum(range(1, 200))


def test_cards_of_a_kind_have_its_size_heat_links_and_nodes() -> None:
    """A large server has two nodes; a small card knows of none."""
    host = simulated_host("h", "8xH100+RTX4070")
    first, last = host.devices["SIM-h-0"], host.devices["SIM-h-8"]
    assert first.total == 81_559 * 2**20
    assert [host.topology(f"SIM-h-{index}").numa_node for index in (0, 3, 4, 7)] == [0, 0, 1, 1]
    assert host.topology("SIM-h-0").links == tuple(f"SIM-h-{index}" for index in range(1, 8))
    assert (last.total, host.topology("SIM-h-8").links) == (12_282 * 2**20, None)
    assert host.sensors("SIM-h-8").dram_activity is None


def test_a_busy_card_gets_warm_slows_down_and_recovers() -> None:
    """By its power and what is around it; it cools before it runs fast again."""
    host = simulated_host("h", "H100")
    card = host.devices["SIM-h-0"]
    pid, _ = host.start()
    host.allocate(pid, "SIM-h-0", GIB)
    host.work(pid, "SIM-h-0", 100, 1_000)
    for _ in range(200):
        host.advance(1_000)
    assert 80 <= card.temperature < 87
    assert host.sensors("SIM-h-0").throttle == ("power_cap",)
    assert card.pace() == 1_000
    card.ambient = 60_000
    slow = []
    for _ in range(200):
        host.advance(1_000)
        slow.append(card.is_slow)
    assert any(slow)
    assert max(card.temperature for _ in [0]) <= 95
    card.heat, card.is_slow = 87_000, True
    assert host.sensors("SIM-h-0").throttle == ("thermal_hardware",)
    assert (card.pace(), host.sensors("SIM-h-0").margin) == (500, 0)
    card.ambient = 20_000
    host.exit(pid)
    for _ in range(60):
        host.advance(1_000)
    assert (card.is_slow, host.sensors("SIM-h-0").throttle) == (False, ("idle",))


def test_processes_that_want_more_bandwidth_than_there_is_get_their_share() -> None:
    """And the card says that it is saturated, where it can."""
    host = simulated_host("h", "H200+RTX4070")
    for _ in range(3):
        pid, _ = host.start()
        host.allocate(pid, "SIM-h-0", GIB)
        host.work(pid, "SIM-h-0", 20, 2_400)
    card = host.devices["SIM-h-0"]
    assert host.sensors("SIM-h-0").dram_activity == 100
    assert card.pace() == 1_000 * 4_800 // 7_200
    with pytest.raises(CallerError):
        host.work(999, "SIM-h-0", 1, 1)


def test_an_allocation_can_fail_though_there_is_room() -> None:
    """As with memory in pieces; it is counted."""
    host = simulated_host("h", "16GiB")
    pid, _ = host.start()
    host.fail_next("SIM-h-0")
    with pytest.raises(OutOfMemory):
        host.allocate(pid, "SIM-h-0", 1)
    host.allocate(pid, "SIM-h-0", 1)
    assert host.out_of_memory == 1


def test_memory_of_an_ended_process_may_come_back_late() -> None:
    """Until then it is in use and nobody's."""
    host = simulated_host("h", "16GiB")
    pid, _ = host.start()
    host.allocate(pid, "SIM-h-0", GIB)
    host.exit(pid, lag_ms=700)
    host.advance(699)
    assert (host.memory("SIM-h-0").used, host.processes("SIM-h-0")) == (GIB, [])
    host.advance(1)
    assert host.memory("SIM-h-0").used == 0


def test_only_the_process_that_is_meant_is_killed() -> None:
    """A pid that is used again is another process."""
    host = simulated_host("h", "16GiB")
    pid, started = host.start()
    assert not host.kill(pid, started + 1)
    assert host.is_alive(pid, started)
    assert host.kill(pid, started)
    assert not host.is_alive(pid, started)


def test_a_card_in_use_is_not_divided() -> None:
    """Nor into more parts than it has; the parts are equal."""
    host = simulated_host("h", "H100+RTX4070")
    parts = host.divide("SIM-h-0", 2)
    assert [host.memory(uuid).total for uuid in parts] == [81_559 * 2**20 // 2] * 2
    for uuid, count in (("SIM-h-1", 2), (parts[0], 9)):
        with pytest.raises(CallerError):
            host.divide(uuid, count)


def test_a_driver_that_does_not_tell_what_is_in_use_says_so() -> None:
    """Unknown, not zero."""
    host = simulated_host("h", "16GiB")
    host.hide_use("SIM-h-0")
    assert host.memory("SIM-h-0").used is None
    host.hide_use("SIM-h-0", hidden=False)
    assert host.memory("SIM-h-0").used == 0
