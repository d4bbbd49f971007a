"""The GPU manager's part of the catalogue."""

from __future__ import annotations

from typing import Final, Literal

from bursar.contracts import gpu as wire
from bursar.contracts.base import Message
from bursar.contracts.catalog import gpu_advice, gpu_cache, gpu_kv, gpu_moves
from bursar.contracts.catalog.base import Event, Operation, ServiceCatalog, Telling, Word
from bursar.contracts.catalog.common import SET_RIGHTS

_MS_CLOCK = "ms of the manager's clock"
_FENCE = "1.1.7.0123456789abcdef"
_DEVICE = "host-1/GPU-3f6c"
GiB: Final = 1024**3


class DeviceChanged(Message):
    """A device is there (``ready``), is ``lost``, or an operator has changed whether it may be used."""

    device: str
    state: Literal["ready", "lost", "cordoned", "uncordoned"]
    why: str | None = None
    fence: str


class Alarm(Message):
    """Foreign memory on a device, or overuse of a lease, has grown (``raised``) or is over (``cleared``). ``lease`` and
    ``principal``: whose overuse; None for foreign memory. ``before``: what was told last."""

    device: str
    alarm: Literal["foreign", "overuse"]
    state: Literal["raised", "cleared"]
    bytes: int
    before: int
    lease: str | None
    principal: str | None
    fence: str


OPERATIONS: Final = (
    Operation(
        "req",
        "lease",
        wire.Lease,
        "Ask for memory on one or several devices, all or none; may stand in line for it.",
        replies=(wire.Leased, wire.Refused),
        example={"memory": 4 * GiB, "ttl_ms": 10_000, "wait_ms": 5_000, "purpose": "weights", "note": "embeddings"},
    ),
    Operation(
        "req",
        "renew",
        wire.Renew,
        "Go on holding a lease.",
        replies=(wire.Renewed,),
        errors=("unknown_lease", "lease_ended", "not_yours", "bad_fence", "conflict"),
        example={"lease": "1.1.7", "fence": _FENCE, "purpose": "kv_cache"},
    ),
    Operation(
        "req",
        "release",
        wire.Release,
        "The memory is free again: the lease ends. Free it before you send this.",
        replies=(wire.Released,),
        errors=("unknown_lease", "not_yours", "bad_fence"),
        example={"lease": "1.1.7", "fence": _FENCE},
    ),
    Operation(
        "req",
        "redeclare",
        wire.Redeclare,
        "After the manager has lost data: state a lease that is still held.",
        replies=(wire.Redeclared,),
        errors=("not_yours", "not_plausible", "bad_fence"),
        example={
            "lease": "1.1.7",
            "fence": _FENCE,
            "devices": [{"device": _DEVICE, "memory": 4 * GiB}],
            "ttl_ms": 10_000,
        },
    ),
    Operation(
        "req",
        "status",
        wire.Status,
        "Devices, leases, hosts and counters; of one host, or of all.",
        replies=(wire.StatusReply,),
        example={"host": "host-1"},
    ),
    Operation(
        "req",
        "explain",
        wire.Explain,
        "Would this fit now, and if not: why, and what would have to be freed? For bytes, or for a model.",
        replies=(wire.Explained,),
        errors=("unknown_model", "unsupported_model", "unknown_format", "bad_config", "lease_too_small"),
        example={"load": {"model": "llama-3-8b", "context": 8_192, "sequences": 4}},
    ),
    Operation(
        "req",
        "holdings",
        wire.Holdings,
        "The leases on the cards of the host that asks: for its probe.",
        replies=(wire.HoldingsReply,),
        example={},
    ),
    Operation(
        "adm",
        "emergency",
        wire.Emergency,
        "Memory from the emergency reserve of a device, which no other lease can touch.",
        replies=(wire.Leased, wire.Refused),
        example={"memory": GiB // 4, "ttl_ms": 10_000, "note": "a cache must grow now"},
    ),
    Operation(
        "adm",
        "cordon",
        wire.Cordon,
        "Grant nothing more on a device or a host.",
        replies=(wire.Cordoned,),
        errors=("too_many",),
        example={"target": "host-1"},
    ),
    Operation(
        "adm",
        "uncordon",
        wire.Uncordon,
        "Grant on it again.",
        replies=(wire.Cordoned,),
        errors=("too_many",),
        example={"target": "host-1"},
    ),
    Operation(
        "adm",
        "drop",
        wire.Drop,
        "End a lease; its memory counts until the holder gives it back, or must have stopped.",
        replies=(wire.Dropped,),
        errors=("unknown_lease", "lease_ended"),
        example={"lease": "1.1.7"},
    ),
    Operation(
        "adm",
        "forget",
        wire.Forget,
        "Take a lost device out of the ledger.",
        replies=(wire.Forgotten,),
        errors=("unknown_device", "conflict"),
        example={"device": _DEVICE},
    ),
    Operation(
        "adm",
        "configure",
        wire.Configure,
        "Change settings; what is null stays.",
        replies=(wire.Configured,),
        example={"margin_ms": 1_000},
    ),
    Operation(
        "node",
        wire.OBSERVED,
        wire.Report,
        "What the probe of a host sees on its cards; once a second or so.",
        example={
            "boot": "3f6c",
            "seq": 1,
            "devices": [
                {"uuid": "GPU-3f6c", "index": 0, "model": "Some card", "total": 24 * GiB, "used": GiB, "utilisation": 7}
            ],
            "labels": {"zone": "eu-1"},
        },
    ),
)

EVENTS: Final = (
    Event("alarm", "the host", Alarm, "Foreign memory, or what a lease uses beyond what was granted, has grown."),
    Event("device", "the host", DeviceChanged, "A device is there, is lost, or may (not) be used any more."),
)

TELLINGS: Final = (
    Telling(wire.Kill, "To the probe of a host: end the processes of a lease that was taken away."),
    Telling(wire.Lost, "To the holder of a lease that has ended before its time, and to the engines of its pool."),
)

WORDS: Final = {
    # leases
    "memory": Word("Bytes of GPU memory on each of the devices.", "bytes"),
    "Lease.devices": Word("On how many devices.", "devices"),
    "Wanted.devices": Word("On how many devices.", "devices"),
    "Emergency.devices": Word("On how many devices.", "devices"),
    "Emergency.hosts": Word("Only these hosts; empty: any."),
    "Wanted.hosts": Word("Only these hosts; empty: any."),
    "one_host": Word("Whether all devices must be those of one host."),
    "model": Word("Name that the driver gives the card; in a request a part of it, in any case."),
    "labels": Word("Labels of the host; in a request those that it must have."),
    "hosts": Word("The hosts."),
    "Lease.hosts": Word("Only these hosts; empty: any."),
    "exclude": Word("Hosts, uuids or whole device names not to use."),
    "ttl_ms": Word("Time to live: the lease ends so long after it was granted or renewed. May be cut.", "ms"),
    "wait_ms": Word("How long to stand in line instead of being refused at once; 0: not at all.", "ms"),
    "processes": Word("Processes that allocate the memory; they are compared with what the driver reports."),
    "purpose": Word("What the memory is for; only one lease of a device is loading at a time."),
    "Renew.purpose": Word("What it is for from now on; null: as before."),
    "note": Word("For people."),
    "policy": Word("pack: into the smallest hole that is no loss for large requests; or spread."),
    "role": Word("What the card is meant for."),
    "numa": Word("Whether all devices have to be on the same NUMA node."),
    "link": Word("Whether all devices have to be linked to one another."),
    "group": Word("Leases of the same group can be kept apart."),
    "apart": Word("Not on a device, or host, where another lease of the group is."),
    "strictly": Word("Whether that is a condition and not only a wish."),
    "heat": Word("How warm it is for placement; what is hot gets nothing."),
    "DeviceStatus.load": Word("How much the bandwidth of its memory is in use."),
    "emergency": Word("Granted from the emergency reserve.", "bytes"),
    "LeaseStatus.emergency": Word("Whether it is from the emergency reserve."),
    "phase": Word("Whether a fresh report confirms it, and whether a process of it is seen."),
    "loading": Word("The lease that is loading there; null: none."),
    "DeviceStatus.alarm": Word("Foreign memory that everybody was told of; 0: none.", "bytes"),
    "alarm": Word("What has grown."),
    "Alarm.state": Word("Whether it is raised or over."),
    "bytes": Word("How much it is now.", "bytes"),
    "before": Word("How much was told before.", "bytes"),
    "Alarm.lease": Word("The lease that is used beyond what was granted; null: none is."),
    "Alarm.principal": Word("Whose lease that is."),
    "kill": Word("Whether the probes are told to end its processes."),
    "alarms": Word("Alarms that were raised.", "alarms"),
    "alarm_growth": Word("Everybody is told of foreign memory or overuse when it has grown by this.", "bytes"),
    "devices_total": Word("How many devices there are; ask for one host to see all of its.", "devices"),
    "leases_unknown": Word("Leases that no fresh report confirms, as after a restart.", "leases"),
    # explanation
    "want": Word("What a lease would ask for."),
    "load": Word("A model that somebody thinks of loading."),
    "ModelLoad.model": Word("Name of the model."),
    "config": Word("The config.json of a model that is not known by name."),
    "form": Word("Of the weights: fp16, q4_k_m, ..."),
    "kv_form": Word("Of the cache: fp16, fp8, ..."),
    "context": Word("Tokens of one sequence.", "tokens"),
    "sequences": Word("Sequences whose cache has to fit at a time.", "sequences"),
    "max_num_batched_tokens": Word("The engine's setting of this name.", "tokens"),
    "max_num_sequences": Word("The engine's setting of this name.", "sequences"),
    "shards": Word("Cards that share the model.", "devices"),
    "fits": Word("Whether it would be granted now."),
    "Explained.memory": Word("Bytes on each device that were asked for.", "bytes"),
    "Explained.devices": Word("The devices that would be granted."),
    "Explained.reason": Word("Why not; empty: it fits."),
    "free": Word("The smallest set of leases whose end would let it fit; null: there is none, or none is needed."),
    "is_smallest": Word("Whether it is certain that no set has fewer leases."),
    "gpu_memory_utilization": Word("Part of its card that the engine takes for itself.", "thousandths"),
    "swap": Word("Of the host's memory, for blocks that are swapped out.", "bytes"),
    "estimate": Word("What the model would take; null: none was asked for."),
    "obstacles": Word("The devices that match, with what stands in the way."),
    "Obstacle.why": Word("What stands in the way there; empty: nothing."),
    "frees": Word("Bytes on each of its devices that would help.", "bytes"),
    "ends_in_ms": Word("When it ends unless it is renewed.", "ms"),
    "Freeable.devices": Word("Names of its devices."),
    "weights": Word("Weights.", "bytes"),
    "kv_cache": Word("Cache for all tokens.", "bytes"),
    "activation": Word("What computing takes over the weights.", "bytes"),
    "overhead": Word("Context, libraries and graphs of the process.", "bytes"),
    "kv_per_token": Word("Cache for one token.", "bytes"),
    "tokens": Word("Tokens that the cache would hold.", "tokens"),
    # probes
    "gate": Word("What the probe has enforced; null: nothing is known."),
    "admitted": Word("Processes that were let in to load.", "processes"),
    "GateReport.refused": Word("Processes that were not.", "processes"),
    "stale": Word("Answers and orders of the manager that were too old.", "messages"),
    "ended": Word("Processes that the probe has ended.", "processes"),
    "Holding.devices": Word("The uuids of its cards on this host."),
    "Holding.memory": Word("Bytes on each of them.", "bytes"),
    "complete": Word("Whether these are all: then one that is not told of has ended."),
    "HoldingsReply.leases": Word("The leases on the cards of this host."),
    "ending": Word("Whether it cannot be renewed any more."),
    "spared": Word("Of these, those that had memory there before the lease: only if they have shown it at the gate."),
    "Kill.service": Word("Who tells."),
    "Kill.what": Word("What is told."),
    "pid": Word("Process id on the host, as the driver sees it."),
    "started": Word("When the process started; a pid that is used again is another process.", "ticks since boot"),
    "Process.pid": Word("Process id on the host, as the driver sees it.", "id"),
    "ProcessMemory.pid": Word("Process id on the host, as the driver sees it.", "id"),
    "lease": Word("Names the lease."),
    "devices": Word("The devices."),
    "LeaseStatus.devices": Word("Names of the devices."),
    "device": Word("Name of the device: <host>/<uuid>."),
    "host": Word("Name of the host."),
    "Status.host": Word("Only this host; null: all."),
    "uuid": Word("The card's own id."),
    "index": Word("Number of the card on its host, as for CUDA_VISIBLE_DEVICES.", "number"),
    "expires_at_ms": Word("When it ends unless it is renewed.", _MS_CLOCK),
    "expires_in_ms": Word("The same from the moment of the answer.", "ms"),
    "Renew.fence": Word("The fence that came with the lease."),
    "Release.fence": Word("The fence that came with the lease."),
    "Redeclare.fence": Word("The fence that came with the lease."),
    "overuse": Word("Bytes that the holder's processes use beyond the lease, as last observed.", "bytes"),
    "outcome": Word("How the lease ended, which may have been before."),
    "held": Word("Whether the lease counts now; if not, it is lost."),
    "adopted": Word("Whether it had been forgotten."),
    # refusal
    "reason": Word("Why not."),
    "Lost.reason": Word("Why the lease has ended."),
    "Lost.service": Word("Who tells."),
    "Lost.what": Word("What is told."),
    "closest": Word("The device that came closest."),
    "missing": Word("How many bytes it lacks.", "bytes"),
    "waiting": Word("Requests that stand in line.", "requests"),
    "now_ms": Word("The time of the answer.", _MS_CLOCK),
    "retry_in_ms": Word("When it may fit if no holder renews; null: no waiting helps.", "ms"),
    # status
    "recovering": Word("Whether a loss of data still keeps grants back."),
    "leases": Word("The leases, at most 512."),
    "DeviceStatus.leases": Word("Leases on the device.", "leases"),
    "leases_total": Word("How many leases there are.", "leases"),
    "counters": Word("What has happened so far."),
    "settings": Word("The rules that hold for all devices."),
    "state": Word("State of the device."),
    "LeaseStatus.state": Word("held, or ending: it cannot be renewed, and counts until its holder must have stopped."),
    "why": Word("What was seen, for people; null when nothing is wrong."),
    "cordoned": Word("Whether nothing more is granted there."),
    "fresh": Word("Whether there is a report that is new enough."),
    "age_ms": Word("Age of the last report; null: there is none.", "ms"),
    "total": Word("Memory of the card; null: not known.", "bytes"),
    "reserved": Word("What the driver keeps for itself; null: not known.", "bytes"),
    "used": Word("Memory in use, as the driver says; null: not known.", "bytes"),
    "DeviceStatus.granted": Word("Sum of the leases.", "bytes"),
    "charged": Word("Sum over the leases of the larger of grant and observed use.", "bytes"),
    "foreign": Word("Used by processes without a lease; null: not known.", "bytes"),
    "room": Word("What could be granted now; null: not known.", "bytes"),
    "overused": Word("Leases whose processes use more than was granted.", "leases"),
    "utilisation": Word("Part of the time in which the card was busy; null: not known.", "per cent"),
    "temperature": Word("Temperature of the card; null: not known.", "degrees Celsius"),
    "power_mw": Word("Power of the card; null: not known.", "milliwatts"),
    "parent": Word("The card that this is a part of; empty: a whole card."),
    "memory_utilisation": Word("Part of the time in which the memory was busy; no sign of saturation.", "per cent"),
    "sm_activity": Word("Activity of the multiprocessors, from counters; null: not known.", "per cent"),
    "dram_activity": Word("Part of the memory's bandwidth that is used, from counters; null: not known.", "per cent"),
    "memory_temperature": Word("Temperature of the memory; null: not known.", "degrees Celsius"),
    "slowdown_at": Word("Where the card makes itself slower; null: not known.", "degrees Celsius"),
    "margin": Word("How far the card is from that; null: not known.", "degrees Celsius"),
    "power_limit_mw": Word("The limit of its power; null: not known.", "milliwatts"),
    "clock_mhz": Word("Clock of the multiprocessors; null: not known.", "MHz"),
    "memory_clock_mhz": Word("Clock of the memory; null: not known.", "MHz"),
    "throttle": Word("Why the clocks are low; empty: they are not; null: not known."),
    "pcie_tx": Word("Sent on the bus; null: not known.", "bytes/s"),
    "pcie_rx": Word("Received on the bus; null: not known.", "bytes/s"),
    "numa_node": Word("The NUMA node that the card is on; null: not known.", "number"),
    "cpus": Word("CPUs that are near the card; null: not known."),
    "bus_id": Word("Where the card is on the bus; null: not known."),
    "pcie_generation": Word("Generation of its link to the bus; null: not known.", "number"),
    "pcie_width": Word("Lanes of its link to the bus; null: not known.", "lanes"),
    "links": Word("Cards that it is directly linked to; empty: none; null: not known."),
    "divided": Word("Whether the card is divided, or a part of one; null: not known."),
    "principal": Word("Whose lease it is."),
    "LeaseStatus.memory": Word("Bytes on each device.", "bytes"),
    "observed": Word("Bytes that its processes use; null: not known.", "bytes"),
    "Counters.granted": Word("Leases granted.", "leases"),
    "released": Word("Leases given back.", "leases"),
    "expired": Word("Leases that were not renewed in time.", "leases"),
    "device_lost": Word("Leases that ended with their device.", "leases"),
    "dropped": Word("Leases that an operator has ended.", "leases"),
    "devices_lost": Word("Devices that were lost.", "devices"),
    "refused": Word("Refusals since the present owner started.", "requests"),
    # settings
    "reserve": Word("Kept free on each device.", "bytes"),
    "max_ttl_ms": Word("The longest time to live; a longer one is cut to it.", "ms"),
    "margin_ms": Word("Memory is freed so much later than the lease expires.", "ms"),
    "fresh_ms": Word("A report older than this is none.", "ms"),
    "silence_ms": Word("A host that is silent for longer has lost its devices.", "ms"),
    "max_waiting": Word("How many may stand in line.", "requests"),
    "cache_use_ms": Word("Who uses cached weights and is silent for longer has left them.", "ms"),
    "evict_ask_ms": Word("So long an owner of cached weights has to unload them when asked to.", "ms"),
    "evict_sleep_ms": Word("So long it has to give their memory back when put to sleep.", "ms"),
    "evict_kill_ms": Word("So long after the kill their memory has to be back.", "ms"),
    # administration
    "target": Word("A host, or a device: <host>/<uuid>."),
    "freed_in_ms": Word("When its memory is free at the latest.", "ms"),
    # reports
    "boot": Word("Drawn when the probe starts, so that its counting is told from that of the one before."),
    "seq": Word("Counts the reports of this probe.", "reports"),
    "Report.at_ms": Word("When it looked, by a clock of its machine that only goes forward.", "ms"),
    "lost": Word("The card is known and does not answer."),
    "ProcessMemory.memory": Word("What the process uses; null: the driver cannot tell.", "bytes"),
    "DeviceReport.processes": Word("Processes on the card; null: the driver does not tell which there are."),
    # messages
    "Cordoned": Word("Whether anything is granted there now."),
    "Dropped": Word("The lease has ended."),
    "Forgotten": Word("The device is not in the ledger any more."),
    "Configured": Word("The settings as they are now."),
}

PARTS: Final = (gpu_moves, gpu_advice, gpu_cache, gpu_kv)

CATALOG: Final = ServiceCatalog(
    name=wire.SERVICE,
    summary="GPU memory that agents share: leases with a time to live, never more than the card has.",
    operations=(*OPERATIONS, SET_RIGHTS, *(operation for part in PARTS for operation in part.OPERATIONS)),
    words={**WORDS, **gpu_moves.WORDS, **gpu_advice.WORDS, **gpu_cache.WORDS, **gpu_kv.WORDS},
    events=(*EVENTS, *gpu_cache.EVENTS, *gpu_advice.EVENTS),
    tellings=(*TELLINGS, *gpu_moves.TELLINGS, *gpu_cache.TELLINGS, *gpu_kv.TELLINGS),
)
