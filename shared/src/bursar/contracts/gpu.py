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

from bursar.contracts.base import PRINCIPAL, Fence, Message, Query, Request

SERVICE = "gpu-manager"
OBSERVED = "gpu"
"""Last token of the subject that a probe publishes to: ``bursar.node.<host>.gpu``."""

DEFAULT_TTL_MS = 10_000
DEFAULT_RESERVE = 512 * 1024**2
MAX_DEVICES = 16
"""Devices of one lease, and of one host."""
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

RefusalReason = Literal[
    "no_room", "never_fits", "no_device", "not_observed", "recovering", "wait_too_long", "queue_full"
]
LossReason = Literal["device_lost", "dropped"]


class Process(Message):
    """A process on the host of the lease: its pid as the driver sees it, and when it started (ticks since the start of
    the machine, field 22 of ``/proc/<pid>/stat``), so that a pid that is used again is another process."""

    pid: Annotated[int, Field(ge=1, le=2**32)]
    started: Annotated[int, Field(ge=0, le=2**53 - 1)]


Processes = Annotated[tuple[Process, ...], Field(max_length=16)]


class Lease(Request):
    """Ask for memory; answered by `Leased` or `Refused`.

    ``memory``: bytes on each of ``devices`` devices (all or none; of one host unless ``one_host`` is false).
    ``model``: part of the name that the driver gives the card, in any case. ``labels``: all must be the host's.
    ``hosts``: only these. ``exclude``: hosts, uuids or whole device names not to use. ``wait_ms``: how long to stand
    in line instead of being refused at once. ``processes``: who will allocate. ``purpose``: for people.
    """

    memory: Annotated[int, Field(ge=1, le=2**50)]
    devices: Annotated[int, Field(ge=1, le=MAX_DEVICES)] = 1
    one_host: bool = True
    model: Text | None = None
    labels: Labels = Field(default_factory=dict)
    hosts: Annotated[tuple[HostName, ...], Field(max_length=64)] = ()
    exclude: Annotated[tuple[Excluded, ...], Field(max_length=64)] = ()
    ttl_ms: TtlMs = DEFAULT_TTL_MS
    wait_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    processes: Processes = ()
    purpose: Text = ""


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
    """Go on holding a lease. ``fence``: the one that came with it. ``processes``: replaces who allocates."""

    lease: LeaseId
    fence: Fence
    ttl_ms: TtlMs | None = None
    processes: Processes | None = None


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
    purpose: Text = ""


class Redeclared(Message):
    """``held``: whether the lease counts now; if not, it is lost. ``adopted``: whether it had been forgotten."""

    ok: Literal[True] = True
    lease: LeaseId
    held: bool
    adopted: bool
    ttl_ms: int
    fence: str


class Lost(Message):
    """What a holder is told at ``bursar.assign.<principal>``: the lease has ended; free the memory and release it."""

    service: Literal["gpu-manager"] = "gpu-manager"
    what: Literal["lease_lost"] = "lease_lost"
    lease: LeaseId
    reason: LossReason
    fence: str


class Status(Query):
    """Devices, leases, hosts and counters; ``host``: of one host only."""

    host: HostName | None = None


class DeviceStatus(Message):
    """``used``, ``foreign``, ``room`` and the sensors are None when they are not known: the card cannot tell, or there
    is no fresh report. ``granted``: sum of the leases; ``charged``: sum of max(grant, observed) over the leases;
    ``room``: what could be granted now. ``overused``: leases whose processes use more than was granted."""

    device: DeviceName
    host: HostName
    uuid: Uuid
    index: int
    model: str
    state: Literal["ready", "lost"]
    cordoned: bool
    fresh: bool
    age_ms: int | None
    total: int
    reserved: int
    used: int | None
    granted: int
    charged: int
    foreign: int | None
    room: int | None
    leases: int
    overused: int
    utilisation: int | None
    temperature: int | None
    power_mw: int | None


class LeaseStatus(Message):
    """``observed``: bytes that its processes use, None when not known. ``state``: ``ending`` when it cannot be renewed
    any more and its memory counts until the holder has surely stopped."""

    lease: LeaseId
    principal: str
    purpose: str
    state: Literal["held", "ending"]
    devices: list[str]
    memory: int
    observed: int | None
    expires_in_ms: int


class HostStatus(Message):
    host: HostName
    cordoned: bool
    fresh: bool
    age_ms: int | None
    labels: dict[str, str]


class Counters(Message):
    """Since the ledger began, but for ``refused``: since the owner took office."""

    granted: int
    released: int
    expired: int
    device_lost: int
    dropped: int
    devices_lost: int
    refused: int


class Settings(Message):
    """Rules that hold for all devices, durable.

    ``reserve``: bytes kept free on each device. ``max_ttl_ms``: a longer time to live is cut to it, and after a loss
    of data nothing is granted for so long. ``margin_ms``: memory is freed so much later than the lease expires.
    ``fresh_ms``: a report older than this is none. ``silence_ms``: a host that is silent for longer has lost its
    devices. ``max_waiting``: how many may stand in line.
    """

    reserve: Bytes = DEFAULT_RESERVE
    max_ttl_ms: Annotated[int, Field(ge=100, le=600_000)] = 60_000
    margin_ms: Annotated[int, Field(ge=0, le=60_000)] = 500
    fresh_ms: Annotated[int, Field(ge=100, le=600_000)] = 2_000
    silence_ms: Annotated[int, Field(ge=200, le=600_000)] = 3_000
    max_waiting: Annotated[int, Field(ge=0, le=10_000)] = 1_000


class StatusReply(Message):
    """At most 512 leases are listed; ``leases_total`` counts all."""

    ok: Literal[True] = True
    now_ms: int
    recovering: bool
    hosts: list[HostStatus]
    devices: list[DeviceStatus]
    leases: list[LeaseStatus]
    leases_total: int
    waiting: int
    counters: Counters
    settings: Settings
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
    must have stopped."""

    lease: LeaseId


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


class Configured(Message):
    ok: Literal[True] = True
    settings: Settings
    fence: str


class ProcessMemory(Message):
    """One process on a card. ``memory`` None: the driver cannot tell; ``started`` None: nobody knows."""

    pid: Annotated[int, Field(ge=1, le=2**32)]
    started: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    memory: Bytes | None = None


class DeviceReport(Message):
    """One card. ``used`` does not count ``reserved`` (what the driver keeps for itself). None: unknown, never 0.
    ``utilisation`` in per cent, ``temperature`` in degrees Celsius, ``power_mw`` in milliwatts. ``lost``: the card is
    known but does not answer."""

    uuid: Uuid
    index: Annotated[int, Field(ge=0, le=4096)]
    model: Text = ""
    total: Bytes
    reserved: Bytes = 0
    used: Bytes | None = None
    utilisation: Annotated[int, Field(ge=0, le=100)] | None = None
    temperature: Annotated[int, Field(ge=-100, le=1_000)] | None = None
    power_mw: Annotated[int, Field(ge=0, le=2**31)] | None = None
    processes: Annotated[tuple[ProcessMemory, ...], Field(max_length=MAX_PROCESSES)] = ()
    lost: bool = False


class Report(Message):
    """What a probe saw at one moment. ``boot`` is drawn when the probe starts and ``seq`` counts up, so that a report
    that comes twice or late is dropped."""

    boot: Annotated[str, Field(pattern=r"^[0-9a-f]{1,32}$")]
    seq: Annotated[int, Field(ge=1, le=2**53 - 1)]
    devices: Annotated[tuple[DeviceReport, ...], Field(max_length=MAX_DEVICES)]
    labels: Labels = Field(default_factory=dict)
