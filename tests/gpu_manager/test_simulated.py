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
    for bad in ("", "24", "0x1GiB", "17x1GiB", "9x1GiB+9x1GiB", "x1GiB"):
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
    assert {len(row.processes) for row in said.devices} == {25}
    assert min(process.memory or 0 for process in said.devices[0].processes) == 175
    assert said.devices[0].used == sum(range(1, 200))
