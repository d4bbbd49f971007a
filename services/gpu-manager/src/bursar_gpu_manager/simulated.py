"""A host with several cards that exist only here: processes allocate and free, and fail when a card is full.

It is as strict as a driver and knows nothing of leases. So it is also the judge: an allocation that leaves less than
the reserve free is counted as a violation (``Violation``), whoever may have granted it; one that is larger than what
is free fails, and is counted too. What foreign processes do (those started as such) is not counted: nobody promised
anything about them.

Deterministic: no clock, no randomness; pids count up. All amounts are bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from bursar.contracts.gpu import DEFAULT_RESERVE
from bursar.errors import CallerError, ServiceError
from bursar_gpu_manager.port import Card, DeviceLost, Memory, ProcessUse, Sensors

GIB: Final = 1024**3
FIRST_PID: Final = 1_000
IDLE_POWER_MW: Final = 30_000


class OutOfMemory(ServiceError):
    """The card has not so much free memory, as the driver tells whoever asks for it."""

    def __init__(self, uuid: str, asked: int, free: int) -> None:
        text = f"device {uuid} has {free} bytes free, {asked} were asked for"
        super().__init__("out_of_memory", text, device=uuid, asked=asked, free=free)


class Violation(NamedTuple):
    """An allocation that left less than the reserve: bytes in use with it, and how many are allowed."""

    uuid: str
    pid: int
    used: int
    allowed: int


class SimulatedDevice:
    """One card. ``memory``: bytes by pid."""

    def __init__(self, card: Card, total: int, reserved: int = 0) -> None:
        self.card = card
        self.total = total
        self.reserved = reserved
        self.memory: dict[int, int] = {}
        self.lost = False
        self.accounting = True
        self.most_used = 0

    @property
    def used(self) -> int:
        return sum(self.memory.values())

    @property
    def free(self) -> int:
        return self.total - self.reserved - self.used


class SimulatedHost:
    """A `DevicePort`. ``reserve``: what the judge wants to be left free on each card."""

    def __init__(self, name: str, devices: Sequence[SimulatedDevice], reserve: int = DEFAULT_RESERVE) -> None:
        self.name = name
        self.reserve = reserve
        self.devices = {device.card.uuid: device for device in devices}
        self.foreign: set[int] = set()
        self.started: dict[int, int] = {}
        self.violations: list[Violation] = []
        self.out_of_memory = 0
        self.allocations = 0
        self._pids = FIRST_PID

    # ---- what processes do

    def start(self, *, foreign: bool = False) -> tuple[int, int]:
        """A new process: its pid and start (ticks)."""
        self._pids += 1
        pid = self._pids
        self.started[pid] = zlib.crc32(self.name.encode()) + pid  # no process of another host
        if foreign:
            self.foreign.add(pid)
        return (pid, self.started[pid])

    def allocate(self, pid: int, uuid: str, size: int) -> None:
        """Raises `OutOfMemory`, `DeviceLost`, or `CallerError` (no such process, device or amount)."""
        device = self._device(uuid)
        if pid not in self.started or size < 0:
            raise CallerError("unknown_process", f"there is no process {pid}", pid=pid)
        if size > device.free:
            self.out_of_memory += 1
            raise OutOfMemory(uuid, size, device.free)
        device.memory[pid] = device.memory.get(pid, 0) + size
        device.most_used = max(device.most_used, device.used)
        self.allocations += 1
        allowed = device.total - device.reserved - self.reserve
        if device.used > allowed and pid not in self.foreign and size:
            self.violations.append(Violation(uuid, pid, device.used, allowed))

    def free(self, pid: int, uuid: str, size: int) -> None:
        """Give back some of a process's memory; more than it has is all."""
        device = self._device(uuid)
        left = device.memory.get(pid, 0) - size
        if left > 0:
            device.memory[pid] = left
        else:
            device.memory.pop(pid, None)

    def exit(self, pid: int) -> None:
        """The process ends, killed or not: the driver takes its memory back."""
        for device in self.devices.values():
            device.memory.pop(pid, None)
        self.foreign.discard(pid)
        self.started.pop(pid, None)

    # ---- what befalls cards

    def lose(self, uuid: str) -> None:
        """The card falls off the bus; what was in its memory is gone."""
        device = self.devices[uuid]
        device.lost = True
        device.memory.clear()

    def restore(self, uuid: str) -> None:
        self.devices[uuid].lost = False

    def hide_processes(self, uuid: str) -> None:
        """From now on the driver of this card cannot tell which process uses how much."""
        self.devices[uuid].accounting = False

    # ---- the port

    def cards(self) -> Sequence[Card]:
        return [device.card for device in self.devices.values()]

    def memory(self, uuid: str) -> Memory:
        device = self._device(uuid)
        return Memory(device.total, device.reserved, device.used, device.free)

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        device = self._device(uuid)
        return [ProcessUse(pid, self.started[pid], memory if device.accounting else None)
                for pid, memory in device.memory.items()]  # fmt: skip

    def sensors(self, uuid: str) -> Sensors:
        device = self._device(uuid)
        busy = 100 * device.used // device.total if device.total else 0
        return Sensors(busy, 35 + busy // 4, IDLE_POWER_MW + 2_000 * busy)

    def close(self) -> None:
        """Nothing is held open."""

    def _device(self, uuid: str) -> SimulatedDevice:
        device = self.devices.get(uuid)
        if device is None:
            raise CallerError("unknown_device", f"there is no device {uuid} on {self.name}", device=uuid)
        if device.lost:
            raise DeviceLost(uuid)
        return device


def simulated_host(name: str, what: str, reserve: int = DEFAULT_RESERVE) -> SimulatedHost:
    """A host by a few words: ``"4x24GiB"``, ``"80GiB"``, ``"2x512MiB"``, or several joined by ``+``.

    Raises `CallerError` when it cannot be read.
    """
    devices: list[SimulatedDevice] = []
    for part in what.replace(" ", "").split("+"):
        found = re.fullmatch(r"(?:(\d{1,2})x)?(\d{1,6})([GM]i?B?)", part, re.IGNORECASE)
        count = int(found[1] or 1) if found else 0
        if found is None or not 1 <= count <= 16 - len(devices):
            raise CallerError("bad_request", f"cannot read {part!r}: say 4x24GiB, at most 16 devices in all")
        total = int(found[2]) * (GIB if found[3][0] in "gG" else 1024**2)
        for _ in range(count):
            index = len(devices)
            devices.append(
                SimulatedDevice(Card(f"SIM-{name}-{index}", index, f"Simulated {found[2]}{found[3]}"), total)
            )
    return SimulatedHost(name, devices, reserve)
