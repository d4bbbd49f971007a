"""The admission rule once more, from scratch: adds up what was granted and what the last reports said on every
question, and shares no code with the manager."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

from bursar.contracts import gpu as wire


@dataclass
class Granted:
    """One lease: bytes by device, who allocates (pid, start), until when it counts (ms)."""

    shares: dict[str, int]
    processes: set[tuple[int, int | None]]
    until: int


@dataclass
class Oracle:
    """``reports``: (when, report) by host."""

    reserve: int
    fresh_ms: int
    leases: dict[str, Granted] = field(default_factory=dict)
    reports: dict[str, tuple[int, wire.Report]] = field(default_factory=dict)
    unsure_until: dict[str, int] = field(default_factory=dict)

    def room(self, device: str, now: int) -> int | None:
        """Bytes that may be granted; None when that is not known."""
        host, _, uuid = device.partition("/")
        if host not in self.reports:
            return None
        at, report = self.reports[host]
        seen = next((row for row in report.devices if row.uuid == uuid and not row.lost), None)
        if (
            seen is None
            or seen.used is None
            or seen.total is None
            or now - at > self.fresh_ms
            or at < self.unsure_until.get(device, 0)
        ):
            return None
        total, attributed = (seen.reserved or 0) + self.reserve, 0
        for lease in self.leases.values():
            if device in lease.shares:
                rows = [row for row in seen.processes or () if (row.pid, row.started) in lease.processes]
                observed = sum(row.memory or 0 for row in rows)
                total += max(lease.shares[device], observed)
                attributed += observed
        return seen.total - total - max(0, seen.used - attributed)

    def fits(self, devices: list[str], memory: int, count: int, now: int) -> bool:
        """Whether some set of so many devices of one host has room."""
        free = [name for name in devices if (room := self.room(name, now)) is not None and room >= memory]
        sets = combinations(free, count)
        return any(len({name.partition("/")[0] for name in names}) == 1 for names in sets)
