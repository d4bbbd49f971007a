"""What the messages about GPU memory share: names, amounts, bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import PRINCIPAL, Message

SERVICE = "gpu-manager"
OBSERVED = "gpu"
"""Last token of the subject that a probe publishes to: ``bursar.node.<host>.gpu``."""

DEFAULT_TTL_MS = 10_000
DEFAULT_RESERVE = 512 * 1024**2
DEFAULT_ALARM_GROWTH = 256 * 1024**2
MAX_DEVICES = 16
"""Devices of one lease, and cards of one host."""
MAX_PARTS = 64
"""Devices of one host, where cards are divided: eight cards of seven parts, and a few."""
MAX_PROCESSES = 128
"""Processes per device that a report names; the memory of others counts as foreign."""

UUID = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,95}$"
DEVICE = r"^[a-z0-9][a-z0-9-]{0,63}/[A-Za-z0-9][A-Za-z0-9_.:-]{0,95}$"
TARGET = r"^[a-z0-9][a-z0-9-]{0,63}(/[A-Za-z0-9][A-Za-z0-9_.:-]{0,95})?$"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$"

Bytes = Annotated[int, Field(ge=0, le=2**50)]
HostName = Annotated[str, Field(pattern=PRINCIPAL, max_length=64)]
Uuid = Annotated[str, Field(pattern=UUID, max_length=96)]
DeviceName = Annotated[str, Field(pattern=DEVICE, max_length=161)]
Target = Annotated[str, Field(pattern=TARGET, max_length=161)]
Excluded = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,160}$", max_length=161)]
Text = Annotated[str, Field(max_length=128)]
Label = Annotated[str, Field(pattern=LABEL, max_length=63)]
Labels = Annotated[dict[Label, Text], Field(max_length=16)]
LeaseId = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]
TtlMs = Annotated[int, Field(ge=100, le=600_000)]

Percent = Annotated[int, Field(ge=0, le=100)]
Degrees = Annotated[int, Field(ge=-1_000, le=1_000)]
Counted = Annotated[int, Field(ge=0, le=2**31)]

Throttle = Literal[
    "idle", "clocks", "power_cap", "hardware", "sync", "thermal_software", "thermal_hardware", "power_brake", "other"
]
"""Why a card's clocks are low. Only the ``thermal`` ones and ``hardware`` are heat (or may be)."""

Purpose = Literal["weights", "kv_cache", "workspace", "loading"]
"""What the memory of a lease is for. ``loading``: an engine starts and measures what is free, so only one lease of a
device has this purpose at a time; a renewal says what it is for from then on."""

Policy = Literal["pack", "spread"]
Role = Literal["any", "primary", "secondary"]
Near = Literal["any", "same"]
Apart = Literal["no", "device", "host"]

RefusalReason = Literal[
    "no_room",
    "never_fits",
    "no_device",
    "not_observed",
    "recovering",
    "loading",
    "hot",
    "apart",
    "topology",
    "wait_too_long",
    "queue_full",
]
LossReason = Literal["device_lost", "dropped", "released", "expired"]


class Process(Message):
    """A process on the host of the lease: its pid as the driver sees it, and when it started (ticks since the start of
    the machine, field 22 of ``/proc/<pid>/stat``), so that a pid that is used again is another process."""

    pid: Annotated[int, Field(ge=1, le=2**32)]
    started: Annotated[int, Field(ge=0, le=2**53 - 1)]


Processes = Annotated[tuple[Process, ...], Field(max_length=16)]
