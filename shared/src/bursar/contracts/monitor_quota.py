"""Leases of CPU, memory and disk on a host, on the wire, and the pools that a host's memory is divided into.

An agent leases what it is *guaranteed* and may say up to how much more it can use. The monitor decides the *limit* of
each lease, live: what others have of their guarantee and do not use is lent by weight, and given back within a bounded
time. The probe of the host keeps the processes within their limits and tells what they really use.

Processor time is in thousandths of a core, memory and disk in bytes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from bursar.contracts.base import PRINCIPAL, Amount, Message, Query, Request
from bursar.contracts.monitor_host import Pid

QUOTA_KIND = "quota"
"""Kind of the broadcasts about the leases of a host."""

MAX_TTL_MS: Final = 60_000
MAX_LEASES: Final = 64
"""On one host."""

HostName = Annotated[str, Field(pattern=PRINCIPAL, max_length=64)]
AgentPattern = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9-]{0,63}\*?)$", max_length=65)]
"""An agent, or the beginning of its name with a ``*``."""
LeaseId = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]
Weight = Annotated[int, Field(ge=1, le=10_000)]
Ttl = Annotated[int, Field(ge=1_000, le=MAX_TTL_MS)]

# ---- pools: what the memory of a host that is handed out (80 % of all of it) is for

Pool = Literal["context", "shared", "communication", "overhead"]

ALLOCATABLE_PERMILLE: Final = 800
"""Of a host's memory; the rest is its buffer."""

POOLS: Final[dict[Pool, int]] = {"context": 400, "shared": 300, "communication": 200, "overhead": 100}
"""Thousandths of the allocatable memory. ``context``: agents and their engines; ``shared``: the services, which keep
the state that agents share, and what JetStream keeps in memory; ``communication``: the NATS server; ``overhead``:
probes, supervisors, what else belongs to the fleet."""


def pool_bytes(pool: Pool, total_bytes: int) -> int:
    """A pool's budget on a host with so much memory."""
    return total_bytes * ALLOCATABLE_PERMILLE // 1_000 * POOLS[pool] // 1_000


# ---- leases


class Claim(Message):
    """A process of a lease: its number, and when it started, in ticks since the machine did; its children follow."""

    pid: Pid
    started: Amount


Claims = Annotated[tuple[Claim, ...], Field(max_length=16)]


class HostLease(Request):
    """Lease on a host. ``most_cpu_milli``, ``most_memory_bytes``: up to where it may borrow (None: what it leases)."""

    host: HostName
    cpu_milli: Amount = 0
    memory_bytes: Amount = 0
    disk_bytes: Amount = 0
    most_cpu_milli: Amount | None = None
    most_memory_bytes: Amount | None = None
    ttl_ms: Ttl = 15_000
    processes: Claims = ()
    note: Annotated[str, Field(max_length=200)] = ""


class HostLeased(Message):
    """``cpu_milli``, ``memory_bytes``, ``disk_bytes``: the limit as it is now."""

    ok: Literal[True] = True
    lease: LeaseId
    host: str
    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    ttl_ms: int
    fence: str


class HostRefused(Message):
    """``resource``: the first that is not there, ``missing``: how much of it. ``retry_in_ms``: when it may be (None: no
    waiting helps)."""

    ok: Literal[False] = False
    reason: Literal[
        "no_room", "in_use", "pool_full", "over_quota", "never_fits", "not_observed", "recovering", "too_many"
    ]
    resource: Literal["cpu", "memory", "disk", ""]
    missing: int
    retry_in_ms: int | None
    text: str
    fence: str


class RenewHost(Request):
    """It is still used. ``processes``: None: as they are."""

    lease: LeaseId
    ttl_ms: Ttl = 15_000
    processes: Claims | None = None


class HostRenewed(Message):
    """The limits as they are now, and what was really used when the probe last told (None: not known)."""

    ok: Literal[True] = True
    lease: LeaseId
    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    used_cpu_milli: int | None
    used_memory_bytes: int | None
    used_disk_bytes: int | None
    held_by: str
    ttl_ms: int
    fence: str


class ReleaseHost(Request):
    """It is not used any more."""

    lease: LeaseId


class HostReleased(Message):
    ok: Literal[True] = True
    lease: LeaseId
    fence: str


class SetQuota(Request):
    """Administration: what an agent (or all whose names begin so) may lease on a host, together, and how much weight
    its leases have when capacity is lent. The most exact name counts. None: no bound. ``weight`` None: forget it."""

    agent: AgentPattern
    weight: Weight | None = 100
    cpu_milli: Amount | None = None
    memory_bytes: Amount | None = None
    disk_bytes: Amount | None = None


class QuotaSet(Message):
    ok: Literal[True] = True
    agent: str
    fence: str


# ---- the probe of the host


class HostPlanQuery(Query):
    """Which leases are there on the host that asks?"""


class PlannedLease(Message):
    """Limits of one lease, and its processes as (pid, start)."""

    lease: str
    agent: str
    cpu_milli: int
    memory_bytes: int
    disk_bytes: int
    weight: int
    processes: list[Claim]


class HostPlan(Message):
    """``revision`` grows with every change of the host's leases."""

    ok: Literal[True] = True
    revision: int
    leases: list[PlannedLease]
    fence: str


class QuotaChanged(Message):
    """Something has changed about the leases of a host: its probe asks for the plan."""

    host: str
    revision: int
    fence: str = ""


# ---- rows of the picture


class LeaseRow(Message):
    """A lease of a host: what is guaranteed, the limit now (more: borrowed; less: lent), and what is really used."""

    lease: str
    agent: str
    host: str
    cpu_milli: int
    limit_cpu_milli: int
    used_cpu_milli: int | None
    memory_bytes: int
    limit_memory_bytes: int
    used_memory_bytes: int | None
    disk_bytes: int
    used_disk_bytes: int | None
    weight: int
    processes: int | None
    held_by: str
    left_ms: int
    age_ms: int | None


class PoolRow(Message):
    """A pool of a host's memory."""

    host: str
    pool: str
    budget_bytes: int
    used_bytes: int
    used_permille: int
    age_ms: int | None


class GroupRow(Message):
    """The processes of one group on one host."""

    host: str
    group: str
    processes: int
    cpu_milli: int
    rss_bytes: int
    starts: int
    crashes: int
    leak_permille: int
    age_ms: int | None
