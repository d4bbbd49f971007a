"""One budget: its meters, the time-outs of its reservations, and its line."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import NamedTuple

from bursar.contracts.limiter import BudgetSpec
from bursar_limiter.dimensions import Quantities
from bursar_limiter.meter import Meter, meters_of
from bursar_limiter.waiting import Line

MAX_LIVE = 100_000
"""Most reservations of one budget that may be in flight: bounds the memory whatever the limits are."""

MAX_HELD = MAX_LIVE // 4
"""Most of these that one principal may have, so that the rest is there for others."""

LOOKED_AT = 1_000
"""Time-outs that are looked at to say when enough will have ended."""


class Reservation(NamedTuple):
    """A permit that has not ended. ``charged``: bit i is set when the grant was charged to the present meter of
    dimension i, so that a refund may be taken back from it (not after the meter was made anew, nor for a
    reservation that was adopted after a loss: what it had taken is part of what counts as lost)."""

    budget: str
    principal: str
    granted_at: int
    expires_at: int
    amounts: Quantities
    charged: int


class Budget:
    """``good_for``: how long a permit may wait for its call. ``retired``: no longer offered, kept because something
    in it still counts. ``recovering_until``: nothing is granted before. ``count``: reservations in flight, ``held``: by
    principal. ``agenda_at``: the time-out for which this
    budget stands in the state's agenda (0: none)."""

    __slots__ = (
        "agenda_at",
        "charged",
        "count",
        "expiries",
        "good_for",
        "granted",
        "held",
        "line",
        "live",
        "max_ttl",
        "meters",
        "name",
        "recovering_until",
        "refused",
        "retired",
        "spec",
    )

    def __init__(self, spec: BudgetSpec, live: dict[str, Reservation]) -> None:
        self.name = spec.name
        self.live = live
        self.adopt(spec, meters_of(spec))
        self.expiries: list[tuple[int, str]] = []
        self.agenda_at = 0
        self.count = 0
        self.held: dict[str, int] = {}
        self.granted = 0
        self.refused = 0
        self.recovering_until = 0
        self.retired = False
        self.line = Line()

    def adopt(self, spec: BudgetSpec, meters: tuple[Meter, ...]) -> None:
        """Take these rules and meters."""
        self.spec = spec
        self.meters = meters
        self.charged = sum(1 << meter.index for meter in meters)
        self.good_for = min(spec.send_within_ms, spec.jitter_ms)
        self.max_ttl = spec.max_ttl_ms

    def fits(self, now: int, amounts: Quantities) -> bool:
        """Whether all dimensions have room now."""
        if now < self.recovering_until or self.count >= MAX_LIVE:
            return False
        for meter in self.meters:
            amount = amounts[meter.index]
            if amount and not meter.fits(now, amount):
                return False
        return True

    def hold(self, principal: str, more: int) -> None:
        """One reservation of a principal begins (1) or ends (-1)."""
        self.count += more
        held = self.held.get(principal, 0) + more
        if held:
            self.held[principal] = held
        else:
            del self.held[principal]

    def track(self, expires_at: int, reservation: str) -> None:
        """Note when a reservation times out."""
        if len(self.expiries) > 2 * self.count + 64:
            self.expiries = [entry for entry in self.expiries if entry[1] in self.live]
            heapify(self.expiries)
        heappush(self.expiries, (expires_at, reservation))

    def next_expiry(self) -> tuple[int, str] | None:
        """The next time-out of a reservation that has not ended."""
        expiries, live = self.expiries, self.live
        while expiries and expiries[0][1] not in live:
            heappop(expiries)
        return expiries[0] if expiries else None

    def freed(self, index: int, need: int) -> int | None:
        """When time-outs will have ended reservations with so much of a dimension; None if all hold less. Looks at
        no more than `LOOKED_AT` time-outs: beyond, it is the time of the last of these, and so too early."""
        first = self.next_expiry()
        if first is None:
            return None
        for expires_at, reservation in islice(in_order(self.expiries), LOOKED_AT):
            if reservation in self.live:
                need -= self.live[reservation].amounts[index]
                if need <= 0:
                    return expires_at
        return expires_at if len(self.expiries) > LOOKED_AT else None

    def idle(self, now: int) -> bool:
        """Whether nothing in it counts any more."""
        return not self.count and not any(meter.counted(now) for meter in self.meters)


def in_order(heap: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The entries of a heap from the smallest on, without sorting more than is asked for."""
    front = [(heap[0], 0)] if heap else []
    while front:
        entry, at = heappop(front)
        yield entry
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heappush(front, (heap[child], child))
