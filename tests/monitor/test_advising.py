"""Right-sizing: what is advised from what was used, what that saves, and when nothing is advised."""

from __future__ import annotations

from typing import Any

from bursar.contracts.monitor_costs import AdviceRow, Costing, GpuLeaseUse
from bursar.contracts.monitor_picture import QueueRow, WorkerRow
from bursar.contracts.monitor_scaling import Policy, Scaler
from bursar_monitor import advising
from bursar_monitor.observing import Polled
from bursar_monitor.operating import LoadRules
from tests.monitor.fleet import Desk, full

MIB = 1 << 20
COSTS = Costing(
    gpu_gib_hour_micros=30_000, cpu_hour_micros=40_000, gpu_slot_hour_micros=800_000, cpu_slot_hour_micros=None,
    spot_discount_permille=500, spot_losses_permille=100, spot_lost_s=360,
)  # fmt: skip
POOL = Scaler(name="workers", least=1, most=20, busy_permille=500, predict=False)


def desk_of(*scalers: Scaler) -> Desk:
    desk = Desk()
    desk.observe(LoadRules(policy=Policy(costs=COSTS, scalers=scalers)))
    return desk


def advice(desk: Desk, kind: str) -> AdviceRow:
    (row,) = [row for row in desk.status(only="advice").advice if row.kind == kind]
    return row


def leases(desk: Desk, granted: int, observed: int | None, times: int = advising.LEAST, count: int = 1) -> None:
    rows = [
        GpuLeaseUse(
            principal="ann",
            purpose="inference",
            granted_bytes=granted * MIB,
            observed_bytes=None if observed is None else observed * MIB,
        )
    ]
    for _ in range(times):
        desk.now += 2_000
        desk.observe(Polled("gpu-manager", {"gpu_leases": rows * count}))


def test_a_lease_that_uses_a_third_is_advised_to_ask_for_less() -> None:
    """p99 of what was used and 15 %, for each of its leases; what that saves by the price of a GiB."""
    desk = desk_of()
    leases(desk, 12_288, 4_096, times=30, count=2)
    row = advice(desk, "gpu_memory")
    assert (row.subject, row.requested, row.count, row.readings) == ("ann · inference", 12_288, 2, 60)
    assert row.advised is not None
    assert 4_096 * 1.12 <= row.advised <= 4_096 * 1.18
    assert row.saving_micros == (12_288 - row.advised) * 2 * 30_000 // 1_024


def test_nothing_is_advised_before_it_was_looked_at_often_enough() -> None:
    """Nor of what nobody has seen: a lease whose processes are not known."""
    desk = desk_of()
    leases(desk, 12_288, 4_096, times=advising.LEAST - 1)
    row = advice(desk, "gpu_memory")
    assert (row.advised, row.saving_micros) == (None, None)
    assert "59 of 60" in row.text
    other = desk_of()
    leases(other, 12_288, None)
    assert other.status(only="advice").advice == []


def test_what_fits_stays_and_what_is_too_little_costs_more() -> None:
    """A difference below a tenth is none."""
    desk = desk_of()
    leases(desk, 1_200, 1_000)
    assert (advice(desk, "gpu_memory").advised, advice(desk, "gpu_memory").saving_micros) == (1_200, 0)
    short = desk_of()
    leases(short, 1_000, 1_600)
    row = advice(short, "gpu_memory")
    assert row.advised is not None
    assert row.advised > 1_600
    assert (row.saving_micros or 0) < 0


def test_a_host_is_advised_by_its_busiest_times() -> None:
    """p95 of the CPUs in use at 85 %; what has no price saves an unknown sum, and not none."""
    desk = desk_of()
    for number in range(advising.LEAST):
        desk.now += 1_000
        desk.observe(full(number + 1), "host-a")
    cpu, memory = advice(desk, "cpu"), advice(desk, "memory")
    cores = cpu.requested // 1_000
    assert cpu.advised is not None
    assert 100 * cores * 1.15 <= cpu.advised <= 100 * cores * 1.21
    assert cpu.saving_micros == (cpu.requested - cpu.advised) * 40_000 // 1_000
    assert (memory.unit, memory.saving_micros) == ("MiB", None)


def test_what_was_used_half_a_day_ago_is_forgotten_after_another() -> None:
    """Two generations; and what is not looked at any more is not advised on."""
    desk = desk_of()
    leases(desk, 1_000, 900)
    desk.advance(advising.GENERATION_MS)
    leases(desk, 1_000, 100)
    assert advice(desk, "gpu_memory").used_most in range(880, 920)
    desk.advance(advising.GENERATION_MS)
    leases(desk, 1_000, 100)
    assert advice(desk, "gpu_memory").used_most in range(98, 103)
    desk.advance(advising.GONE_MS)
    assert desk.status(only="advice").advice == []
    desk.advance(2 * advising.GENERATION_MS)
    assert desk.state.usage == {}


def pool(desk: Desk, running: int, reactive: int, **more: Any) -> None:
    """Ten workers of four slots, two of them on spot hosts."""
    rows = [
        WorkerRow(
            worker=f"w-{number}", kind="gpu", state="up", slots=4, running=running // 10, preemptible=number < 2,
            heard_ms=0,
        )
        for number in range(10)
    ]  # fmt: skip
    queues = [
        QueueRow(queue="reactive", waiting=0, running=reactive),
        QueueRow(queue="proactive", waiting=0, running=9),
    ]
    for _ in range(advising.LEAST + 2):
        desk.observe(Polled("scheduler", {"workers": rows, "queues": queues}))
        desk.advance(5_000)


def test_a_pool_is_advised_by_the_slots_that_it_uses() -> None:
    """p95 of them at the pool's own target, and never below its least."""
    desk = desk_of(POOL)
    pool(desk, 10, 0)
    row = advice(desk, "slots")
    assert (row.requested, row.advised, row.count) == (40, 20, 10)
    assert row.saving_micros == 20 * 800_000


def test_what_somebody_waits_for_stays_on_hosts_that_stay() -> None:
    """The rest of the workers may be on spot hosts; what is lost with these is taken off the saving."""
    desk = desk_of(POOL)
    pool(desk, 20, 4)
    row = advice(desk, "spot")
    assert (row.requested, row.advised, row.count) == (200, 800, 10)
    slots = (8 - 2) * 4
    again = slots * 100 * 360 * 400_000 // (1_000 * 3_600)
    assert row.saving_micros == slots * 800_000 * 500 // 1_000 - again
    assert "2 workers carry p95 of the reactive tasks" in row.text
    assert "10 % of them are taken away in an hour" in row.text
