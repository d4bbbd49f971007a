"""The manager's state: what the journal rebuilds, and beside it the volatile part (reports, the line, counters).

`dump` is canonical: it tells the durable part as of the last event, so that equal histories give equal dumps,
whatever was observed, asked and refused in between. `load` is its inverse. `validate` checks what must hold between
the parts.
"""

from __future__ import annotations

from heapq import heapify, heappush
from typing import Any, NamedTuple

from bursar.contracts.gpu import GateReport, Settings
from bursar.kernel.rights import Rights
from bursar.kernel.rights import load as load_rights
from bursar_gpu_manager.ageing import Lag
from bursar_gpu_manager.cache_state import CacheState
from bursar_gpu_manager.claiming import Claims, Floors, floors_of
from bursar_gpu_manager.device import Choice, Device, Lease, View
from bursar_gpu_manager.estimates import Corrections
from bursar_gpu_manager.foretelling import Foretelling
from bursar_gpu_manager.kv_pool import Pool
from bursar_gpu_manager.moving import Moving
from bursar_gpu_manager.rollout import Rollouts
from bursar_gpu_manager.sheet import Sheet
from bursar_gpu_manager.throttling import Throttle
from bursar_gpu_manager.waiting import Kind, Line

REMEMBER_COUNT = 20_000
"""So many ended leases are remembered at least, to tell a late holder how its lease ended."""

NEVER = -(2**40)

COUNTED = ("granted", "released", "expired", "device_lost", "dropped", "devices_lost", "alarms")


class Ended(NamedTuple):
    """How a lease ended, and whose it was."""

    principal: str
    outcome: str


class Sight(NamedTuple):
    """The last report of a host: the probe's boot and number, when it was made; ``past``: boots that are over;
    ``views``: what it says, by name of the device; ``gate``: what it has enforced; ``lag``: None where the probe does
    not tell when it looks, and reports count as made when they come."""

    boot: str
    seq: int
    at: int
    past: tuple[str, ...]
    views: dict[str, View]
    gate: GateReport | None
    lag: Lag | None = None


class State:
    """All that the decider knows. Durable: ``at`` (time of the last event) to ``lost_at`` (when entries were found
    lost; -1: never), with ``alarms`` (bytes by name of a device or lease), ``cache`` and ``copies`` (owner and
    lease of a cached copy), ``movable`` (cost and hosts by
    lease) and ``moving`` (the plan that is carried out), ``rollouts`` (changes that workers
    try), ``pools`` (of KV pages, by lease); the rest is volatile (``planned_at``: when moves were looked for;
    ``kv_look_at``: when pools are), or made from the durable part (``agenda``: the ends of leases; ``hosts``: the
    devices by host; ``claims``: who has named which process; ``floors``: what leases remember of before them, which
    reports lower).
    ``matched``: devices by what is asked for of them, until these change;
    ``changed``: labels of hosts whose last report differs from the ledger; ``sheet``: what placement reads;
    ``suspects``: hosts whose last report may be a reason for an alarm, and ``alarmed_at``: when there was one;
    ``users_heard``: when who uses, waits for, or loads cached weights was heard last."""

    __slots__ = (
        "agenda",
        "alarmed_at",
        "alarms",
        "at",
        "cache",
        "cache_changed",
        "cache_wake",
        "changed",
        "claims",
        "copies",
        "cordoned",
        "corrections",
        "counts",
        "devices",
        "ended",
        "ended_before",
        "expected",
        "floors",
        "foretelling",
        "heard",
        "hosts",
        "kv_look_at",
        "labels",
        "leases",
        "line",
        "lost_at",
        "matched",
        "movable",
        "moving",
        "old_reports",
        "planned_at",
        "pools",
        "recovering_until",
        "refused",
        "rights",
        "rollouts",
        "scanned_at",
        "settings",
        "sheet",
        "sights",
        "silent",
        "source",
        "suspects",
        "throttles",
        "users_heard",
    )

    def __init__(self) -> None:
        self.at = 0
        self.settings = Settings()
        self.source = ""
        self.rights: Rights | None = None
        self.labels: dict[str, dict[str, str]] = {}
        self.devices: dict[str, Device] = {}
        self.leases: dict[str, Lease] = {}
        self.cordoned: dict[str, bool] = {}
        self.ended: dict[str, Ended] = {}
        self.ended_before: dict[str, Ended] = {}
        self.counts = dict.fromkeys(COUNTED, 0)
        self.recovering_until = 0
        self.lost_at = -1
        self.alarms: dict[str, int] = {}
        self.cache = CacheState()
        self.copies: dict[str, tuple[str, str]] = {}
        self.cache_changed = False
        self.cache_wake: int | None = None
        self.movable: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.moving = Moving()
        self.rollouts = Rollouts()
        self.pools: dict[str, Pool] = {}
        self.kv_look_at = 0
        self.planned_at = NEVER
        self.agenda: list[tuple[int, str]] = []
        self.claims = Claims()
        self.floors: dict[str, Floors] = {}
        self.hosts: dict[str, dict[str, Device]] = {}
        self.sights: dict[str, Sight] = {}
        self.heard: dict[str, int] = {}
        self.scanned_at = -1
        self.silent: list[str] = []
        self.changed: dict[str, dict[str, str]] = {}
        self.suspects: dict[str, bool] = {}
        self.alarmed_at: dict[str, int] = {}
        self.line = Line()
        self.matched: dict[Kind, dict[str, Device]] = {}
        self.sheet = Sheet()
        self.corrections = Corrections()
        self.foretelling = Foretelling()
        self.throttles: dict[str, Throttle] = {}
        self.users_heard: dict[tuple[str, str], int] = {}
        self.expected: dict[str, Any] = {}
        self.refused = 0
        self.old_reports = 0

    def how_ended(self, lease: str) -> Ended | None:
        return self.ended.get(lease) or self.ended_before.get(lease)

    def remember(self, lease: str, ended: Ended) -> None:
        """Keep how it ended; two generations, so that forgetting costs nothing per entry."""
        if len(self.ended) >= REMEMBER_COUNT:
            self.ended_before, self.ended = self.ended, {}
        self.ended[lease] = ended

    def change_devices(self) -> None:
        """What there is has changed, or what its hosts are called, or what may be used of it."""
        self.matched.clear()
        self.line.changed = True

    def add(self, device: Device) -> None:
        self.devices[device.name] = device
        self.sheet.add(device)
        self.hosts.setdefault(device.host, {})[device.name] = device

    def of_host(self, host: str) -> dict[str, Device]:
        return self.hosts.get(host, {})

    def view(self, device: Device) -> View | None:
        """What the last report of its host says of a device."""
        sight = self.sights.get(device.host)
        return None if sight is None else sight.views.get(device.name)

    def is_cordoned(self, device: Device) -> bool:
        return bool(self.cordoned) and (device.host in self.cordoned or device.name in self.cordoned)

    def hold(self, key: str, lease: Lease) -> None:
        self.leases[key] = lease
        self.claims.add(lease)
        if lease.before:
            self.floors[key] = floors_of(lease.before)

    def schedule(self, key: str, lease: Lease) -> None:
        heappush(self.agenda, (lease.expires_at, key))

    def touch(self, lease: Lease) -> None:
        """The charges of the lease's devices are to be computed anew."""
        for name, _ in lease.devices:
            device = self.devices.get(name)
            if device is not None:
                self.mark(device)

    def mark(self, device: Device) -> None:
        """Something about the device has changed: its charge, or whether it may be used."""
        device.charge = None
        self.sheet.mark(device.name)


def dump(state: State) -> dict[str, Any]:
    return {
        "at": state.at,
        "rights": None if state.rights is None else state.rights.dump(),
        "settings": state.settings.model_dump(),
        "source": state.source,
        "labels": [[host, sorted(labels.items())] for host, labels in state.labels.items()],
        "devices": [[d.host, *d.row, d.lost, d.unsure_until] for d in state.devices.values()],
        "leases": [[key, *lease] for key, lease in state.leases.items()],
        "cordoned": list(state.cordoned),
        "ended": [[key, *entry] for key, entry in state.ended.items()],
        "ended_before": [[key, *entry] for key, entry in state.ended_before.items()],
        "counts": [state.counts[name] for name in COUNTED],
        "recovering_until": state.recovering_until,
        "lost_at": state.lost_at,
        "alarms": [[subject, level] for subject, level in state.alarms.items()],
        "cache": state.cache.dump(),
        "copies": [[key, *held] for key, held in state.copies.items()],
        "movable": [[lease, cost, list(hosts)] for lease, (cost, hosts) in state.movable.items()],
        "moving": state.moving.dump(),
        "rollouts": state.rollouts.dump(),
        "pools": [[lease, pool.dump()] for lease, pool in state.pools.items()],
    }


def load(value: Any) -> State:
    state = State()
    state.at, state.source = value["at"], value["source"]
    state.rights = load_rights(value["rights"])
    state.settings = Settings.model_validate(value["settings"])
    state.recovering_until, state.lost_at = value["recovering_until"], value["lost_at"]
    state.labels = {host: dict(pairs) for host, pairs in value["labels"]}
    state.cordoned = dict.fromkeys(value["cordoned"], True)
    state.counts = dict(zip(COUNTED, value["counts"], strict=True))
    state.ended = {key: Ended(*entry) for key, *entry in value["ended"]}
    state.ended_before = {key: Ended(*entry) for key, *entry in value["ended_before"]}
    for host, uuid, index, model, total, lost, unsure_until in value["devices"]:
        device = Device(host, uuid, index, model, total)
        device.lost, device.unsure_until = lost, unsure_until
        state.add(device)
    state.alarms = dict(value["alarms"])
    state.cache = CacheState.load(value["cache"])
    state.cache.times = state.settings.eviction_times
    state.copies = {key: (owner, lease) for key, owner, lease in value["copies"]}
    state.cache_changed = bool(state.copies)
    state.movable = {lease: (cost, tuple(hosts)) for lease, cost, hosts in value["movable"]}
    state.moving = Moving.load(value["moving"])
    state.rollouts = Rollouts.load(value["rollouts"])
    state.pools = {lease: Pool.load(pool) for lease, pool in value["pools"]}
    for key, principal, ttl, expires_at, devices, processes, *rest in value["leases"]:
        shares = tuple((name, memory) for name, memory in devices)
        pids = tuple((pid, started) for pid, started in processes)
        purpose, note, emergency, group, choice, taken, adopted, there = rest
        own = (purpose, note, emergency, group, Choice.of_row(choice), taken, adopted, tuple(map(tuple, there)))
        state.hold(key, Lease(principal, ttl, expires_at, shares, pids, *own))
        for name, memory in shares:
            if name in state.devices:
                state.devices[name].leases[key] = memory
        state.agenda.append((expires_at, key))
    heapify(state.agenda)
    return state


def validate(state: State, now: int) -> None:
    """Raise AssertionError unless the parts of the state agree with one another."""
    assert not state.leases.keys() & (state.ended.keys() | state.ended_before.keys()), "a lease lives and has ended"
    for name, device in state.devices.items():
        assert name == device.name
        mine = {key: memory for key, lease in state.leases.items() for at, memory in lease.devices if at == name}
        assert device.leases == mine, f"{name}: leases"
    scheduled = set(state.agenda)
    for key, lease in state.leases.items():
        assert (lease.expires_at, key) in scheduled, f"{key} would never end"
        assert len(dict(lease.devices)) == len(lease.devices) > 0, f"{key}: devices"
    for subject, level in state.alarms.items():
        assert level > 0, f"{subject}: an alarm of nothing"
        assert subject in state.devices or subject in state.leases, f"{subject}: an alarm of what is not there"
    assert state.claims.is_of(state.leases.values()), "processes of leases that are not there"
    assert state.floors.keys() <= state.leases.keys(), "what was there before a lease that is not"
    assert state.pools.keys() <= state.leases.keys(), "a pool outlives its lease"
    for pool in state.pools.values():
        assert pool.pages.free >= 0, "pages are there twice"
    assert state.movable.keys() <= state.leases.keys(), "what has ended may be moved"
    assert state.copies.keys() <= state.cache.entries.keys(), "a copy that is not there has an owner"
    state.line.validate()
