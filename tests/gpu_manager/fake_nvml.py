"""A stand-in for pynvml: the functions that the adapter calls, and what a driver may do to them."""

# ruff: noqa: N802 - the names are NVML's

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

MIB = 1024**2
NOT_SUPPORTED = 3
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class FakeNvml:
    """``fails``: codes by name of the function, or of ``function:index`` for one card."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED = NOT_SUPPORTED
    NVML_ERROR_GPU_IS_LOST = GPU_IS_LOST
    NVML_ERROR_RESET_REQUIRED = 16
    NVML_TEMPERATURE_GPU = 0
    nvmlMemory_v2 = 0x02000028  # noqa: N815 - NVML's own name

    def __init__(self, cards: int = 2) -> None:
        self.count = cards
        self.fails: dict[str, int] = {}
        self.memory = {"total": 16_000 * MIB, "reserved": 300 * MIB, "used": 700 * MIB, "free": 15_000 * MIB}
        self.running: list[tuple[int, int | None]] = []
        self.drawing: list[tuple[int, int | None]] = []
        self.is_open = False

    def _call(self, name: str, handle: Any = None) -> None:
        for key in (name, f"{name}:{handle}"):
            if key in self.fails:
                raise NVMLError(self.fails[key])

    def nvmlInit(self) -> None:
        self._call("nvmlInit")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._call("nvmlDeviceGetHandleByIndex", index)
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return f"GPU-{handle}".encode()

    def nvmlDeviceGetName(self, handle: int) -> str:
        self._call("nvmlDeviceGetName", handle)
        return "NVIDIA Test Card"

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> Any:
        self._call("memory_v2" if version else "memory_v1", handle)
        kept = {name: value for name, value in self.memory.items() if version or name != "reserved"}
        return SimpleNamespace(**kept)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        self._call("processes", handle)
        return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in self.running]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in self.drawing]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        self._call("utilisation", handle)
        return SimpleNamespace(gpu=37, memory=11)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._call("temperature", handle)
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._call("power", handle)
        return 123_456
