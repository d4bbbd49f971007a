"""How many tasks at a time: as many as keep the host's CPU busy, and no more than its memory holds.

A feedback controller. It begins with the least. Each reading tells what part of the CPU and of the memory is in use,
and how many slots are taken. Between ``cpu_low`` and ``cpu_high`` nothing changes. Outside, the number of slots is set
in proportion, as the autoscaler of Kubernetes does it: what uses c of the CPU in n slots would use the middle of the
band in n·middle/c; by a factor of two at most in one step, since not all of the load need come from these slots. It
grows only under a backlog, that is when all slots are taken: with idle slots a low load says nothing. Above
``memory_high`` a quarter of the slots goes; growth stops where the memory that each slot seems to need would reach that
bound.

Work that is coarser than the band (one task takes half the machine) would make it swing. So a number of slots that was
too many is not tried again for `HOLD` readings. After a change the next `SETTLE` readings are passed over: tasks begin
and end before it shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from bursar.contracts.scheduler import MAX_SLOTS

SETTLE: Final = 2
HOLD: Final = 60
STEP: Final = 2.0
"""Factor by which the slots change at once, at most."""
MEMORY_CUT: Final = 0.75
"""What stays of the slots when the memory is above its target."""


@dataclass(frozen=True, slots=True)
class SlotRule:
    """``least``, ``most``: slots, 1 to 256. ``cpu_low``, ``cpu_high``, ``memory_high``: parts of the host, 0 to 1."""

    least: int = 1
    most: int = 64
    cpu_low: float = 0.70
    cpu_high: float = 0.85
    memory_high: float = 0.80

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= MAX_SLOTS:
            raise ValueError(f"1 <= least <= most <= {MAX_SLOTS}, not {self.least} and {self.most}")
        if not 0.0 < self.cpu_low < self.cpu_high <= 1.0:
            raise ValueError(f"0 < cpu_low < cpu_high <= 1, not {self.cpu_low} and {self.cpu_high}")
        if not 0.0 < self.memory_high <= 1.0:
            raise ValueError(f"memory_high is a part above 0 and up to 1, not {self.memory_high}")


@dataclass(frozen=True, slots=True)
class Reading:
    """``cpu``, ``memory``: part of the host that is in use, 0 to 1."""

    cpu: float
    memory: float


class SlotController:
    """See the module's text. ``slots``: as many as there are to be now."""

    __slots__ = ("_ceiling", "_hold", "_least_memory", "_rule", "_settle", "slots")

    def __init__(self, rule: SlotRule, slots: int) -> None:
        self.slots = max(rule.least, min(rule.most, slots))
        self._rule = rule
        self._settle = 0
        self._ceiling = rule.most + 1
        self._hold = 0
        self._least_memory = 1.0

    def step(self, reading: Reading, used: int) -> int:
        """One reading, with ``used`` slots taken; the number of slots from now on."""
        self._least_memory = min(self._least_memory, reading.memory)
        self._forget()
        if self._settle:
            self._settle -= 1
            return self.slots
        wanted = max(self._rule.least, min(self._rule.most, self._wanted(reading, used)))
        if wanted < self.slots:
            self._ceiling, self._hold = self.slots, HOLD
        if wanted != self.slots:
            self.slots, self._settle = wanted, SETTLE
        return self.slots

    def _forget(self) -> None:
        self._hold -= 1
        if self._hold <= 0:
            self._ceiling = self._rule.most + 1

    def _wanted(self, reading: Reading, used: int) -> int:
        rule, now = self._rule, self.slots
        fits = now * (rule.cpu_low + rule.cpu_high) / 2.0 / max(reading.cpu, 1e-6)
        if reading.memory > rule.memory_high:
            return min(now - 1, math.floor(now * MEMORY_CUT))
        if reading.cpu > rule.cpu_high:
            return min(now - 1, math.floor(max(fits, now / STEP)))
        if reading.cpu < rule.cpu_low and used >= now:
            grown = max(now + 1, math.floor(min(fits, now * STEP)))
            return max(now, min(grown, self._ceiling - 1, now + self._room(reading, used)))
        return now

    def _room(self, reading: Reading, used: int) -> int:
        """Slots more that the memory holds, by what those that are taken seem to need."""
        each = (reading.memory - self._least_memory) / max(1, used)
        if each <= 0.0:
            return MAX_SLOTS
        return math.floor((self._rule.memory_high - reading.memory) / each)
