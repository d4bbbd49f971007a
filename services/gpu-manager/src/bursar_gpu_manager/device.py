"""A device, a lease, and what a probe has seen of a device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bursar.contracts.gpu import DeviceReport

Pid = tuple[int, int]
"""(pid, ticks at which it started)."""

Before = tuple[str, int, int, int]
"""Device, pid, start, and the bytes that it had there before a lease was granted: see `claiming`."""


class Choice(NamedTuple):
    """What of a request holds for where its lease is moved to as well."""

    labels: tuple[tuple[str, str], ...] = ()
    apart: str = "no"
    strictly: bool = False

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Choice | tuple[()]:
        """From the journal, which knows lists and tuples only."""
        if not row:
            return ()
        labels, apart, strictly = row
        return cls(tuple((name, text) for name, text in labels), apart, strictly)


class Lease(NamedTuple):
    """``devices``: bytes by name of the device; ``emergency``: granted from the reserve; ``taken``: why it was taken
    away, "" while it is held; ``adopted``: it had been lost with the journal and its holder declared it; ``choice``:
    what it asked for of its devices, () where any would do; ``before``: see `claiming`."""

    principal: str
    ttl: int
    expires_at: int
    devices: tuple[tuple[str, int], ...]
    processes: tuple[Pid, ...]
    purpose: str
    note: str = ""
    emergency: bool = False
    group: str = ""
    choice: Choice | tuple[()] = ()
    taken: str = ""
    adopted: bool = False
    before: tuple[Before, ...] = ()


class View(NamedTuple):
    """What a fresh report says of one device, digested. ``used`` None: unknown. ``processes``: those whose memory and
    start are known; ``seen``: those whose start is; both are empty where the driver does not tell (`is_telling`)."""

    report: DeviceReport
    processes: Mapping[Pid, int]
    seen: frozenset[Pid]

    @property
    def is_telling(self) -> bool:
        """Whether it says which processes there are: one that is not in the list is not there."""
        return self.report.processes is not None

    def lacks(self, processes: Iterable[Pid]) -> bool:
        """Whether it is known that none of them is there."""
        return self.is_telling and self.seen.isdisjoint(processes)

    @property
    def used(self) -> int | None:
        return self.report.used

    @property
    def kept(self) -> int:
        """What the driver keeps for itself. A driver that does not tell counts it as used."""
        return self.report.reserved or 0

    @property
    def visible(self) -> int:
        """What processes can have between them. Views are made of cards whose size is known only."""
        return (self.report.total or 0) - self.kept


def view_of(report: DeviceReport) -> View:
    rows = report.processes or ()
    known = {
        (process.pid, process.started): process.memory
        for process in rows
        if process.started is not None and process.memory is not None
    }
    seen = frozenset((process.pid, process.started) for process in rows if process.started is not None)
    return View(report, known, seen)


class Device:
    """One card of the ledger. Durable: what it is, whether it is ``lost``, and ``unsure_until``: a report must be at
    least as new as this, because somebody whose lease ended by time may have used memory until then. Derived:
    ``leases`` (bytes by lease), and ``charge`` (None: to be computed)."""

    __slots__ = ("charge", "host", "index", "leases", "lost", "model", "name", "total", "unsure_until", "uuid")

    def __init__(self, host: str, uuid: str, index: int, model: str, total: int) -> None:
        self.name = f"{host}/{uuid}"
        self.host = host
        self.uuid = uuid
        self.index = index
        self.model = model
        self.total = total
        self.lost = False
        self.unsure_until = 0
        self.leases: dict[str, int] = {}
        self.charge: tuple[int, int, int, int] | None = None

    @property
    def row(self) -> tuple[str, int, str, int]:
        return (self.uuid, self.index, self.model, self.total)
