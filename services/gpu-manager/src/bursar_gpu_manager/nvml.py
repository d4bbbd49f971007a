"""NVIDIA's cards by NVML (``nvidia-ml-py``), which is imported only when it is used.

Each call may be unsupported on some card or driver; then the answer is None, unknown. A card that does not answer any
more raises `DeviceLost` and stays in the list. Memory is read by version 2 of the call, which tells what the driver
keeps for itself; whether its ``used`` includes that differs between drivers, so it is found out by adding up. MIG and
performance counters are not read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from bursar_gpu_manager.port import Card, DeviceLost, Memory, NoDevices, ProcessUse, Sensors

T = TypeVar("T")

SLACK: Final = 16 * 1024**2
"""Bytes by which the parts of the memory may miss the total: drivers round."""

TEMPERATURE_GPU: Final = 0


class Nvml:
    """The `DevicePort` of NVIDIA. ``library``: the module, for tests. Raises `NoDevices` without a driver or card."""

    def __init__(self, library: Any = None, proc: Path = Path("/proc")) -> None:
        try:
            self._nvml: Any = library or importlib.import_module("pynvml")
        except ImportError as error:
            raise NoDevices("nvidia-ml-py is not installed") from error
        self._proc = proc
        self._handles: dict[str, Any] = {}
        self._known: dict[str, Card] = {}
        gone = ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_GPU_NOT_FOUND")
        self._gone = frozenset(code for name in gone if (code := getattr(self._nvml, name, None)) is not None)
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise NoDevices(f"NVML does not start: {error}") from error

    def cards(self) -> Sequence[Card]:
        """Those that answer, and those that once did."""
        count = self._ask(self._nvml.nvmlDeviceGetCount) or 0
        found = {card.uuid: card for index in range(count) if (card := self._card(index)) is not None}
        self._known |= found
        return sorted(self._known.values(), key=lambda card: card.index)

    def _card(self, index: int) -> Card | None:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
            model = self._ask(self._nvml.nvmlDeviceGetName, handle)
        except (self._nvml.NVMLError, DeviceLost):
            return None
        self._handles[uuid] = handle
        return Card(uuid, index, _text(model or ""))

    def memory(self, uuid: str) -> Memory:
        handle = self._handle(uuid)
        nvml = self._nvml
        version = getattr(nvml, "nvmlMemory_v2", None)
        told = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle, version, lost=uuid) if version is not None else None
        if told is None:
            told = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle, lost=uuid)
        if told is None:
            return Memory(0, 0, None, None)
        return _memory(int(told.total), int(getattr(told, "reserved", 0)), int(told.used), int(told.free))

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        """Computing and drawing processes; one that is in both lists counts once, with the larger figure."""
        handle = self._handle(uuid)
        found: dict[int, int | None] = {}
        for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            call = getattr(self._nvml, name, None)
            rows = [] if call is None else self._ask(call, handle, lost=uuid) or []
            for row in rows:
                memory = None if row.usedGpuMemory is None else int(row.usedGpuMemory)
                before = found.get(int(row.pid))
                found[int(row.pid)] = memory if before is None else max(before, memory or 0)
        return [ProcessUse(pid, started_at(pid, self._proc), memory) for pid, memory in found.items()]

    def sensors(self, uuid: str) -> Sensors:
        handle, nvml = self._handle(uuid), self._nvml
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle, lost=uuid)
        kind = getattr(nvml, "NVML_TEMPERATURE_GPU", TEMPERATURE_GPU)
        temperature = self._ask(nvml.nvmlDeviceGetTemperature, handle, kind, lost=uuid)
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, handle, lost=uuid)
        return Sensors(
            None if rates is None else int(rates.gpu),
            None if temperature is None else int(temperature),
            None if power is None else int(power),
        )

    def close(self) -> None:
        self._ask(self._nvml.nvmlShutdown)

    def _handle(self, uuid: str) -> Any:
        handle = self._handles.get(uuid)
        if handle is None:
            raise DeviceLost(uuid)
        return handle

    def _ask(self, call: Callable[..., T], *arguments: Any, lost: str = "") -> T | None:
        """None when the card, the driver or the library does not offer this, or not now."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError as error:
            if lost and getattr(error, "value", None) in self._gone:
                raise DeviceLost(lost) from error
            return None


def _memory(total: int, reserved: int, used: int, free: int) -> Memory:
    """``used`` without ``reserved``, whichever way the driver counts; the larger figure when neither adds up."""
    if abs(total - used - free - reserved) <= SLACK:
        return Memory(total, reserved, used, free)
    if abs(total - used - free) <= SLACK and used >= reserved:
        return Memory(total, reserved, used - reserved, free)
    return Memory(total, reserved, max(used, total - reserved - free), free)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def started_at(pid: int, proc: Path = Path("/proc")) -> int | None:
    """When a process started, in ticks since the machine did (Linux); None when that is not known."""
    try:
        stat = (proc / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
