"""A host's cards as the probe sees them: one small interface, in the shape of NVML, with nothing of a vendor in it.

Behind it stand NVIDIA's library (`nvml`), simulated hosts (`simulated`) and recorded ones (`replayed`); a card of
another make fits by one more adapter. What a card or driver cannot tell is None, "unknown", and never 0. Amounts are
bytes. A small card tells little: memory, processes and a temperature are enough for leases.

A card that its driver has divided shows up as its parts, each with the ``parent`` that it is a part of: a part has
memory and processes of its own, and the heat and the power of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bursar.errors import ServiceError


class NoDevices(ServiceError):
    """The host has no cards that this adapter can see; the text says why (no driver, no library)."""

    def __init__(self, text: str) -> None:
        super().__init__("no_devices", text)


class DeviceLost(ServiceError):
    """The card does not answer any more (it has fallen off the bus, or needs a reset)."""

    def __init__(self, uuid: str) -> None:
        super().__init__("device_lost", f"device {uuid} does not answer", device=uuid)


@dataclass(frozen=True, slots=True)
class Card:
    """What a card is. ``index``: its number on the host; ``parent``: the uuid of the card that this is a part of."""

    uuid: str
    index: int
    model: str
    parent: str = ""


class Memory(NamedTuple):
    """``used`` does not count ``reserved``, which the driver keeps for itself; where it does not tell how much that is,
    it may. None: unknown."""

    total: int | None
    reserved: int | None
    used: int | None
    free: int | None


class ProcessUse(NamedTuple):
    """A process on a card. ``started``: see `bursar.contracts.gpu.Process`."""

    pid: int
    started: int | None
    memory: int | None


class Sensors(NamedTuple):
    """What changes from moment to moment; None: unknown.

    ``utilisation``, ``memory_utilisation`` (of the controller's time), ``sm_activity`` and ``dram_activity`` (of what
    the card could do; from performance counters) in per cent. ``temperature``, ``memory_temperature``, ``slowdown_at``
    (where the card makes itself slower) and ``margin`` (how far that is away) in degrees Celsius. Power in milliwatts,
    clocks in MHz, ``pcie_tx`` and ``pcie_rx`` in bytes a second. ``throttle``: why the clocks are low, from
    `bursar.contracts.gpu.Throttle`; empty: they are not.
    """

    utilisation: int | None = None
    temperature: int | None = None
    power_mw: int | None = None
    memory_utilisation: int | None = None
    sm_activity: int | None = None
    dram_activity: int | None = None
    memory_temperature: int | None = None
    slowdown_at: int | None = None
    margin: int | None = None
    power_limit_mw: int | None = None
    clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle: tuple[str, ...] | None = None
    pcie_tx: int | None = None
    pcie_rx: int | None = None


class Topology(NamedTuple):
    """Where a card sits; None: unknown. ``cpus``: those that are near, as ``0-15,32-47``. ``links``: uuids of the cards
    that it has a direct link to; empty: none. ``divided``: whether it is, or could be, a part of a card."""

    numa_node: int | None = None
    cpus: str | None = None
    bus_id: str | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    links: tuple[str, ...] | None = None
    divided: bool | None = None


class DevicePort(Protocol):
    """The cards of one host. What is asked of one card raises `DeviceLost` when it does not answer; `cards` names a
    lost card as long as it is known."""

    def cards(self) -> Sequence[Card]: ...

    def memory(self, uuid: str) -> Memory: ...

    def processes(self, uuid: str) -> Sequence[ProcessUse] | None:
        """None: the driver does not tell which there are."""
        ...

    def sensors(self, uuid: str) -> Sensors: ...

    def topology(self, uuid: str) -> Topology: ...

    def advance(self, ms: int) -> None:
        """So much time has passed since the last look: for cards whose time is not the machine's."""
        ...

    def close(self) -> None:
        """Let go of the driver; harmless when it was done before."""
        ...
