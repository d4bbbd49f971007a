"""The leases of this host, and what keeps their processes within them.

The plan comes from the monitor (``host-plan``); the processes are those that a lease claims, and their children. They
are kept to their limits by cgroups where those may be written to (`cgroups`), otherwise by what one process may do to
another of the same user:

- memory: ``RLIMIT_DATA``, renewed at each look: what the process has plus what its lease has left. Beyond that it gets
  no more memory, and keeps what it has;
- processor: it may run on as many cores as its limit needs, rounded up (``sched_setaffinity``);
- disk is only counted and told: a limit of it is kept by what the monitor grants.

When a lease is over its processes get back what they had. Nobody can lease for others' processes: what is a service of
the fleet, or has another agent's credentials, is not touched.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bursar.client.gpu import started_at
from bursar.contracts.monitor_host import LeaseUse
from bursar.contracts.monitor_quota import PlannedLease
from bursar_monitor.cgroups import Cgroups
from bursar_monitor.pools import LEASED
from bursar_monitor.processes import PROC, Life, Processes, Start


class Enforcer:
    """Of one host. ``proc``: where the system shows its processes."""

    def __init__(self, processes: Processes, cgroups: Cgroups | None = None, proc: Path = PROC) -> None:
        self._processes = processes
        self._cgroups = cgroups
        self._proc = proc
        self._plan: dict[str, PlannedLease] = {}
        self._limited: dict[Start, str] = {}
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]

    @property
    def plan(self) -> tuple[PlannedLease, ...]:
        return tuple(self._plan.values())

    def take(self, plan: Sequence[PlannedLease]) -> None:
        """The leases are these from now on."""
        self._plan = {lease.lease: lease for lease in plan}
        self._processes.claim({(claim.pid, claim.started): lease.lease for lease in plan for claim in lease.processes})

    def uses(self) -> tuple[LeaseUse, ...]:
        """What each lease uses, by the newest look at the processes; and keep them within it."""
        members: dict[str, list[Life]] = {lease: [] for lease in self._plan}
        for life in self._processes.alive.values():
            if life.lease in members and _may_be_of(life, self._plan[life.lease].agent):
                members[life.lease].append(life)
        self._release(members)
        if self._cgroups is not None:
            self._cgroups.sweep(self._plan)
        return tuple(self._use(self._plan[lease], lives) for lease, lives in members.items())

    def _use(self, lease: PlannedLease, lives: list[Life]) -> LeaseUse:
        cpu = sum(life.cpu_milli for life in lives)
        memory = sum(life.stat.rss for life in lives)
        shares = [
            used * 1_000 // limit for used, limit in ((cpu, lease.cpu_milli), (memory, lease.memory_bytes)) if limit
        ]
        return LeaseUse(
            lease=lease.lease,
            processes=len(lives),
            cpu_milli=cpu,
            memory_bytes=memory,
            used_permille=max(shares, default=0),
            held_by=self._keep(lease, lives, memory),
        )

    def _keep(self, lease: PlannedLease, lives: list[Life], memory: int) -> Literal["cgroup", "rlimit", "nothing"]:
        if not lives:
            return "nothing"
        groups = self._cgroups
        if (
            groups is not None
            and groups.limit(lease.lease, lease.cpu_milli, lease.memory_bytes, lease.weight)
            and groups.join(lease.lease, (life.pid for life in lives))
        ):
            return "cgroup"
        left = lease.memory_bytes - memory
        done = [self._limit(life, lease, left) for life in lives]
        return "rlimit" if all(done) else "nothing"

    def _limit(self, life: Life, lease: PlannedLease, left: int) -> bool:
        """Keep one process; whether that may be done."""
        try:
            if lease.memory_bytes:
                _set_data(life.pid, self._data(life.pid) + max(left, 0))
            if lease.cpu_milli:
                self._pin(life.pid, cores_for(lease, self._cores))
        except (OSError, ValueError, AttributeError):  # it has ended, is somebody else's, or the system cannot do it
            return False
        self._limited[life.pid, life.stat.started] = lease.lease
        return True

    def _pin(self, pid: int, cores: set[int]) -> None:
        """All threads of a process; those that it starts inherit it."""
        for thread in (self._proc / str(pid) / "task").iterdir():
            number = int(thread.name)
            with contextlib.suppress(ProcessLookupError):
                if os.sched_getaffinity(number) != cores:
                    os.sched_setaffinity(number, cores)

    def _data(self, pid: int) -> int:
        """Bytes that ``RLIMIT_DATA`` counts."""
        for line in (self._proc / str(pid) / "status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1_024
        raise ValueError(pid)

    def _release(self, members: dict[str, list[Life]]) -> None:
        """Give back to processes whose lease is over what they had."""
        held = {(life.pid, life.stat.started) for lives in members.values() for life in lives}
        for name in [name for name in self._limited if name not in held]:
            del self._limited[name]
            if started_at(name[0]) == name[1]:
                with contextlib.suppress(OSError, ValueError):
                    _set_data(name[0], resource.RLIM_INFINITY)
                    self._pin(name[0], set(self._cores))


def _set_data(pid: int, soft: int) -> None:
    """The soft limit alone, so that it can be raised again; never above the hard one."""
    hard = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or soft > hard):
        soft = hard
    resource.prlimit(pid, resource.RLIMIT_DATA, (soft, hard))


def cores_for(lease: PlannedLease, cores: Sequence[int]) -> set[int]:
    """As many as its limit needs, rounded up; other leases begin at other cores."""
    count = min(len(cores), max(1, -(-lease.cpu_milli // 1_000)))
    first = sum(map(ord, lease.lease)) % len(cores)
    return {cores[(first + place) % len(cores)] for place in range(count)}


def _may_be_of(life: Life, agent: str) -> bool:
    """Whether a process may belong to a lease of this agent: it is nobody's, or this agent's."""
    return life.group in {LEASED, f"agent.{agent}"}
