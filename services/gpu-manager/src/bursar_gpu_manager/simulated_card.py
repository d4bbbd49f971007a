"""One simulated card: who has how much of its memory, how hot it gets, and how fast its memory can be read.

Heat: with its power P the card moves towards ambient + P * `RISE` with a time constant of `TAU_MS`. Where it slows down
it halves its clock and its power, until it is `COOL_BY` below; that is a thermal reason for low clocks.

Bandwidth: each process wants so many GB a second of the memory's; when together they want more than there is, each
gets its share, and the rest of its time it waits. A process that has said nothing of what it does keeps the card as
busy as the part of the memory that it has.

Memory that a process had comes back when it ends, or later (a real driver takes a moment): until then it is in use and
nobody's.

Everything is whole numbers and depends on nothing but what was asked before: no clock, no randomness.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bursar_gpu_manager.port import Card, Sensors, Topology
from bursar_gpu_manager.profiles import Profile

AMBIENT: Final = 30_000
"""Thousandths of a degree Celsius."""
RISE: Final = 55_000
"""Thousandths of a degree at the power limit."""
TAU_MS: Final = 20_000
COOL_BY: Final = 3
NEAR_LIMIT: Final = 98
"""Per cent of the power limit from which on the power is what keeps the clocks low."""


class Work(NamedTuple):
    """What a process does: ``sm`` per cent of the multiprocessors, ``bandwidth`` in GB/s of the memory."""

    sm: int
    bandwidth: int


class SimulatedDevice:
    """``memory``: bytes by pid; ``leaving``: [(ms, bytes)] that nobody has any more and that are not free before."""

    def __init__(self, card: Card, profile: Profile, peers: tuple[str, ...] = ()) -> None:
        self.card = card
        self.profile = profile
        self.peers = peers
        self.total = profile.total
        self.reserved = profile.reserved
        self.memory: dict[int, int] = {}
        self.works: dict[int, Work] = {}
        self.leaving: list[tuple[int, int]] = []
        self.lost = False
        self.accounting = True
        self.tells_use = True
        self.tells_list = True
        self.failing = 0
        self.most_used = 0
        self.ambient = AMBIENT
        self.heat = 35_000
        self.is_slow = False
        self.now = 0

    # ---- memory

    @property
    def used(self) -> int:
        return sum(self.memory.values()) + sum(size for _, size in self.leaving)

    @property
    def free(self) -> int:
        return self.total - self.reserved - self.used

    def drop(self, pid: int, lag_ms: int) -> None:
        """The process has ended; its memory is free after ``lag_ms``."""
        size = self.memory.pop(pid, 0)
        self.works.pop(pid, None)
        if size and lag_ms:
            self.leaving.append((self.now + lag_ms, size))

    def clear(self) -> None:
        self.memory.clear()
        self.works.clear()
        self.leaving.clear()

    # ---- work

    @property
    def busy(self) -> int:
        """Per cent of the multiprocessors' time."""
        return min(100, sum(self._work(pid).sm for pid in self.memory))

    @property
    def wanted(self) -> int:
        """GB/s that all processes together want of the memory."""
        return sum(self._work(pid).bandwidth for pid in self.memory)

    @property
    def dram(self) -> int:
        """Per cent of the memory's bandwidth that is used."""
        return min(100, 100 * self.wanted // self.profile.bandwidth)

    def _work(self, pid: int) -> Work:
        told = self.works.get(pid)
        if told is not None:
            return told
        share = 100 * self.memory.get(pid, 0) // self.total if self.total else 0
        return Work(share, self.profile.bandwidth * share // 200)

    def pace(self) -> int:
        """At how many thousandths of its speed a process runs that would have the card for itself."""
        wanted = self.wanted
        pace = 1_000 if wanted <= self.profile.bandwidth else 1_000 * self.profile.bandwidth // wanted
        return pace // 2 if self.is_slow else pace

    # ---- heat

    @property
    def power_mw(self) -> int:
        span = self.profile.limit_mw - self.profile.idle_mw
        power = span * max(self.busy, self.dram) // 100
        return self.profile.idle_mw + (power // 2 if self.is_slow else power)

    @property
    def temperature(self) -> int:
        return self.heat // 1_000

    def advance(self, ms: int) -> None:
        self.now += ms
        self.leaving = [(at, size) for at, size in self.leaving if at > self.now]
        target = self.ambient + RISE * self.power_mw // self.profile.limit_mw
        self.heat += (target - self.heat) * min(ms, TAU_MS) // TAU_MS
        limit = self.profile.slowdown_at
        self.is_slow = self.temperature >= (limit - COOL_BY if self.is_slow else limit)

    # ---- what the driver tells

    def sensors(self) -> Sensors:
        profile, power = self.profile, self.power_mw
        told = Sensors(
            utilisation=self.busy,
            temperature=self.temperature,
            power_mw=power,
            memory_utilisation=self.busy,
            sm_activity=self.busy,
            dram_activity=self.dram,
            memory_temperature=self.temperature + 10,
            slowdown_at=profile.slowdown_at,
            margin=profile.slowdown_at - self.temperature,
            power_limit_mw=profile.limit_mw,
            clock_mhz=900 if self.is_slow else 1_800,
            memory_clock_mhz=2_600,
            throttle=self._throttle(power),
            pcie_tx=self.wanted * 10**6,
            pcie_rx=self.wanted * 10**6,
        )
        return told._replace(**dict.fromkeys(profile.untold))

    def _throttle(self, power: int) -> tuple[str, ...]:
        if self.is_slow:
            return ("thermal_hardware",)
        if not self.memory:
            return ("idle",)
        return ("power_cap",) if power >= self.profile.limit_mw * NEAR_LIMIT // 100 else ()

    def topology(self) -> Topology:
        profile = self.profile
        node = self.card.index // profile.node if profile.node else None
        return Topology(
            numa_node=node,
            cpus=None if node is None else f"{node * 32}-{node * 32 + 31}",
            bus_id=f"0000:{0x10 + self.card.index:02x}:00.0",
            pcie_generation=profile.pcie[0],
            pcie_width=profile.pcie[1],
            links=self.peers if profile.is_linked else () if profile.node else None,
            divided=bool(self.card.parent) if profile.parts else None,
        )
