"""Mistakes that managers of GPU memory have really made, one test for each, so that this one does not make them.

The first nine are from the history of a fleet manager with leases like these (taOS); the others from schedulers and
ledgers of other projects.
"""

from __future__ import annotations

import inspect

import pytest

from bursar.client.gpu import Gpu
from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Refuse
from bursar_gpu_manager.core import GpuDecider
from tests.gpu_manager.desk import GIB, Desk, code

CARD = "h1/SIM-h1-0"


def test_two_claims_at_once_do_not_both_pass_on_a_stale_sample() -> None:
    """Two of 6 GB on 8 GB: the second is decided after the first, whatever the last report says."""
    desk = Desk("h1=8GiB")
    assert isinstance(desk.lease(6 * GIB, "ann"), Accept)
    assert isinstance(desk.lease(6 * GIB, "bob"), Refuse)


def test_memory_is_not_counted_twice_once_its_holder_has_loaded() -> None:
    """What is loaded is the lease's, not beside it."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    desk.granted(6 * GIB, processes=(process,))
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 6 * GIB)
    desk.observe("h1")
    assert desk.device(CARD).room == 16 * GIB - 6 * GIB - GIB // 2


def test_a_sample_while_a_holder_loads_does_not_take_its_lease_for_loaded() -> None:
    """Whatever is observed, a lease counts with what was granted at least."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    desk.granted(10 * GIB, processes=(process,))
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", GIB)
    for _ in range(5):
        desk.live(1_000)
    assert desk.device(CARD).room == 16 * GIB - 10 * GIB - GIB // 2


def test_a_report_without_a_figure_does_not_age_a_lease_out() -> None:
    """Unknown grants nothing and frees nothing."""
    desk = Desk("h1=16GiB")
    desk.granted(10 * GIB, ttl_ms=60_000)
    desk.hosts["h1"].hide_use("SIM-h1-0")
    desk.live(5_000)
    assert desk.refused(GIB)["reason"] == "not_observed"
    desk.hosts["h1"].hide_use("SIM-h1-0", hidden=False)
    desk.observe("h1")
    assert desk.refused(6 * GIB)["reason"] == "no_room"


def test_a_renewal_does_not_bring_an_expired_lease_back() -> None:
    """Not even in the margin in which its memory still counts."""
    desk = Desk("h1=16GiB")
    lease = desk.granted(GIB, ttl_ms=1_000)["lease"]
    desk.live(1_200)
    assert code(desk.renew(lease)) == "lease_ended"
    desk.live(1_000)
    assert code(desk.renew(lease)) == "lease_ended"
    assert desk.status().leases == []


@pytest.mark.parametrize(("used", "room"), [(None, None), (0, 16 * GIB - GIB // 2)])
def test_a_failed_measurement_is_neither_much_free_memory_nor_a_measured_zero(
    used: int | None, room: int | None
) -> None:
    """Three things: a value, zero, and not known."""
    desk = Desk()
    device = wire.DeviceReport(uuid="u", index=0, total=16 * GIB, used=used)
    desk.say("h1", wire.Report(boot="b0", seq=1, devices=(device,)))
    assert desk.device("h1/u").room == room
    assert isinstance(desk.lease(GIB), Accept) is (used == 0)


def test_the_ledger_has_one_writer_and_deciding_changes_nothing() -> None:
    """No thread, no lock: decide says, evolve writes; a refusal leaves every byte as it was."""
    assert not any(inspect.iscoroutinefunction(member) for _, member in inspect.getmembers(GpuDecider))
    desk = Desk("h1=8GiB")
    desk.granted(6 * GIB)
    before = desk.dump()
    desk.refused(6 * GIB)
    assert desk.dump() == before


def test_a_host_that_is_gone_does_not_free_what_its_holders_still_use() -> None:
    """Their leases end and they are told, and the memory counts until they must have stopped."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    lease = desk.granted(10 * GIB, ttl_ms=30_000, processes=(process,))["lease"]
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 10 * GIB)
    desk.live(5_000, silent=("h1",))
    assert desk.notices() == [("agent", lease, "device_lost")]
    desk.observe("h1")
    assert desk.refused(10 * GIB)["reason"] == "no_room"
    desk.live(26_000)
    assert desk.refused(10 * GIB)["reason"] == "no_room"  # it has not stopped: now it is foreign
    desk.hosts["h1"].exit(pid)
    desk.live(600)
    desk.granted(10 * GIB)


def test_every_call_of_the_client_that_asks_is_awaited() -> None:
    """A call that is not awaited would grant in a test and nothing in the field: all of them are coroutines."""
    for name in ("grant", "renew", "release", "status", "explain", "what_if"):
        assert inspect.iscoroutinefunction(getattr(Gpu, name)), name
    assert inspect.isawaitable(Gpu.lease) is False


def test_the_name_of_a_host_is_not_the_beginning_of_another() -> None:
    """Reports, status, cordons and choices of gpu-1 do not touch gpu-10."""
    desk = Desk("gpu-1=16GiB", "gpu-10=16GiB")
    desk.ask(wire.Cordon(id="c-1", target="gpu-1"), "ops")
    assert desk.granted(GIB)["devices"][0]["host"] == "gpu-10"
    assert desk.refused(GIB, hosts=("gpu-1",))["reason"] == "no_device"
    assert [host.host for host in desk.status("gpu-1").hosts] == ["gpu-1"]
    assert desk.status("gpu-1").leases == []
    holdings = desk.ask(wire.Holdings(), "gpu-1")
    assert isinstance(holdings, Refuse)
    assert holdings.reply["leases"] == []
    desk.live(5_000, silent=("gpu-1",))
    assert {device.host: device.state for device in desk.status().devices} == {"gpu-1": "lost", "gpu-10": "ready"}


def test_figures_of_different_moments_do_not_wrap_around() -> None:
    """More observed of leases than is in use: nothing is below zero (elsewhere 17 TB were in use then)."""
    desk = Desk("h1=16GiB")
    _, process = desk.process("h1")
    desk.granted(4 * GIB, processes=(process,))
    row = wire.ProcessMemory(pid=process.pid, started=process.started, memory=9 * GIB)
    device = wire.DeviceReport(uuid="SIM-h1-0", index=0, total=16 * GIB, used=2 * GIB, processes=(row,))
    desk.say("h1", wire.Report(boot="b0", seq=99, devices=(device,), labels={"zone": "1"}))
    told = desk.device(CARD)
    assert (told.foreign, told.charged, told.room) == (0, 9 * GIB, 7 * GIB - GIB // 2)


def test_a_lease_of_a_process_that_is_gone_is_not_kept_by_another_with_its_pid() -> None:
    """Nor freed because of it: pid and start, always both."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    desk.granted(4 * GIB, processes=(process,))
    host = desk.hosts["h1"]
    host.exit(pid)
    host.started[pid] = process.started + 100
    host.allocate(pid, "SIM-h1-0", 3 * GIB)
    desk.observe("h1")
    told = desk.device(CARD)
    assert (told.foreign, told.charged) == (3 * GIB, 4 * GIB)


def test_memory_that_its_process_no_longer_has_and_the_card_does_not_tell_free_is_not_granted() -> None:
    """Drivers take a while; a card is free when it says so."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    lease = desk.granted(10 * GIB, processes=(process,))["lease"]
    host = desk.hosts["h1"]
    host.allocate(pid, "SIM-h1-0", 10 * GIB)
    host.exit(pid, lag_ms=5_000)
    desk.observe("h1")
    desk.release(lease)
    assert desk.refused(10 * GIB)["reason"] == "no_room"
    host.advance(5_000)
    desk.observe("h1")
    desk.granted(10 * GIB)
