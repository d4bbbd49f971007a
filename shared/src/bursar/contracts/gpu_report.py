"""What the probe of a host says of its cards."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bursar.contracts.base import Message
from bursar.contracts.gpu_words import (
    MAX_DEVICES,
    MAX_PARTS,
    MAX_PROCESSES,
    Bytes,
    Counted,
    Degrees,
    Labels,
    Percent,
    Text,
    Throttle,
    Uuid,
)


class ProcessMemory(Message):
    """One process on a card. ``memory`` None: the driver cannot tell; ``started`` None: nobody knows."""

    pid: Annotated[int, Field(ge=1, le=2**32)]
    started: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    memory: Bytes | None = None


class DeviceReport(Message):
    """One card. ``used`` does not count ``reserved`` (what the driver keeps for itself). None: unknown, never 0.

    ``parent``: the uuid of the card that this is a part of. ``lost``: the card is known but does not answer.
    ``utilisation``, ``memory_utilisation``, ``sm_activity`` and ``dram_activity`` in per cent; ``temperature``,
    ``memory_temperature``, ``slowdown_at`` and ``margin`` (to the slowdown) in degrees Celsius; power in milliwatts,
    clocks in MHz, ``pcie_tx`` and ``pcie_rx`` in bytes a second. ``throttle``: why the clocks are low; empty: they are
    not. ``cpus``: those near the card, as ``0-15,32``. ``links``: uuids of the cards that it is directly linked to.
    ``divided``: whether the card is divided, or a part of one."""

    uuid: Uuid
    index: Annotated[int, Field(ge=0, le=4096)]
    model: Text = ""
    parent: Annotated[str, Field(max_length=96)] = ""
    total: Bytes | None = None
    reserved: Bytes | None = None
    used: Bytes | None = None
    utilisation: Percent | None = None
    temperature: Degrees | None = None
    power_mw: Counted | None = None
    memory_utilisation: Percent | None = None
    sm_activity: Percent | None = None
    dram_activity: Percent | None = None
    memory_temperature: Degrees | None = None
    slowdown_at: Degrees | None = None
    margin: Degrees | None = None
    power_limit_mw: Counted | None = None
    clock_mhz: Counted | None = None
    memory_clock_mhz: Counted | None = None
    throttle: Annotated[tuple[Throttle, ...], Field(max_length=16)] | None = None
    pcie_tx: Bytes | None = None
    pcie_rx: Bytes | None = None
    numa_node: Annotated[int, Field(ge=0, le=4096)] | None = None
    cpus: Text | None = None
    bus_id: Annotated[str, Field(max_length=32)] | None = None
    pcie_generation: Annotated[int, Field(ge=0, le=64)] | None = None
    pcie_width: Annotated[int, Field(ge=0, le=64)] | None = None
    links: Annotated[tuple[Uuid, ...], Field(max_length=MAX_DEVICES)] | None = None
    divided: bool | None = None
    processes: Annotated[tuple[ProcessMemory, ...], Field(max_length=MAX_PROCESSES)] | None = None
    lost: bool = False


class GateReport(Message):
    """What the probe of a host has enforced since it started: processes that were let in to load, and that were not;
    answers and orders of the manager that were too old; processes that it has ended."""

    admitted: Counted
    refused: Counted
    stale: Counted
    ended: Counted


class Report(Message):
    """What a probe saw at one moment. ``boot`` is drawn when the probe starts and ``seq`` counts up, so that a report
    that comes twice or late is dropped. ``at_ms``: when it looked, by a clock of its machine that only goes forward: so
    a report that was held up on its way is known to be of before."""

    boot: Annotated[str, Field(pattern=r"^[0-9a-f]{1,32}$")]
    seq: Annotated[int, Field(ge=1, le=2**53 - 1)]
    at_ms: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    devices: Annotated[tuple[DeviceReport, ...], Field(max_length=MAX_PARTS)]
    labels: Labels = Field(default_factory=dict)
    gate: GateReport | None = None
