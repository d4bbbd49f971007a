"""The leases of hosts, and what operators allow agents to lease: the part of the state that `quotas` decides about."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bursar.contracts.monitor_host import LeaseUse
from bursar.contracts.monitor_quota import MAX_LEASES, MAX_TTL_MS
from bursar_monitor.sharing import Held

MAX_RULES: Final = 256
USE_FRESH_MS: Final = 10_000
"""What is older says nothing about now."""

NOTHING: Final = Held(0, 0, 0)


class Lease(NamedTuple):
    """``cpu``, ``memory``, ``disk``: guaranteed; ``most_``: up to where it may borrow; ``until``: when it expires (ms);
    ``claims``: its processes as (pid, start)."""

    agent: str
    host: str
    cpu: int
    memory: int
    disk: int
    most_cpu: int
    most_memory: int
    ttl_ms: int
    until: int
    claims: tuple[tuple[int, int], ...]
    note: str
    cpu_held: Held = NOTHING
    memory_held: Held = NOTHING


class QuotaRule(NamedTuple):
    """What an agent may lease on a host, together; None: no bound."""

    weight: int
    cpu: int | None
    memory: int | None
    disk: int | None


OPEN: Final = QuotaRule(100, None, None, None)


class Use(NamedTuple):
    """What the probe has told of a lease, and when."""

    told: LeaseUse
    at: int


class Quotas:
    """Durable: ``leases`` by id, ``rules`` by agent pattern, ``closed_until`` (nothing is granted before: leases may be
    out there that the journal has lost), ``revision``. Made of these: ``by_host``. Volatile: ``uses``, ``look_at``,
    ``todo`` (what was due at the last look)."""

    __slots__ = ("by_host", "closed_until", "leases", "look_at", "revision", "rules", "todo", "uses")

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.rules: dict[str, QuotaRule] = {}
        self.closed_until = 0
        self.revision = 0
        self.by_host: dict[str, dict[str, None]] = {}
        self.uses: dict[str, Use] = {}
        self.look_at = 0
        self.todo: deque[Any] = deque()

    def close(self, now: int) -> None:
        """Leases may be out there that the journal has lost: nothing is granted before they are over."""
        self.closed_until = now + MAX_TTL_MS

    def put(self, name: str, lease: Lease) -> None:
        self.leases[name] = lease
        self.by_host.setdefault(lease.host, {})[name] = None

    def drop(self, name: str) -> None:
        lease = self.leases.pop(name)
        self.uses.pop(name, None)
        here = self.by_host[lease.host]
        del here[name]
        if not here:
            del self.by_host[lease.host]

    def on(self, host: str) -> Iterator[tuple[str, Lease]]:
        """The leases of a host, in the order in which they were granted."""
        return ((name, self.leases[name]) for name in self.by_host.get(host, ()))

    def rule_of(self, agent: str) -> QuotaRule:
        """That of the most exact pattern."""
        if agent in self.rules:
            return self.rules[agent]
        fitting = [p for p in self.rules if p.endswith("*") and agent.startswith(p[:-1])]
        return self.rules[max(fitting, key=len)] if fitting else OPEN

    def use_of(self, name: str, now: int) -> LeaseUse | None:
        """What a lease uses, if that is known now."""
        use = self.uses.get(name)
        return use.told if use is not None and now - use.at <= USE_FRESH_MS else None

    def heard(self, host: str, uses: tuple[LeaseUse, ...], now: int) -> None:
        """What the probe of a host tells of its leases."""
        for use in uses:
            lease = self.leases.get(use.lease)
            if lease is not None and lease.host == host:
                self.uses[use.lease] = Use(use, now)

    def dump(self) -> dict[str, Any]:
        return {
            "leases": [[name, *plain(lease)] for name, lease in self.leases.items()],
            "rules": [[name, *rule] for name, rule in self.rules.items()],
            "closed_until": self.closed_until,
            "revision": self.revision,
        }

    @classmethod
    def load(cls, value: dict[str, Any]) -> Quotas:
        made = cls()
        for name, *fields in value["leases"]:
            made.put(name, lease_of(fields))
        made.rules = {name: QuotaRule(*fields) for name, *fields in value["rules"]}
        made.closed_until, made.revision = value["closed_until"], value["revision"]
        return made

    def validate(self) -> None:
        """Raise AssertionError unless the parts agree."""
        assert {name for names in self.by_host.values() for name in names} == self.leases.keys()
        for host, names in self.by_host.items():
            assert 0 < len(names) <= MAX_LEASES
            assert all(self.leases[name].host == host for name in names)
        for lease in self.leases.values():
            assert lease.cpu <= lease.most_cpu
            assert lease.memory <= lease.most_memory
            assert 0 <= lease.cpu_held.limit <= lease.most_cpu
            assert 0 <= lease.memory_held.limit <= lease.most_memory
        assert len(self.rules) <= MAX_RULES
        assert self.uses.keys() <= self.leases.keys()


def plain(lease: Lease) -> list[Any]:
    return [
        *lease[:9], [list(claim) for claim in lease.claims], lease.note, list(lease.cpu_held), list(lease.memory_held),
    ]  # fmt: skip


def lease_of(fields: list[Any]) -> Lease:
    """A lease of its plain fields."""
    *plain_fields, claims, note, cpu, memory = fields
    made = tuple((pid, started) for pid, started in claims)
    return Lease._make([*plain_fields, made, note, Held(*cpu), Held(*memory)])
