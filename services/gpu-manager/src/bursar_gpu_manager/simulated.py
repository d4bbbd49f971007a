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
from bursar_gpu_manager.port import Card, DeviceLost, Memory, ProcessUse, Sensors, Topology
from bursar_gpu_manager.profiles import PROFILES, Profile, plain
from bursar_gpu_manager.simulated_card import SimulatedDevice, Work

GIB: Final = 1024**3
FIRST_PID: Final = 1_000


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
        self._check(pid, size)
        if size > device.free or device.failing > 0:
            device.failing = max(0, device.failing - 1)
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
            device.drop(pid, 0)

    def work(self, pid: int, uuid: str, sm: int, bandwidth: int) -> None:
        """From now on the process uses so much of the card: per cent of the multiprocessors, GB/s of the memory."""
        device = self._device(uuid)
        self._check(pid, min(sm, bandwidth))
        device.works[pid] = Work(min(100, sm), bandwidth)

    def exit(self, pid: int, lag_ms: int = 0) -> None:
        """The process ends, killed or not: the driver takes its memory back, after ``lag_ms``."""
        for device in self.devices.values():
            device.drop(pid, lag_ms)
        self.foreign.discard(pid)
        self.started.pop(pid, None)

    def kill(self, pid: int, started: int) -> bool:
        """End a process if it is this one; whether it was."""
        if self.started.get(pid) != started:
            return False
        self.exit(pid)
        return True

    def is_alive(self, pid: int, started: int) -> bool:
        return self.started.get(pid) == started

    def _check(self, pid: int, amount: int) -> None:
        if pid not in self.started or amount < 0:
            raise CallerError("unknown_process", f"there is no process {pid}", pid=pid)

    # ---- what befalls cards

    def lose(self, uuid: str) -> None:
        """The card falls off the bus; what was in its memory is gone."""
        device = self.devices[uuid]
        device.lost = True
        device.clear()

    def restore(self, uuid: str) -> None:
        self.devices[uuid].lost = False

    def hide_processes(self, uuid: str) -> None:
        """From now on the driver of this card cannot tell which process uses how much."""
        self.devices[uuid].accounting = False

    def hide_list(self, uuid: str, *, hidden: bool = True) -> None:
        """From now on the driver of this card cannot tell which processes there are."""
        self.devices[uuid].tells_list = not hidden

    def hide_use(self, uuid: str, *, hidden: bool = True) -> None:
        """From now on the driver of this card cannot tell how much is in use."""
        self.devices[uuid].tells_use = not hidden

    def fail_next(self, uuid: str, times: int = 1) -> None:
        """The next allocations on the card fail, though there is room: as with memory in pieces."""
        self.devices[uuid].failing += times

    def divide(self, uuid: str, parts: int) -> list[str]:
        """Cut an empty card into equal parts, which show up in its place; their uuids. Raises `CallerError`."""
        whole = self._device(uuid)
        profile = whole.profile
        if whole.memory or not 1 <= parts <= profile.parts:
            raise CallerError("cannot_divide", f"device {uuid} is in use, or has at most {profile.parts} parts")
        part = profile._replace(
            model=f"{profile.model} 1/{parts}", total=profile.total // parts, reserved=profile.reserved // parts,
            bandwidth=profile.bandwidth // parts, untold=profile.untold | {"utilisation"},
        )  # fmt: skip
        del self.devices[uuid]
        for number in range(parts):
            card = Card(f"MIG-{uuid}-{number}", whole.card.index, part.model, uuid)
            self.devices[card.uuid] = SimulatedDevice(card, part)
        return [f"MIG-{uuid}-{number}" for number in range(parts)]

    # ---- the port

    def cards(self) -> Sequence[Card]:
        return [device.card for device in self.devices.values()]

    def memory(self, uuid: str) -> Memory:
        device = self._device(uuid)
        if not device.tells_use:
            return Memory(device.total, device.reserved, None, None)
        return Memory(device.total, device.reserved, device.used, device.free)

    def processes(self, uuid: str) -> Sequence[ProcessUse] | None:
        device = self._device(uuid)
        if not device.tells_list:
            return None
        return [ProcessUse(pid, self.started[pid], memory if device.accounting else None)
                for pid, memory in device.memory.items()]  # fmt: skip

    def sensors(self, uuid: str) -> Sensors:
        return self._device(uuid).sensors()

    def topology(self, uuid: str) -> Topology:
        return self._device(uuid).topology()

    def advance(self, ms: int) -> None:
        """Time passes: cards get warmer or cooler, and what ended processes had becomes free."""
        for device in self.devices.values():
            device.advance(ms)

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
    """A host by a few words: sizes or kinds of `profiles`, as ``"4x24GiB"``, ``"80GiB"``, ``"RTX4070"``,
    ``"8xH100"``, or several joined by ``+``.

    Raises `CallerError` when it cannot be read.
    """
    profiles: list[Profile] = []
    for part in what.replace(" ", "").split("+"):
        count, profile = _read(part)
        if profile is None or not 1 <= count <= 16 - len(profiles):
            text = f"cannot read {part!r}: say 4x24GiB, or 8xH100 ({', '.join(PROFILES)}); at most 16 devices in all"
            raise CallerError("bad_request", text)
        profiles += [profile] * count
    uuids = [f"SIM-{name}-{index}" for index in range(len(profiles))]
    cards = [Card(uuid, index, profiles[index].model) for index, uuid in enumerate(uuids)]
    return SimulatedHost(name, [_device(card, cards, profiles) for card in cards], reserve)


def _read(part: str) -> tuple[int, Profile | None]:
    found = re.fullmatch(r"(?:(\d{1,2})x)?(?:(\d{1,6})([GM])i?B?|([A-Z][A-Z0-9]{1,11}))", part, re.IGNORECASE)
    if found is None:
        return 0, None
    count = int(found[1] or 1)
    if found[4]:
        return count, PROFILES.get(found[4].lower())
    unit = GIB if found[3] in "gG" else 1024**2
    return count, plain(part.rpartition("x")[2], int(found[2]) * unit)


def _device(card: Card, cards: list[Card], profiles: list[Profile]) -> SimulatedDevice:
    profile = profiles[card.index]
    peers = [other.uuid for other in cards if other is not card and profiles[other.index] is profile]
    return SimulatedDevice(card, profile, tuple(peers) if profile.is_linked else ())
