"""The GPU manager on the wire: leases of GPU memory, and what the probes of the hosts observe.

An agent asks for so many bytes on one or several devices; it renews the lease before its time to live is over and
gives it back when it has freed the memory. A probe per host tells what the cards say. A device is named
``<host>/<uuid>``. All amounts of memory are bytes. Times that end in ``_at_ms`` are milliseconds of the manager's own
clock, which has nothing to do with the wall clock; times that end in ``_in_ms`` or ``_ttl_ms`` are spans.

A holder may believe in its lease until ``ttl_ms`` after the moment when it *sent* the request that was granted or
renewed, on its own monotonic clock. The manager frees the memory later than that.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Fence, Message, Request
from bursar.contracts.gpu_explain import Estimated, Explain, Explained, Freeable, ModelLoad, Obstacle, Wanted
from bursar.contracts.gpu_host import Holding, Holdings, HoldingsReply, Kill
from bursar.contracts.gpu_report import DeviceReport, GateReport, ProcessMemory, Report
from bursar.contracts.gpu_status import Counters, DeviceStatus, HostStatus, LeaseStatus, Settings, Status, StatusReply
from bursar.contracts.gpu_words import (
    DEFAULT_ALARM_GROWTH,
    DEFAULT_RESERVE,
    DEFAULT_TTL_MS,
    MAX_DEVICES,
    MAX_PARTS,
    MAX_PROCESSES,
    OBSERVED,
    SERVICE,
    Bytes,
    DeviceName,
    HostName,
    LeaseId,
    LossReason,
    Process,
    Processes,
    Purpose,
    RefusalReason,
    Target,
    Text,
    Throttle,
    TtlMs,
    Uuid,
)

__all__ = [
    "DEFAULT_ALARM_GROWTH",
    "DEFAULT_RESERVE",
    "DEFAULT_TTL_MS",
    "MAX_DEVICES",
    "MAX_PARTS",
    "MAX_PROCESSES",
    "OBSERVED",
    "SERVICE",
    "Counters",
    "DeviceReport",
    "DeviceStatus",
    "Estimated",
    "Explain",
    "Explained",
    "Freeable",
    "GateReport",
    "Holding",
    "Holdings",
    "HoldingsReply",
    "HostStatus",
    "Kill",
    "LeaseStatus",
    "ModelLoad",
    "Obstacle",
    "Process",
    "ProcessMemory",
    "Processes",
    "Purpose",
    "Report",
    "Settings",
    "Status",
    "StatusReply",
    "Throttle",
    "Wanted",
]


class Lease(Wanted, Request):
    """Ask for memory; answered by `Leased` or `Refused`.

    ``ttl_ms``: how long it holds unless it is renewed. ``wait_ms``: how long to stand in line instead of being refused
    at once. ``processes``: who will allocate; one that another's lease names stays that one's. ``note``: for people."""

    ttl_ms: TtlMs = DEFAULT_TTL_MS
    wait_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    processes: Processes = ()
    note: Text = ""


class Emergency(Lease):
    """Administration: the same from the emergency reserve of a device, which no other lease can touch. At most the
    reserve, and it does not wait."""


class Held(Message):
    """One device of a lease. ``index``: its number on the host, as for ``CUDA_VISIBLE_DEVICES``."""

    device: DeviceName
    host: HostName
    uuid: Uuid
    index: int
    memory: int


class Leased(Message):
    """The lease. ``ttl_ms`` may be less than was asked for."""

    ok: Literal[True] = True
    lease: LeaseId
    devices: list[Held]
    ttl_ms: int
    expires_at_ms: int
    fence: str


class Refused(Message):
    """Not now, or never. ``closest``: the device that came closest, and how many bytes it lacks (of all that it
    offers in the case of ``never_fits``). ``retry_in_ms``: when it may fit if no holder renews; None: no waiting that
    the manager knows of helps."""

    ok: Literal[False] = False
    reason: RefusalReason
    closest: str | None
    missing: int | None
    waiting: int
    now_ms: int
    retry_in_ms: int | None
    text: str
    fence: str


class Renew(Request):
    """Go on holding a lease. ``fence``: the one that came with it. ``processes``: replaces who allocates. ``purpose``:
    what it is for from now on."""

    lease: LeaseId
    fence: Fence
    ttl_ms: TtlMs | None = None
    processes: Processes | None = None
    purpose: Purpose | None = None


class Renewed(Message):
    """``overuse``: bytes that the holder's processes use beyond the lease, as last observed."""

    ok: Literal[True] = True
    lease: LeaseId
    ttl_ms: int
    expires_at_ms: int
    overuse: int
    fence: str


class Release(Request):
    """The memory is free again: the lease ends. Free it before you send this."""

    lease: LeaseId
    fence: Fence


class Released(Message):
    """``outcome``: how the lease ended, which may have been before."""

    ok: Literal[True] = True
    lease: LeaseId
    outcome: Literal["released", "expired", "device_lost", "dropped"]
    fence: str


class Share(Message):
    """So many bytes on one device."""

    device: DeviceName
    memory: Annotated[int, Field(ge=1, le=2**50)]


class Redeclare(Request):
    """After the manager lost data: a holder states a lease that it still holds, with the fence it was given."""

    lease: LeaseId
    fence: Fence
    devices: Annotated[tuple[Share, ...], Field(min_length=1, max_length=MAX_DEVICES)]
    ttl_ms: TtlMs
    processes: Processes = ()
    purpose: Purpose = "workspace"
    note: Text = ""
    group: Annotated[str, Field(max_length=64)] = ""


class Redeclared(Message):
    """``held``: whether the lease counts now; if not, it is lost. ``adopted``: whether it had been forgotten."""

    ok: Literal[True] = True
    lease: LeaseId
    held: bool
    adopted: bool
    ttl_ms: int
    fence: str


class Lost(Message):
    """What a holder is told at ``bursar.assign.<principal>``: the lease has ended; free the memory and release it. An
    engine that shares its pages is told so as well, also when the holder has ``released`` it, or it has ``expired``."""

    service: Literal["gpu-manager"] = "gpu-manager"
    what: Literal["lease_lost"] = "lease_lost"
    lease: LeaseId
    reason: LossReason
    fence: str


class Cordon(Request):
    """Administration: grant nothing more on a device or a host (which need not be known yet)."""

    target: Target


class Uncordon(Request):
    """Administration: the opposite."""

    target: Target


class Cordoned(Message):
    ok: Literal[True] = True
    target: str
    cordoned: bool
    fence: str


class Drop(Request):
    """Administration: end a lease. Its holder is told; the memory counts until the holder gives it back, or until it
    must have stopped. ``kill``: the probes of its hosts are told to end its processes."""

    lease: LeaseId
    kill: bool = False


class Dropped(Message):
    ok: Literal[True] = True
    lease: LeaseId
    principal: str
    freed_in_ms: int
    fence: str


class Forget(Request):
    """Administration: take a lost device out of the ledger."""

    device: DeviceName


class Forgotten(Message):
    ok: Literal[True] = True
    device: str
    fence: str


class Configure(Request):
    """Administration: change settings; what is None stays."""

    reserve: Bytes | None = None
    max_ttl_ms: Annotated[int, Field(ge=100, le=600_000)] | None = None
    margin_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None
    fresh_ms: Annotated[int, Field(ge=100, le=600_000)] | None = None
    silence_ms: Annotated[int, Field(ge=200, le=600_000)] | None = None
    max_waiting: Annotated[int, Field(ge=0, le=10_000)] | None = None
    alarm_growth: Annotated[int, Field(ge=1, le=2**50)] | None = None
    cache_use_ms: Annotated[int, Field(ge=100, le=3_600_000)] | None = None
    evict_ask_ms: Annotated[int, Field(ge=0, le=600_000)] | None = None
    evict_sleep_ms: Annotated[int, Field(ge=0, le=600_000)] | None = None
    evict_kill_ms: Annotated[int, Field(ge=0, le=600_000)] | None = None


class Configured(Message):
    ok: Literal[True] = True
    settings: Settings
    fence: str
