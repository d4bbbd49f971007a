"""A host's cards as the probe sees them: one small interface, in the shape of NVML, with nothing of a vendor in it.

Behind it stand NVIDIA's library (`nvml`) and simulated hosts (`simulated`); a card of another make fits by one more
adapter. What a card or driver cannot tell is None, "unknown", and never 0. Amounts are bytes.
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
    """What a card is. ``index``: its number on the host."""

    uuid: str
    index: int
    model: str


class Memory(NamedTuple):
    """``used`` does not count ``reserved``, which the driver keeps for itself. None: unknown."""

    total: int
    reserved: int
    used: int | None
    free: int | None


class ProcessUse(NamedTuple):
    """A process on a card. ``started``: see `bursar.contracts.gpu.Process`."""

    pid: int
    started: int | None
    memory: int | None


class Sensors(NamedTuple):
    """Per cent, degrees Celsius, milliwatts; None: unknown."""

    utilisation: int | None = None
    temperature: int | None = None
    power_mw: int | None = None


class DevicePort(Protocol):
    """The cards of one host. All but `cards` raise `DeviceLost`; `cards` names a lost card as long as it is known."""

    def cards(self) -> Sequence[Card]: ...

    def memory(self, uuid: str) -> Memory: ...

    def processes(self, uuid: str) -> Sequence[ProcessUse]: ...

    def sensors(self, uuid: str) -> Sensors: ...

    def close(self) -> None: ...
