"""Slots follow the load of the host: the controller against a simulated host."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bursar.client.worker_slots import Reading, SlotController, SlotRule


class Host:
    """Tasks take ``share`` of the CPU and ``memory`` each while they run; ``others`` take the rest. There is always
    more to do. A slot that is taken away ends with its task, one in ``length`` readings."""

    def __init__(self, share: float, memory: float = 0.0, others: float = 0.0, length: int = 2) -> None:
        self.share, self.memory, self.others, self.length = share, memory, others, length
        self.used = 0
        self.backlog = True
        self.random = random.Random(3)
        self.seen: list[Reading] = []

    def run(self, control: SlotController, steps: int) -> list[int]:
        slots = []
        for _ in range(steps):
            self._tasks_begin_and_end(control.slots)
            noise = self.random.uniform(-0.02, 0.02)
            cpu = max(0.0, min(1.0, self.others + self.share * self.used + noise))
            reading = Reading(cpu, min(1.0, 0.2 + self.memory * self.used))
            self.seen.append(reading)
            slots.append(control.step(reading, self.used))
        return slots

    def _tasks_begin_and_end(self, slots: int) -> None:
        if self.used > slots:
            self.used = max(slots, self.used - max(1, self.used // self.length))
        elif self.backlog:
            self.used = slots


def in_band(readings: list[Reading], low: float = 0.70, high: float = 0.85) -> float:
    """Part of the readings between the bounds; noise is allowed for."""
    return sum(low - 0.03 <= reading.cpu <= high + 0.03 for reading in readings) / len(readings)


@pytest.mark.parametrize("start", [1, 200])
@pytest.mark.parametrize("others", [0.0, 0.3])
@pytest.mark.parametrize("share", [0.005, 0.02, 0.1])
def test_under_a_backlog_the_cpu_comes_to_its_band_and_stays(share: float, others: float, start: int) -> None:
    """70 to 85 %, from too few and from too many slots, for light and heavy tasks, with and without neighbours."""
    host, control = Host(share, others=others), SlotController(SlotRule(most=256), start)
    host.run(control, 60)
    settled = host.run(control, 200)
    assert in_band(host.seen[-200:]) == 1.0
    assert max(settled) - min(settled) <= 1


def test_it_follows_a_change_of_the_work() -> None:
    """Tasks become three times as heavy, then light again."""
    host, control = Host(0.02), SlotController(SlotRule(), 1)
    host.run(control, 60)
    for share in (0.06, 0.02):
        host.share = share
        host.run(control, 100)
        assert in_band(host.seen[-30:]) == 1.0


def test_memory_stays_below_its_target() -> None:
    """Though the CPU has room: it is not reached on the way up, and the slots do not swing at it."""
    host, control = Host(0.001, memory=0.02), SlotController(SlotRule(most=256), 1)
    slots = host.run(control, 300)
    assert max(reading.memory for reading in host.seen) <= 0.80
    assert set(slots[-200:]) == {30}


def test_memory_that_tasks_take_later_costs_slots() -> None:
    """Above its target the slots go until it is below."""
    host, control = Host(0.02, memory=0.005), SlotController(SlotRule(), 1)
    host.run(control, 60)
    host.memory = 0.05
    host.run(control, 40)
    assert all(reading.memory <= 0.80 for reading in host.seen[-20:])
    assert control.slots >= 5


def test_work_that_is_coarser_than_the_band_does_not_make_it_swing() -> None:
    """One task takes half of the machine: what was too many is tried seldom."""
    host, control = Host(0.5), SlotController(SlotRule(), 1)
    slots = host.run(control, 300)
    assert set(slots) == {1, 2}
    assert slots.count(2) / len(slots) < 0.1


def test_idle_slots_are_no_reason_for_more() -> None:
    """Without a backlog a low load says nothing."""
    host, control = Host(0.01), SlotController(SlotRule(), 8)
    host.backlog = False
    assert set(host.run(control, 100)) == {8}


def test_neighbours_are_made_room_for() -> None:
    """Down to the least when they take all."""
    host, control = Host(0.02, others=0.95), SlotController(SlotRule(least=2), 32)
    host.run(control, 100)
    assert control.slots == 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SlotRule(least=0),
        lambda: SlotRule(least=9, most=8),
        lambda: SlotRule(most=257),
        lambda: SlotRule(cpu_low=0.9),
        lambda: SlotRule(cpu_high=1.1),
        lambda: SlotRule(memory_high=0.0),
    ],
)
def test_a_rule_has_bounds(wrong: Callable[[], SlotRule]) -> None:
    """Said when it is made."""
    with pytest.raises(ValueError, match="not"):
        wrong()
