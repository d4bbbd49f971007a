"""Limits by the kernel: one cgroup (version 2) for each lease, below a directory that was delegated to the probe.

The directory's parent must be of cgroup 2 and pass the controllers ``cpu`` and ``memory`` on: as root, or because
systemd has delegated it (``Delegate=cpu memory`` in the probe's unit). Where that is not so, `Cgroups.open` gives
nothing, and the limits are those of processes (`host_limits`).

Memory is kept in two steps: above ``memory.high`` the processes are slowed down and give back, above ``memory.max``, an
eighth more, the kernel kills. A group whose lease is over stays as it is until its last process has ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PERIOD_US: Final = 100_000
LEAST_QUOTA_US: Final = 1_000
"""The kernel takes no smaller one."""
CONTROLLERS: Final = frozenset({"cpu", "memory"})
PREFIX: Final = "lease-"


class Cgroups:
    """``root``: the directory with a group for each lease."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def open(cls, root: Path) -> Cgroups | None:
        """None where there is no cgroup 2 that may be written to."""
        try:
            offered = set((root.parent / "cgroup.controllers").read_text(encoding="ascii").split())
            if not offered >= CONTROLLERS:
                return None
            root.mkdir(exist_ok=True)
            for place in (root.parent, root):
                (place / "cgroup.subtree_control").write_text("+cpu +memory", encoding="ascii")
        except (OSError, ValueError):
            return None
        return cls(root)

    def limit(self, lease: str, cpu_milli: int, memory: int, weight: int) -> bool:
        """Make the group, or change it; whether the kernel has taken it. 0: no limit of that kind."""
        group = self._root / f"{PREFIX}{lease}"
        quota = max(LEAST_QUOTA_US, cpu_milli * PERIOD_US // 1_000) if cpu_milli else "max"
        settings = {
            "cpu.max": f"{quota} {PERIOD_US}",
            "cpu.weight": str(weight),
            "memory.high": str(memory) if memory else "max",
            "memory.max": str(memory + memory // 8) if memory else "max",
        }
        try:
            group.mkdir(exist_ok=True)
            for name, value in settings.items():
                (group / name).write_text(value, encoding="ascii")
        except OSError:
            return False
        return True

    def join(self, lease: str, pids: Iterable[int]) -> bool:
        """Move processes into the group; whether all that still live are in it."""
        procs = self._root / f"{PREFIX}{lease}" / "cgroup.procs"
        try:
            inside = set(procs.read_text(encoding="ascii").split())
        except OSError:
            return False
        done = True
        for pid in pids:
            if str(pid) in inside:
                continue
            try:
                procs.write_text(str(pid), encoding="ascii")
            except ProcessLookupError:
                continue
            except OSError:
                done = False
        return done

    def sweep(self, leases: Iterable[str]) -> None:
        """Remove the groups of other leases that have no processes any more."""
        kept = {f"{PREFIX}{lease}" for lease in leases}
        with contextlib.suppress(OSError):
            for group in self._root.glob(f"{PREFIX}*"):
                if group.name not in kept:
                    with contextlib.suppress(OSError):  # it still has some
                        group.rmdir()
