"""What NVML is asked of one card beyond its memory: each call may be unsupported, and then its answer is None.

``ask`` calls a function of the library and makes None of "not supported"; the library is whatever module has NVML's
names. How the pieces were chosen:

- The margin to the slowdown is asked for first: the absolute threshold is deprecated from Ada on. Where only one of
  the two is told, the other follows from the temperature.
- Low clocks have reasons as bits; a power cap is none of heat.
- The traffic on PCIe is measured by the driver while the caller waits, 20 ms for each direction: so it is asked for
  rarely, and remembered.
- Activity of the memory comes from performance counters (GPM, Hopper and later) as the difference of two samples; the
  ``utilization.memory`` that all cards have is a share of time, and no sign of saturation.
- Where cards are linked by switches, the other end of a link is no card: those that have a link to a switch are linked
  to one another.
- The node of a card's own memory (``GetNumaNodeId``) is known on coherent machines only; elsewhere the set of nodes
  near the card is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bursar_gpu_manager.port import Sensors, Topology

Ask = Callable[..., Any]
"""ask(name of the function, *arguments) -> its answer, or None."""

SLOW_EVERY: Final = 20
"""Looks between two measurements of the traffic on PCIe."""

CPU_WORDS: Final = 16
NODE_WORDS: Final = 4
LINKS: Final = 18
SWITCH: Final = 2
"""What the library calls a switch at the other end of a link."""

THROTTLE_BITS: Final = (
    (0x1, "idle"), (0x2, "clocks"), (0x4, "power_cap"), (0x8, "hardware"), (0x10, "sync"), (0x20, "thermal_software"),
    (0x40, "thermal_hardware"), (0x80, "power_brake"), (0x100, "clocks"),
)  # fmt: skip
KNOWN_BITS: Final = 0x1FF

SM_UTIL, DRAM_BW_UTIL = 2, 10
"""Numbers of two GPM metrics."""


def throttle_of(bits: int) -> tuple[str, ...]:
    """Names of the reasons, each once; bits that are not known together as ``other``."""
    names = [name for bit, name in THROTTLE_BITS if bits & bit]
    if bits & ~KNOWN_BITS:
        names.append("other")
    return tuple(dict.fromkeys(names))


def cpu_list(words: list[int]) -> str:
    """A mask of CPUs, lowest word first, as ``0-15,32``."""
    mask = sum(word << 64 * number for number, word in enumerate(words))
    parts, start = [], -1
    for bit in range(mask.bit_length() + 1):
        is_set = bool(mask >> bit & 1)
        if is_set and start < 0:
            start = bit
        elif not is_set and start >= 0:
            parts.append(str(start) if start == bit - 1 else f"{start}-{bit - 1}")
            start = -1
    return ",".join(parts)


class Counters:
    """GPM of one card: two samples by turns. ``supported`` None: not asked yet."""

    def __init__(self) -> None:
        self.supported: bool | None = None
        self.samples: list[Any] = []

    def read(self, nvml: Any, ask: Ask, handle: Any) -> tuple[int | None, int | None]:
        """(SM activity, DRAM activity) in per cent since the last call; None until there are two samples."""
        if self.supported is None:
            told = ask("nvmlGpmQueryDeviceSupport", handle)
            self.supported = told is not None and bool(told.isSupportedDevice)
        if not self.supported:
            return None, None
        sample = self.samples.pop(0) if len(self.samples) == 2 else ask("nvmlGpmSampleAlloc")
        if sample is None:
            return None, None
        if ask("nvmlGpmSampleGet", handle, sample) is None:
            ask("nvmlGpmSampleFree", sample)
            return None, None
        self.samples.append(sample)
        return self._between(nvml, ask) if len(self.samples) == 2 else (None, None)

    def _between(self, nvml: Any, ask: Ask) -> tuple[int | None, int | None]:
        wanted = nvml.c_nvmlGpmMetricsGet_t()
        wanted.version, wanted.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, 2
        wanted.sample1, wanted.sample2 = self.samples
        wanted.metrics[0].metricId, wanted.metrics[1].metricId = SM_UTIL, DRAM_BW_UTIL
        told = ask("nvmlGpmMetricsGet", wanted)
        if told is None:
            return None, None
        sm, dram = (_per_cent(metric.value) if metric.nvmlReturn == 0 else None for metric in told.metrics[:2])
        return sm, dram

    def close(self, ask: Ask) -> None:
        for sample in self.samples:
            ask("nvmlGpmSampleFree", sample)
        self.samples = []


def _per_cent(value: float) -> int | None:
    return round(min(100.0, value)) if value >= 0 else None  # not a number is not >= 0


class Reader:
    """One card's sensors. ``handle``: of the card (or part); ``whole``: of the card that has heat and power."""

    def __init__(self, nvml: Any, ask: Ask, handle: Any, whole: Any, number: int) -> None:
        self.nvml = nvml
        self.ask = ask
        self.handle = handle
        self.whole = whole
        self.counters = Counters()
        self._looks = -number  # the cards take turns at what is slow
        self._pcie: tuple[int | None, int | None] = (None, None)

    def sensors(self) -> Sensors:
        ask, whole = self.ask, self.whole
        rates = ask("nvmlDeviceGetUtilizationRates", self.handle)
        temperature, slowdown, margin = self._heat()
        sm, dram = self.counters.read(self.nvml, ask, whole) if self.handle is whole else (None, None)
        bits = ask("nvmlDeviceGetCurrentClocksEventReasons", whole)
        if bits is None:
            bits = ask("nvmlDeviceGetCurrentClocksThrottleReasons", whole)
        tx, rx = self._traffic()
        return Sensors(
            utilisation=None if rates is None else int(rates.gpu),
            temperature=temperature,
            power_mw=_whole(ask("nvmlDeviceGetPowerUsage", whole)),
            memory_utilisation=None if rates is None else int(rates.memory),
            sm_activity=sm,
            dram_activity=dram,
            memory_temperature=self._field("NVML_FI_DEV_MEMORY_TEMP"),
            slowdown_at=slowdown,
            margin=margin,
            power_limit_mw=_whole(ask("nvmlDeviceGetEnforcedPowerLimit", whole)),
            clock_mhz=_whole(ask("nvmlDeviceGetClockInfo", whole, getattr(self.nvml, "NVML_CLOCK_SM", 1))),
            memory_clock_mhz=_whole(ask("nvmlDeviceGetClockInfo", whole, getattr(self.nvml, "NVML_CLOCK_MEM", 2))),
            throttle=None if bits is None else throttle_of(int(bits)),
            pcie_tx=tx,
            pcie_rx=rx,
        )

    def _heat(self) -> tuple[int | None, int | None, int | None]:
        """Temperature, where it slows down, and how far that is away."""
        kind = getattr(self.nvml, "NVML_TEMPERATURE_GPU", 0)
        temperature = _whole(self.ask("nvmlDeviceGetTemperature", self.whole, kind))
        margin = _whole(self.ask("nvmlDeviceGetMarginTemperature", self.whole))
        threshold = getattr(self.nvml, "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN", 1)
        slowdown = _whole(self.ask("nvmlDeviceGetTemperatureThreshold", self.whole, threshold))
        if temperature is not None and margin is None and slowdown is not None:
            margin = slowdown - temperature
        elif temperature is not None and margin is not None and slowdown is None:
            slowdown = temperature + margin
        return temperature, slowdown, margin

    def _field(self, name: str) -> int | None:
        number = getattr(self.nvml, name, None)
        told = None if number is None else self.ask("nvmlDeviceGetFieldValues", self.whole, [number])
        return None if told is None or told[0].nvmlReturn != 0 else int(told[0].value.uiVal)

    def _traffic(self) -> tuple[int | None, int | None]:
        self._looks += 1
        if self._looks % SLOW_EVERY == 1:
            kinds = (getattr(self.nvml, "NVML_PCIE_UTIL_TX_BYTES", 0), getattr(self.nvml, "NVML_PCIE_UTIL_RX_BYTES", 1))
            tx, rx = (_whole(self.ask("nvmlDeviceGetPcieThroughput", self.whole, kind)) for kind in kinds)
            self._pcie = (None if tx is None else tx * 1024, None if rx is None else rx * 1024)
        return self._pcie

    def topology(self, bus_ids: dict[str, str], switched: tuple[str, ...] = ()) -> Topology:
        """``bus_ids``: the uuids of the host's cards by their place on the bus; ``switched``: the others of them that
        are linked to a switch."""
        ask, whole = self.ask, self.whole
        told = ask("nvmlDeviceGetPciInfo", whole)
        cpus = ask("nvmlDeviceGetCpuAffinityWithinScope", whole, CPU_WORDS, 0)
        mode = ask("nvmlDeviceGetMigMode", whole)
        return Topology(
            numa_node=self._node(),
            cpus=None if cpus is None else cpu_list([int(word) for word in cpus]) or None,
            bus_id=None if told is None else text(told.busId).lower(),
            pcie_generation=_whole(ask("nvmlDeviceGetCurrPcieLinkGeneration", whole)),
            pcie_width=_whole(ask("nvmlDeviceGetCurrPcieLinkWidth", whole)),
            links=self._links(bus_ids, switched),
            divided=None if mode is None else bool(mode[0]),
        )

    def _node(self) -> int | None:
        node = _whole(self.ask("nvmlDeviceGetNumaNodeId", self.whole))
        if node is not None and node >= 0:
            return node
        words = self.ask("nvmlDeviceGetMemoryAffinity", self.whole, NODE_WORDS, 0)
        mask = 0 if words is None else sum(int(word) << 64 * number for number, word in enumerate(words))
        return mask.bit_length() - 1 if mask and not mask & (mask - 1) else None

    def _links(self, bus_ids: dict[str, str], switched: tuple[str, ...]) -> tuple[str, ...] | None:
        """None when the card does not know of links at all; the parts of a divided card have none."""
        if self.handle is not self.whole:
            return ()
        states = self._link_states()
        found: dict[str, None] = {}
        for link in (number for number, state in enumerate(states) if state):
            remote = self.ask("nvmlDeviceGetNvLinkRemotePciInfo", self.whole, link)
            peer = None if remote is None else bus_ids.get(text(remote.busId).lower())
            if peer is not None:
                found[peer] = None
        if self.is_switched():
            found |= dict.fromkeys(switched)
        return tuple(found) if states else None

    def _link_states(self) -> list[int]:
        states: list[int] = []
        for link in range(LINKS):
            state = self.ask("nvmlDeviceGetNvLinkState", self.whole, link)
            if state is None:
                break
            states.append(int(state))
        return states

    def is_switched(self) -> bool:
        """Whether one of its links goes to a switch, and so to every other card that has such a link."""
        if self.handle is not self.whole:
            return False
        kinds = (self.ask("nvmlDeviceGetNvLinkRemoteDeviceType", self.whole, link)
                 for link, state in enumerate(self._link_states()) if state)  # fmt: skip
        return any(kind == SWITCH for kind in kinds)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
