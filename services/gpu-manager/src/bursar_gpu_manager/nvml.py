"""NVIDIA's cards by NVML (``nvidia-ml-py``), which is imported only when it is used.

Each call may be unsupported on some card or driver; then the answer is None, unknown. A card that does not answer any
more raises `DeviceLost` and stays in the list. Memory is read by version 2 of the call, which tells what the driver
keeps for itself; whether its ``used`` includes that differs between drivers, so it is found out by adding up. A card
that is divided (MIG) shows up as its parts. What else is asked, and how: `nvml_reading`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from bursar_gpu_manager.nvml_reading import Reader, text
from bursar_gpu_manager.port import Card, DeviceLost, Memory, NoDevices, ProcessUse, Sensors, Topology

SLACK: Final = 16 * 1024**2
"""Bytes by which the parts of the memory may miss the total: drivers round."""

TOPOLOGY_EVERY: Final = 120
"""Looks after which it is asked again where a card sits: links go down."""


class Nvml:
    """The `DevicePort` of NVIDIA. ``library``: the module, for tests. Raises `NoDevices` without a driver or card."""

    def __init__(self, library: Any = None, proc: Path = Path("/proc")) -> None:
        try:
            self._nvml: Any = library or importlib.import_module("pynvml")
        except ImportError as error:
            raise NoDevices("nvidia-ml-py is not installed") from error
        self._proc = proc
        self._readers: dict[str, Reader] = {}
        self._known: dict[str, Card] = {}
        self._topologies: dict[str, tuple[int, Topology]] = {}
        self._is_open = True
        gone = ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_GPU_NOT_FOUND")
        self._gone = frozenset(code for name in gone if (code := getattr(self._nvml, name, None)) is not None)
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise NoDevices(f"NVML does not start: {error}") from error

    # ---- which cards there are

    def cards(self) -> Sequence[Card]:
        """Those that answer, and those that once did; instead of a divided card its parts. What is divided otherwise
        now, or has another card in its place, is not there any more."""
        count = self._ask("nvmlDeviceGetCount") or 0
        answers = {index: cards for index in range(count) if (cards := self._at(index)) is not None}
        silent = {uuid: card for uuid, card in self._known.items() if card.index not in answers}
        self._known = silent | {card.uuid: card for cards in answers.values() for card in cards}
        for uuid in self._readers.keys() - self._known.keys():
            self._readers.pop(uuid).counters.close(self._ask)
        return sorted(self._known.values(), key=lambda card: (card.index, card.uuid))

    def _at(self, index: int) -> list[Card] | None:
        """None: it does not answer. A card that could be divided, and is not yet, is none that anybody can use."""
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = text(self._nvml.nvmlDeviceGetUUID(handle))
            model = text(self._ask("nvmlDeviceGetName", handle) or "")
        except (self._nvml.NVMLError, DeviceLost):
            return None
        mode = self._ask("nvmlDeviceGetMigMode", handle)
        if mode is not None and mode[0]:
            return self._parts(handle, Card(uuid, index, model))
        return [self._keep(handle, handle, Card(uuid, index, model))]

    def _parts(self, whole: Any, card: Card) -> list[Card]:
        parts = []
        for number in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", whole) or 0):
            handle = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", whole, number)
            uuid = None if handle is None else self._ask("nvmlDeviceGetUUID", handle)
            if uuid is not None:
                model = text(self._ask("nvmlDeviceGetName", handle) or card.model)
                parts.append(self._keep(handle, whole, Card(text(uuid), card.index, model, card.uuid)))
        return parts

    def _keep(self, handle: Any, whole: Any, card: Card) -> Card:
        reader = self._readers.get(card.uuid)
        if reader is None:
            ask = partial(self._ask, lost=card.uuid)
            self._readers[card.uuid] = Reader(self._nvml, ask, handle, whole, len(self._readers))
        else:
            reader.handle, reader.whole = handle, whole
        return card

    # ---- one card

    def memory(self, uuid: str) -> Memory:
        handle = self._reader(uuid).handle
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        told = None if version is None else self._ask("nvmlDeviceGetMemoryInfo", handle, version, lost=uuid)
        if told is None:
            told = self._ask("nvmlDeviceGetMemoryInfo", handle, lost=uuid)
        if told is None:
            return Memory(None, None, None, None)
        reserved = getattr(told, "reserved", None)
        return _memory(int(told.total), None if reserved is None else int(reserved), int(told.used), int(told.free))

    def processes(self, uuid: str) -> Sequence[ProcessUse] | None:
        """Computing and drawing processes; one that is in both lists counts once, with the larger figure. Without the
        list of those that compute nothing is known."""
        handle = self._reader(uuid).handle
        computing = self._ask("nvmlDeviceGetComputeRunningProcesses", handle, lost=uuid)
        if computing is None:
            return None
        found: dict[int, int | None] = {}
        for row in [*computing, *(self._ask("nvmlDeviceGetGraphicsRunningProcesses", handle, lost=uuid) or [])]:
            memory = None if row.usedGpuMemory is None else int(row.usedGpuMemory)
            before = found.get(int(row.pid))
            found[int(row.pid)] = memory if before is None else max(before, memory or 0)
        return [ProcessUse(pid, started_at(pid, self._proc), memory) for pid, memory in found.items()]

    def sensors(self, uuid: str) -> Sensors:
        return self._reader(uuid).sensors()

    def topology(self, uuid: str) -> Topology:
        reader = self._reader(uuid)
        left, known = self._topologies.get(uuid, (0, Topology()))
        if left == 0:
            others = tuple(other for other, one in self._readers.items() if other != uuid and one.is_switched())
            known, left = reader.topology(self._bus_ids(), others), TOPOLOGY_EVERY
        self._topologies[uuid] = (left - 1, known)
        return known

    def _bus_ids(self) -> dict[str, str]:
        told = {uuid: self._ask("nvmlDeviceGetPciInfo", reader.whole) for uuid, reader in self._readers.items()}
        return {text(info.busId).lower(): uuid for uuid, info in told.items() if info is not None}

    def advance(self, ms: int) -> None:
        """Their time is the machine's."""

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            for reader in self._readers.values():
                reader.counters.close(self._ask)
            self._ask("nvmlShutdown")

    # ---- asking

    def _reader(self, uuid: str) -> Reader:
        reader = self._readers.get(uuid)
        if reader is None:
            raise DeviceLost(uuid)
        return reader

    def _ask(self, name: str, *arguments: Any, lost: str = "") -> Any:
        """None when the card, the driver or the library does not offer this, or not now."""
        call = getattr(self._nvml, name, None)
        if call is None:
            return None
        try:
            return call(*arguments)
        except self._nvml.NVMLError as error:
            if lost and getattr(error, "value", None) in self._gone:
                raise DeviceLost(lost) from error
            return None


def _memory(total: int, reserved: int | None, used: int, free: int) -> Memory:
    """``used`` without ``reserved``, whichever way the driver counts; the larger figure when neither adds up."""
    if reserved is None:
        return Memory(total, None, max(used, total - free), free)
    if abs(total - used - free - reserved) <= SLACK:
        return Memory(total, reserved, used, free)
    if abs(total - used - free) <= SLACK and used >= reserved:
        return Memory(total, reserved, used - reserved, free)
    return Memory(total, reserved, max(used, total - reserved - free), free)


def started_at(pid: int, proc: Path = Path("/proc")) -> int | None:
    """When a process started, in ticks since the machine did (Linux); None when that is not known."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
