"""The cards as placement sees them, kept beside the ledger: one row each, made anew only where something has changed.

A row changes when a lease on the card begins, ends or is bound, when its host reports, is cordoned, or has not reported
for too long; whoever changes one of these says so (`State.mark`). `choose` brings the rows up to date first, so what it
reads is what `fitting` says now. Heat and load are folded from reports (`see`); after a take-over they are unknown
until the first, which is no reason to wait, but to take another card first.

All of it is volatile or follows from the ledger: the decision that is journaled names the devices that were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

from bursar_gpu_manager.contention import Contention, Window
from bursar_gpu_manager.fleet import Ask, Card, Fleet, Role
from bursar_gpu_manager.thermal import HW_POWER_BRAKE, HW_SLOWDOWN, HW_THERMAL, SW_THERMAL, Heat, Thermometer, heat_of

if TYPE_CHECKING:
    from bursar.contracts.gpu import DeviceReport
    from bursar_gpu_manager.device import Device, View

WINDOW_MS: Final = 1_000

BITS: Final = {
    "hardware": HW_SLOWDOWN,
    "thermal_software": SW_THERMAL,
    "thermal_hardware": HW_THERMAL,
    "power_brake": HW_POWER_BRAKE,
}

ROLES: Final[Mapping[str, Role]] = {"primary": "primary", "secondary": "secondary"}


class Row(NamedTuple):
    """What can be granted on a card now, and whether anything may be."""

    room: int
    usable: bool


class Sheet:
    """Rows of all devices of the ledger, by name. ``improved``: something may fit now that did not when somebody looked
    last (who looks sets it to False)."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.heats: dict[str, Thermometer] = {}
        self.loads: dict[str, Contention] = {}
        self.engines: dict[str, tuple[str, Window]] = {}
        self.improved = True
        self._window_at: dict[str, int] = {}
        self._told: dict[str, dict[str, Card]] = {}
        self._changed: dict[str, bool] = {}
        self._stale: list[tuple[int, str]] = []

    def mark(self, name: str) -> None:
        self._changed[name] = True

    def add(self, device: Device) -> None:
        told = self._told.get(device.host, {}).get(device.name)
        self.fleet.put(told or Card(device.name, device.host, device.index))
        self.improved = True
        self.mark(device.name)

    def remove(self, name: str) -> None:
        self.fleet.remove(name)
        for known in (self.heats, self.loads, self.engines, self._window_at, self._changed):
            known.pop(name, None)

    # ---- engines

    def tell_engine(self, name: str, lease: str, window: Window) -> None:
        """How busy an engine under this lease keeps a card, by its own curve: for cards that cannot tell themselves."""
        self.engines[name] = (lease, window)

    def end(self, lease: str, names: Iterable[str]) -> None:
        """A lease on these cards has ended, and what its engine has told with it."""
        for name in names:
            if self.engines.get(name, ("",))[0] == lease:
                del self.engines[name]

    # ---- reports

    def see(self, host: str, views: Mapping[str, View], labels: Mapping[str, str], now: int, until: int) -> None:
        """A host has reported; that is fresh ``until`` then. What its devices are that are not in the ledger yet is
        kept for when they are."""
        heappush(self._stale, (until + 1, host))
        islands = _islands(view.report for view in views.values())
        cards = {
            name: _card(name, host, view.report, labels, islands.get(view.report.uuid, -1))
            for name, view in views.items()
        }
        self._told[host] = cards
        for name, card in cards.items():
            if name in self.fleet.cards:
                if self.fleet.cards[name] != card:
                    self.fleet.put(card)
                    self.improved = True
                    self.mark(name)
                self._read(name, views[name].report, now)

    def _read(self, name: str, report: DeviceReport, now: int) -> None:
        """Once a second, and at once what is worse: the rate at which a card gets warm is taken over many readings."""
        bits = sum(BITS.get(reason, 0) for reason in report.throttle or ())
        is_due = now >= self._window_at.get(name, -WINDOW_MS) + WINDOW_MS
        if is_due or heat_of(report.margin, bits) > self.heat(name):
            self.heats.setdefault(name, Thermometer()).read(report.margin, bits, now)
        if is_due:
            self._window_at[name] = now
            told = Window(report.dram_activity, report.sm_activity)
            if told.bandwidth is None and name in self.engines:
                told = self.engines[name][1]
            self.loads.setdefault(name, Contention()).see(told)

    def heat(self, name: str) -> Heat:
        found = self.heats.get(name)
        return Heat.WARM if found is None else found.heat

    # ---- choosing

    def refresh(self, now: int, row_of: Callable[[str], Row], names_of: Callable[[str], Iterable[str]]) -> None:
        """Bring up to date what has changed, and what is of hosts that may have become silent (`names_of` a host)."""
        while self._stale and self._stale[0][0] <= now:
            for name in names_of(heappop(self._stale)[1]):
                self._changed[name] = True
        for name in self._changed:
            if name in self.fleet.cards:
                row, load = row_of(name), self.loads.get(name)
                heat = self.heat(name)
                more = self.fleet.change(name, row.room, row.usable, heat, *(() if load is None else (load.load,)))
                self.improved = self.improved or more
        self._changed.clear()

    def choose(self, ask: Ask, allowed: Iterable[str] | None) -> tuple[str, ...] | None:
        return self.fleet.choose(ask, allowed) if len(self.fleet) else None


def _card(name: str, host: str, report: DeviceReport, labels: Mapping[str, str], link: int) -> Card:
    """Where the card sits and what it is meant for: labels ``role``, or ``role-0`` for the card with number 0."""
    role = ROLES.get(labels.get(f"role-{report.index}", labels.get("role", "")), "any")
    numa = -1 if report.numa_node is None else report.numa_node
    return Card(name, host, report.index, role, numa, link)


def _islands(reports: Iterable[DeviceReport]) -> dict[str, int]:
    """A number for each group of cards that are linked to one another, directly or over others: its lowest index."""
    cards = {report.uuid: report for report in reports}
    found: dict[str, int] = {}
    for uuid in sorted(cards, key=lambda uuid: (cards[uuid].index, uuid)):
        if uuid in found or not cards[uuid].links or cards[uuid].parent:
            continue  # parts of a divided card have no links
        reached, number = [uuid], cards[uuid].index
        while reached:
            one = reached.pop()
            if one in cards and one not in found and not cards[one].parent:
                found[one] = number
                reached += cards[one].links or ()
    return found
