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
    """``fails``: codes by name of the function, or of ``function:index`` for one card. ``lost``: cards that answer
    nothing. ``parts``: how many a card is divided into, numbered from ``first`` on. ``switched``: cards whose links go
    to a switch."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED = NOT_SUPPORTED
    NVML_ERROR_GPU_IS_LOST = GPU_IS_LOST
    NVML_ERROR_RESET_REQUIRED = 16
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    NVML_FI_DEV_MEMORY_TEMP = 82
    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_PCIE_UTIL_TX_BYTES = 0
    NVML_PCIE_UTIL_RX_BYTES = 1
    nvmlMemory_v2 = 0x02000028  # noqa: N815 - NVML's own name

    def __init__(self, cards: int = 2) -> None:
        self.count = cards
        self.fails: dict[str, int] = {}
        self.memory = {"total": 16_000 * MIB, "reserved": 300 * MIB, "used": 700 * MIB, "free": 15_000 * MIB}
        self.running: list[tuple[int, int | None]] = []
        self.drawing: list[tuple[int, int | None]] = []
        self.is_open = False
        self.bits = 0x4 | 0x40
        self.parts: dict[int, int] = {}
        self.first = 0
        self.switched: set[int] = set()
        self.samples = 0
        self.lost: set[int] = set()
        self.asked: list[str] = []

    def _call(self, name: str, handle: Any = None) -> None:
        self.asked.append(name)
        if handle in self.lost:
            raise NVMLError(GPU_IS_LOST)
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
        return (f"MIG-{handle}" if handle >= 100 else f"GPU-{handle}").encode()

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

    # ---- what not every card offers

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        self._call("power_limit", handle)
        return 700_000

    def nvmlDeviceGetTemperatureThreshold(self, handle: int, threshold: int) -> int:
        self._call("threshold", handle)
        return 87

    def nvmlDeviceGetMarginTemperature(self, handle: int) -> int:
        self._call("margin", handle)
        return 25

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[int]) -> list[Any]:
        self._call("memory_temperature", handle)
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=70)) for _ in fields]

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        self._call("clocks", handle)
        return {1: 1_980, 2: 1_593}[kind]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        self._call("throttle", handle)
        return self.bits

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        self._call("throttle_before_535", handle)
        return self.bits

    def nvmlDeviceGetPcieThroughput(self, handle: int, counter: int) -> int:
        self._call("pcie", handle)
        return 5 + counter

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        self._call("bus", handle)
        return SimpleNamespace(busId=f"00000000:{0x17 + handle:02X}:00.0".encode())

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: int) -> int:
        self._call("generation", handle)
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: int) -> int:
        self._call("width", handle)
        return 16

    def nvmlDeviceGetNumaNodeId(self, handle: int) -> int:
        self._call("node", handle)
        return 1

    def nvmlDeviceGetMemoryAffinity(self, handle: int, size: int, scope: int) -> list[int]:
        self._call("affinity", handle)
        return [0b10, *[0] * (size - 1)]

    def nvmlDeviceGetCpuAffinityWithinScope(self, handle: int, size: int, scope: int) -> list[int]:
        self._call("cpus", handle)
        return [0xFFFF, 0b1, *[0] * (size - 2)]

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:
        self._call("links", handle)
        return int(link < 2)

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> Any:
        return self.nvmlDeviceGetPciInfo((handle + 1) % self.count)

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: int, link: int) -> int:
        return 2 if handle in self.switched else 0

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        self._call("mig", handle)
        return [int(handle in self.parts)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, index: int) -> int:
        if index >= self.parts[handle]:
            raise NVMLError(6)
        return 100 * (handle + 1) + self.first + index

    def nvmlGpmQueryDeviceSupport(self, handle: int) -> Any:
        self._call("gpm", handle)
        return SimpleNamespace(isSupportedDevice=1)

    def nvmlGpmSampleAlloc(self) -> Any:
        self.samples += 1
        return SimpleNamespace(at=0)

    def nvmlGpmSampleFree(self, sample: Any) -> None:
        self.samples -= 1

    def nvmlGpmSampleGet(self, handle: int, sample: Any) -> Any:
        self._call("sample", handle)
        return sample

    class c_nvmlGpmMetricsGet_t:  # noqa: N801
        def __init__(self) -> None:
            self.metrics = [SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(4)]
            self.numMetrics = self.version = 0
            self.sample1 = self.sample2 = None

    def nvmlGpmMetricsGet(self, wanted: Any) -> Any:
        self._call("metrics")
        assert wanted.sample1 is not wanted.sample2
        for metric in wanted.metrics[: wanted.numMetrics]:
            metric.value = {2: 61.4, 10: 88.6}[metric.metricId]
        return wanted


OPTIONAL = (
    "power", "power_limit", "threshold", "margin", "memory_temperature", "clocks", "throttle", "throttle_before_535",
    "pcie", "bus", "generation", "width", "node", "affinity", "cpus", "links", "mig", "gpm", "utilisation",
    "temperature",
)  # fmt: skip
"""Names of the calls that a small or old card may not offer."""
