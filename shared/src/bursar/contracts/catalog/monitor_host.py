"""The part of the monitor's catalogue that is about hosts: their processes, leases and pools of memory."""

from __future__ import annotations

from typing import Final

from bursar.contracts import monitor_quota as quota
from bursar.contracts.catalog.base import Event, Operation, Word
from bursar.contracts.monitor_batch import BATCH_KIND, HostBatch

_MILLI = "thousandths of a core"
_PERMILLE = "thousandths"
_GiB = 1024**3
_LEASE = "1.1.7"

_PACKED: Final = "eLujCvNXm9i1sIxxCYi5wTjNLNkAAQwXA9UwroTrOMv8YinYDMYloGidsAQUwROWQVLChJXw9DFhGTj5FU8AAHEvJg8="
"""A sample with nothing but its key."""

OPERATIONS: Final = (
    Operation(
        "node",
        BATCH_KIND,
        HostBatch,
        "The newest looks of a probe, as differences, compressed: what its messages are.",
        example={"boot": "3f6c000000000001", "seq": 1, "samples": 1, "packed": _PACKED},
    ),
    Operation(
        "req",
        "host-lease",
        quota.HostLease,
        "Lease CPU, memory and disk on a host.",
        replies=(quota.HostLeased, quota.HostRefused),
        errors=("bad_request",),
        example={"host": "host-1", "cpu_milli": 1_500, "memory_bytes": 2 * _GiB, "most_cpu_milli": 4_000},
    ),
    Operation(
        "req",
        "host-renew",
        quota.RenewHost,
        "A lease is still used; its limits as they are now.",
        replies=(quota.HostRenewed,),
        errors=("unknown_lease", "not_yours"),
        example={"lease": _LEASE, "ttl_ms": 15_000},
    ),
    Operation(
        "req",
        "host-release",
        quota.ReleaseHost,
        "A lease is not used any more.",
        replies=(quota.HostReleased,),
        errors=("unknown_lease", "not_yours"),
        example={"lease": _LEASE},
    ),
    Operation(
        "req",
        "host-plan",
        quota.HostPlanQuery,
        "The leases of the host that asks; for its probe.",
        replies=(quota.HostPlan,),
        example={},
    ),
    Operation(
        "adm",
        "set-quota",
        quota.SetQuota,
        "What an agent may lease on a host, and how much weight its leases have.",
        replies=(quota.QuotaSet,),
        errors=("too_many",),
        example={"agent": "team-a-*", "weight": 200, "cpu_milli": 4_000},
    ),
)

EVENTS: Final = (
    Event(quota.QUOTA_KIND, "the host", quota.QuotaChanged, "Something has changed about the leases of a host."),
)

WORDS: Final = {
    "CpuSample.each": Word("Part of the time in which each core was busy.", _PERMILLE),
    "memory_full_permille": Word("In which all tasks waited for memory; null: not known.", _PERMILLE),
    "io_full_permille": Word("In which all tasks waited for disks; null: not known.", _PERMILLE),
    "numa": Word("NUMA nodes of the host."),
    "node": Word("Number of the NUMA node.", "number"),
    "free_bytes": Word("Memory that nobody uses.", "bytes"),
    "groups": Word("The fleet's processes on the host, by service or agent."),
    "HostSample.processes": Word("Those with most memory."),
    "processes": Word("How many there are.", "processes"),
    "group": Word("A service, nats, probe, supervisor, or agent.<principal>."),
    "pid": Word("Number of the process.", "number"),
    "cpu_milli": Word("Processor time, since the look before.", "thousandths of a core"),
    "starts": Word("Processes that have started since the probe began.", "processes"),
    "crashes": Word("Processes that ended within 30 s of their start, in the last minute.", "processes"),
    "leak_permille": Word("Part of the host's free memory that its steady growth would take.", _PERMILLE),
    "HostSample.leases": Word("What the leases of this host use."),
    "lease": Word("Names the lease."),
    "memory_bytes": Word("Memory.", "bytes"),
    "disk_bytes": Word("Disk; null: not known.", "bytes"),
    "held_by": Word("What keeps the processes within their lease."),
    "ProcessSample.age_ms": Word("For how long the process has run.", "ms"),
    "ProcessSample.rss_bytes": Word("Memory that the process holds.", "bytes"),
    "GroupSample.rss_bytes": Word("Memory that its processes hold.", "bytes"),
    "GroupRow.age_ms": Word("How long ago these numbers were received; null: never.", "ms"),
    "GroupRow.rss_bytes": Word("Memory that its processes hold.", "bytes"),
    "HostBatch.samples": Word("How many samples there are: the newest, and those before it once more.", "samples"),
    "packed": Word("The samples: zlib over msgpack; see `bursar.contracts.monitor_batch`."),
    # leases
    "LeaseUse.used_permille": Word("Of its limit of processor or memory, whichever is more.", _PERMILLE),
    "most_cpu_milli": Word("Up to where it may borrow; null: what it leases.", _MILLI),
    "most_memory_bytes": Word("Up to where it may borrow; null: what it leases.", "bytes"),
    "HostLease.disk_bytes": Word("Disk.", "bytes"),
    "HostLease.cpu_milli": Word("Processor that is guaranteed.", _MILLI),
    "HostLease.processes": Word("The processes that use it; their children follow."),
    "ttl_ms": Word("After so long without a renewal it is over.", "ms"),
    "HostLeased.cpu_milli": Word("Its limit as it is now.", _MILLI),
    "HostLeased.disk_bytes": Word("Disk.", "bytes"),
    "HostRefused.reason": Word("Why not."),
    "resource": Word("The first that is not there; empty: none in particular."),
    "HostRefused.missing": Word("How much of it.", "of the resource"),
    "HostRefused.retry_in_ms": Word("When it may be there; null: no waiting helps.", "ms"),
    "text": Word("For people."),
    "started": Word("When it started, since the machine did.", "ticks"),
    "RenewHost.processes": Word("The processes that use it; null: as they are."),
    "HostRenewed.cpu_milli": Word("Its limit as it is now.", _MILLI),
    "HostRenewed.disk_bytes": Word("Disk.", "bytes"),
    "used_cpu_milli": Word("What its processes really use; null: not known.", _MILLI),
    "used_memory_bytes": Word("What its processes really use; null: not known.", "bytes"),
    "used_disk_bytes": Word("What its processes really use; null: not known.", "bytes"),
    "agent": Word("Who has it; of a quota: an agent, or the beginning of names with a *."),
    "weight": Word("How much of what is lent it gets, beside others; null: forget the quota.", "parts"),
    "SetQuota.cpu_milli": Word("At most on a host, together; null: no bound.", _MILLI),
    "SetQuota.memory_bytes": Word("At most on a host, together; null: no bound.", "bytes"),
    "SetQuota.disk_bytes": Word("At most on a host, together; null: no bound.", "bytes"),
    "revision": Word("Grows with every change of leases.", "changes"),
    "HostPlan.leases": Word("Its leases."),
    "PlannedLease.cpu_milli": Word("Its limit.", _MILLI),
    "PlannedLease.disk_bytes": Word("Its limit.", "bytes"),
    "PlannedLease.processes": Word("The processes that use it; their children follow."),
    "HostReleased": Word("The lease is over."),
    "QuotaSet": Word("The quota counts from now on."),
    # the picture
    "StatusReply.leases": Word("Leases of hosts."),
    "StatusReply.processes": Word("The fleet's processes, by host and group."),
    "pools": Word("Pools of memory of the hosts."),
    "PoolRow.pool": Word("What the memory is for."),
    "budget_bytes": Word("Size of the pool.", "bytes"),
    "PoolRow.used_bytes": Word("What the fleet's processes hold of it.", "bytes"),
    "PoolRow.used_permille": Word("The part of the budget that is used.", _PERMILLE),
    "LeaseRow.cpu_milli": Word("Processor that is guaranteed.", _MILLI),
    "LeaseRow.disk_bytes": Word("Disk that is guaranteed.", "bytes"),
    "limit_cpu_milli": Word("The limit now: more is borrowed, less is lent.", _MILLI),
    "limit_memory_bytes": Word("The limit now: more is borrowed.", "bytes"),
    "LeaseRow.weight": Word("How much of what is lent it gets, beside others.", "parts"),
    "LeaseRow.processes": Word("How many there are; null: not known.", "processes"),
    "LeaseRow": Word("One lease of a host."),
    "PoolRow": Word("One pool of memory of one host."),
    "GroupRow": Word("The processes of one group on one host."),
}
