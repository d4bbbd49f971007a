"""Which of its looks a probe sends: those that say something new.

A probe looks at its host once a second, which costs little, and sends a look when one of these holds (send-on-delta
with a dead band that follows importance):

- A value has come to the other side of a bound that rules and objectives look at, or is beyond the bound of an alert:
  evidence is sent second by second.
- A value has moved away from what was sent by more than its dead band: half of its distance to the nearest bound, so
  that noise far away from everything is not sent, and at least `LEAST` thousandths.
- A device has come, gone, or changed its state.
- Nothing was sent for ``most`` looks. That has to be well below the silence that an alert speaks of.

So nobody is ever wrong about the side of a bound, and what is shown is as old as it says. Each sample says how many
looks it stands for, and objectives weigh it by that: an error budget is counted in time, not in messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bursar.contracts.monitor import HostSample
from bursar_monitor.bugs import BOUND_OVERLOOKED, seeded

BOUNDS: Final[Mapping[str, tuple[int, ...]]] = {
    "cpu": (700, 850, 900),
    "memory": (640, 720, 750, 800),
    "disk": (900, 920),
    "pressure": (100, 500),
    "lease": (800,),
    "crashes": (300,),
    "leak": (1_000,),
}
"""Thousandths that the objectives and the rules which come with the monitor look at; of crashes: hundredths of one."""

ALARMING: Final[Mapping[str, int]] = {
    "cpu": 900,
    "memory": 800,
    "disk": 920,
    "pressure": 500,
    "lease": 10_000,
    "crashes": 300,
    "leak": 1_000,
}
"""From here on each look is evidence."""

LEAST: Final = 20
"""Smallest dead band, thousandths."""
MOST_LOOKS: Final = 4


def values_of(sample: HostSample) -> dict[str, int]:
    """What is compared, in thousandths."""
    found: dict[str, int] = {}
    if sample.cpu is not None:
        found["cpu"] = sample.cpu.used_permille
    if sample.memory is not None and sample.memory.total_bytes:
        used = max(0, sample.memory.total_bytes - sample.memory.available_bytes)
        found["memory"] = used * 1_000 // sample.memory.total_bytes
    if sample.disk is not None and sample.disk.total_bytes:
        found["disk"] = sample.disk.used_bytes * 1_000 // sample.disk.total_bytes
    if sample.pressure is not None:
        shares = (sample.pressure.cpu_permille, sample.pressure.memory_permille, sample.pressure.io_permille)
        found["pressure"] = max((share for share in shares if share is not None), default=0)
    if sample.leases:
        found["lease"] = min(1_000, max(use.used_permille for use in sample.leases))
    if sample.groups:
        found["crashes"] = 100 * max((group.crashes for group in sample.groups), default=0)
        found["leak"] = min(1_000, max((group.leak_permille for group in sample.groups), default=0))
    return found


def side(name: str, value: int) -> int:
    """How many bounds of this value it has reached."""
    return sum(value >= bound for bound in BOUNDS[name])


def dead_band(name: str, value: int) -> int:
    """How far it may move from here before that is news."""
    return max(LEAST, min(abs(value - bound) for bound in BOUNDS[name]) // 2)


class Pace:
    """``most``: how many looks at most one sample stands for; 1: each is sent."""

    def __init__(self, most: int = MOST_LOOKS) -> None:
        self._most = most
        self._sent: dict[str, int] | None = None
        self._devices: tuple[object, ...] = ()
        self.looks = 0

    def wants(self, sample: HostSample) -> bool:
        """Whether this look is to be sent; to be asked once for each."""
        self.looks += 1
        values = values_of(sample)
        if self._sent is None or self.looks >= self._most or self._sent.keys() != values.keys():
            return True
        if _devices(sample) != self._devices:
            return True
        return any(self._is_news(name, value, self._sent[name]) for name, value in values.items())

    @staticmethod
    def _is_news(name: str, value: int, sent: int) -> bool:
        if value >= ALARMING[name]:
            return True
        if side(name, value) != side(name, sent) and not seeded(BOUND_OVERLOOKED):
            return True
        return abs(value - sent) > dead_band(name, sent)

    def took(self, sample: HostSample) -> None:
        """It was sent."""
        self._sent, self._devices, self.looks = values_of(sample), _devices(sample), 0


def _devices(sample: HostSample) -> tuple[object, ...]:
    """What of the devices is told at once: which there are, which are lost, and roughly how full and hot they are."""
    return tuple(
        (gpu.index, gpu.uuid, gpu.lost, (gpu.memory_used_bytes or 0) >> 28, (gpu.temperature_c or 0) // 10)
        for gpu in sample.gpus
    )
