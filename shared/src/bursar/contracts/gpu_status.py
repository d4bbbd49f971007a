"""What the GPU manager tells about devices, leases and itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Query
from bursar.contracts.gpu_report import GateReport
from bursar.contracts.gpu_words import (
    DEFAULT_ALARM_GROWTH,
    DEFAULT_RESERVE,
    Bytes,
    DeviceName,
    HostName,
    LeaseId,
    Purpose,
    Role,
    Throttle,
    Uuid,
)


class Status(Query):
    """Devices, leases, hosts and counters; ``host``: of one host only."""

    host: HostName | None = None


class DeviceStatus(Message):
    """``used``, ``foreign``, ``room`` and the sensors are None when they are not known: the card cannot tell, or there
    is no fresh report. ``granted``: sum of the leases; ``charged``: sum of max(grant, observed) over the leases;
    ``room``: what could be granted now. ``overused``: leases whose processes use more than was granted. ``emergency``:
    granted from the reserve. ``loading``: the lease that is loading there. ``alarm``: foreign bytes that were alarmed
    of; 0: none. ``heat``, ``load``: how placement sees it, from its margin to the slowdown and from the bandwidth of
    its memory; what is not known is warm, and calm."""

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
    reserved: int | None
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
    margin: int | None
    throttle: list[Throttle] | None
    sm_activity: int | None
    dram_activity: int | None
    numa_node: int | None
    emergency: int
    loading: str | None
    alarm: int
    heat: Literal["ok", "warm", "hot"]
    load: Literal["calm", "busy", "saturated"]
    role: Role


class LeaseStatus(Message):
    """``observed``: bytes that its processes use, None when not known. ``state``: ``ending`` when it cannot be renewed
    any more and its memory counts until the holder has surely stopped.

    ``phase``: ``unknown``: no fresh report of all of its devices, as after a restart: it counts as it was granted;
    ``granted``: reported on, and none of its processes is seen there; ``active``: a process of it is, by pid and
    start; ``ending``."""

    lease: LeaseId
    principal: str
    purpose: Purpose
    note: str
    group: str
    emergency: bool
    state: Literal["held", "ending"]
    phase: Literal["unknown", "granted", "active", "ending"]
    devices: list[str]
    memory: int
    observed: int | None
    expires_in_ms: int


class HostStatus(Message):
    """``gate``: what its probe has enforced; None: nothing is known."""

    host: HostName
    cordoned: bool
    fresh: bool
    age_ms: int | None
    labels: dict[str, str]
    gate: GateReport | None


class Counters(Message):
    """Since the ledger began, but for ``refused``: since the owner took office."""

    granted: int
    released: int
    expired: int
    device_lost: int
    dropped: int
    devices_lost: int
    alarms: int
    refused: int


class Settings(Message):
    """Rules that hold for all devices, durable.

    ``reserve``: bytes kept free on each device. ``max_ttl_ms``: a longer time to live is cut to it, and after a loss
    of data nothing is granted for so long. ``margin_ms``: memory is freed so much later than the lease expires.
    ``fresh_ms``: a report older than this is none. ``silence_ms``: a host that is silent for longer has lost its
    devices. ``max_waiting``: how many may stand in line. ``alarm_growth``: everybody is told when foreign memory on a
    device, or what a lease uses beyond what was granted, has grown by so many bytes. ``cache_use_ms``: who uses
    cached weights and is silent for longer has left them. ``evict_ask_ms``, ``evict_sleep_ms``, ``evict_kill_ms``: so
    long each step of an eviction has before the next one.
    """

    reserve: Bytes = DEFAULT_RESERVE
    max_ttl_ms: Annotated[int, Field(ge=100, le=600_000)] = 60_000
    margin_ms: Annotated[int, Field(ge=0, le=60_000)] = 500
    fresh_ms: Annotated[int, Field(ge=100, le=600_000)] = 2_000
    silence_ms: Annotated[int, Field(ge=200, le=600_000)] = 3_000
    max_waiting: Annotated[int, Field(ge=0, le=10_000)] = 1_000
    alarm_growth: Annotated[int, Field(ge=1, le=2**50)] = DEFAULT_ALARM_GROWTH
    cache_use_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 60_000
    evict_ask_ms: Annotated[int, Field(ge=0, le=600_000)] = 5_000
    evict_sleep_ms: Annotated[int, Field(ge=0, le=600_000)] = 10_000
    evict_kill_ms: Annotated[int, Field(ge=0, le=600_000)] = 10_000

    @property
    def eviction_times(self) -> dict[str, int]:
        """Milliseconds of each step."""
        return {"ask": self.evict_ask_ms, "sleep": self.evict_sleep_ms, "kill": self.evict_kill_ms}


class StatusReply(Message):
    """At most 1,024 devices and 512 leases are listed; ``devices_total`` and ``leases_total`` count all,
    ``leases_unknown`` those that no report has confirmed since the present owner took over."""

    ok: Literal[True] = True
    now_ms: int
    recovering: bool
    hosts: list[HostStatus]
    devices: list[DeviceStatus]
    devices_total: int
    leases: list[LeaseStatus]
    leases_total: int
    leases_unknown: int
    waiting: int
    counters: Counters
    settings: Settings
    fence: str
