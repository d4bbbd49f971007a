"""Whose process it is.

A holder names the processes of its lease, and what these use is the lease's, not foreign. From here nobody can see that
a process is his who names it. Two rules keep a stranger's memory from being hidden behind a lease:

- A process that is named by a lease is its principal's for as long as one of his leases names it. Who names it as well
  has not named it (`own`).
- What a process had on a card before a lease was granted there, and was no lease's, stays foreign to that lease for as
  long as the process has it (`before`). A lower figure in a later report counts from then on (`lower`): what was freed
  and is loaded again is the lease's.

What remains: who names a stranger that begins to use memory only after the lease was granted hides that memory, up to
his lease. A process that shows its lease at the probe's gate (`gate`) is known by the kernel's word; that it has not
done so is not held against it here, since not every host has a gate. After a loss of data an adopted lease is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from bursar.kernel.bugs import seeded
from bursar_gpu_manager.device import Before, Device, Lease, Pid, View

if TYPE_CHECKING:
    from bursar_gpu_manager.state import State

MOST_BEFORE: Final = 32
"""Processes of a card that are remembered with a lease, those with most memory first."""

Floors = dict[str, dict[Pid, int]]
"""Bytes that are foreign to a lease, by device and process."""


class Claims:
    """Principals by process of a host, with how many of their leases name it."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[tuple[str, Pid], tuple[str, int]] = {}

    def owner(self, host: str, pid: Pid) -> str | None:
        return self._of.get((host, pid), (None, 0))[0]

    def is_of(self, leases: Iterable[Lease]) -> bool:
        """Whether it says what these leases name."""
        found = Claims()
        for lease in leases:
            found.add(lease)
        return found._of == self._of

    def add(self, lease: Lease) -> None:
        for host in hosts_of(lease.devices):
            for pid in lease.processes:
                self._of[host, pid] = (lease.principal, self._of.get((host, pid), ("", 0))[1] + 1)

    def remove(self, lease: Lease) -> None:
        for host in hosts_of(lease.devices):
            for pid in lease.processes:
                count = self._of[host, pid][1] - 1
                if count:
                    self._of[host, pid] = (lease.principal, count)
                else:
                    del self._of[host, pid]


def hosts_of(devices: Iterable[tuple[str, int]]) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name, _ in devices))


def own(state: State, principal: str, devices: Iterable[tuple[str, int]], named: Iterable[Pid]) -> list[Pid]:
    """Of the processes that a holder names those that nobody else has named; each once."""
    hosts = [] if seeded("gpu_others_processes_are_named") else hosts_of(devices)
    return [
        pid for pid in dict.fromkeys(named) if all(state.claims.owner(host, pid) in (None, principal) for host in hosts)
    ]


def before(name: str, unclaimed: Mapping[Pid, int]) -> list[Before]:
    """What processes have on a device that is no lease's, as a lease that is granted now remembers it."""
    rows = sorted(((memory, pid) for pid, memory in unclaimed.items() if memory > 0), reverse=True)
    return [(name, pid, started, memory) for memory, (pid, started) in islice(rows, MOST_BEFORE)]


def floors_of(rows: Iterable[Before]) -> Floors:
    found: Floors = {}
    for name, pid, started, memory in rows:
        found.setdefault(name, {})[pid, started] = memory
    return found


def lower(state: State, device: Device, view: View) -> None:
    """A report says what processes have now. One whose start, or memory, it does not tell may have it still."""
    if view.report.processes is None:
        return
    unsure = {row.pid for row in view.report.processes if row.started is None or row.memory is None}
    for key in device.leases:
        floors = state.floors.get(key, {}).get(device.name)
        if floors:
            for pid in [pid for pid in floors if pid[0] not in unsure]:
                floors[pid] = min(floors[pid], view.processes.get(pid, 0))
                if not floors[pid]:
                    del floors[pid]
