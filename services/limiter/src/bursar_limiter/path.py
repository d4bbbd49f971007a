"""All that one reservation takes from: the budget that it names, those above it, and the objects linked to any of them
or named by the request.

Every limit of all of them is looked at, then every one is charged, in one decision, or none. The meters of a path
stand in flat tuples, because this is what the limiter does all day: a path of four levels with four limits each is
sixteen meters, and each costs a comparison or two and a few additions of integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import sub
from typing import Final

from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.budget import MAX_LIVE, Budget, Reservation
from bursar_limiter.dimensions import NOTHING, Quantities
from bursar_limiter.meter import Admission, Meter
from bursar_limiter.pacing import Burst

MAX_OBJECTS: Final = 32
"""Most objects of one path."""


class Path:
    """``tree``: the leaf and those above it; ``links``: the objects beside them; ``nodes``: all, in this order.
    ``closed_until``: nothing is granted before, because one of them recovers. ``watchers``: those to which time-outs
    matter. A path is made anew when the tree changes or something recovers."""

    __slots__ = (
        "also", "bursts", "closed_until", "good_for", "holds", "leaf", "links", "max_ttl", "meters", "nodes",
        "rates", "tree", "watchers",
    )  # fmt: skip

    def __init__(self, leaf: Budget, also: tuple[str, ...] = (), named: Iterable[Budget] = ()) -> None:
        tree = list(leaf.ancestors())
        linked = [link for node in tree for link in node.links] + list(named)
        links = dict.fromkeys(node for link in linked for node in link.ancestors() if node not in tree)
        self.leaf = leaf
        self.also = also
        self.tree = tuple(tree)
        self.links = tuple(links)
        self.nodes = (*tree, *self.links)
        charged = self.nodes[:1] if seeded(bugs.ONLY_THE_LEAF) else self.nodes
        meters = [(meter.index, meter) for node in charged for meter in node.meters]
        self.meters: tuple[tuple[int, Meter], ...] = tuple(meters)
        self.rates = tuple(pair for pair in meters if pair[1].admits)
        self.holds = tuple(pair for pair in meters if not pair[1].admits)
        self.bursts: tuple[tuple[int, Burst], ...] = tuple(
            (index, meter.burst) for index, meter in meters if isinstance(meter, Admission) and meter.burst is not None
        )
        self.watchers = tuple(node for node in self.nodes if node.watches)
        self.closed_until = max(node.recovering_until for node in self.nodes)
        self.good_for = min(node.good_for for node in self.nodes)
        self.max_ttl = min(node.max_ttl for node in self.nodes)

    def fits(self, now: int, amounts: Quantities) -> bool:
        """Whether every limit of every object has room now, and every pace is ready."""
        if now < self.closed_until or self.leaf.count >= MAX_LIVE:
            return False
        for index, meter in self.meters:
            amount = amounts[index]
            if amount:
                if now >= meter.look_at:
                    meter.age(now)
                if amount > meter.room:
                    return False
                level = now * meter.rate - meter.zero
                if level < meter.cap and level < amount * meter.unit:
                    return False
        return not self.bursts or all(burst.fits(now, amounts[index]) for index, burst in self.bursts if amounts[index])

    def take(self, now: int, amounts: Quantities) -> None:
        """Charge all of them. What every kind of meter does by itself in `Meter.take` is done here in place."""
        for index, meter in self.rates:
            amount = amounts[index]
            if amount:
                if now >= meter.look_at:
                    meter.age(now)
                meter.in_flight += amount
                meter.room -= amount
                meter.open += amount
                unit = meter.unit
                if unit:
                    full = now * meter.rate - meter.cap
                    zero = meter.zero
                    meter.zero = (zero if zero > full else full) + amount * unit  # noqa: FURB136 - the hot path
        for index, meter in self.holds:
            amount = amounts[index]
            if amount:
                meter.in_flight += amount
                meter.room -= amount
                if meter.unit:
                    meter.pay(now, amount)
        for index, burst in self.bursts:
            if amounts[index]:
                burst.take(now, amounts[index])

    def end(self, now: int, granted_at: int, reserved: Quantities, actual: Quantities, ordinal: int) -> None:
        """Take a reservation out of every meter, and put in what was really used."""
        for index, meter in self.rates:
            held, used = reserved[index], actual[index]
            meter.in_flight -= held
            if used < held:
                if ordinal >= meter.since:
                    meter.refund(now, granted_at, held - used)
            elif used > held:
                meter.correct(now, used - held)
        for index, meter in self.holds:
            held, used = reserved[index], actual[index]
            if held or used:
                meter.end(now, granted_at, held, used, charged=ordinal >= meter.since)

    def end_after(
        self, now: int, granted_at: int, most: Quantities, done: Quantities, actual: Quantities, ordinal: int
    ) -> None:
        """As `end`, when some use was reported before."""
        for index, meter in self.meters:
            held, used = meter.flying(most[index], done[index]), actual[index] - meter.passed(done[index])
            if held or used:
                meter.end(now, granted_at, held, used, charged=ordinal >= meter.since)

    def progress(self, now: int, before: Reservation, after: Reservation) -> None:
        """So much has been used so far."""
        if seeded(bugs.PROGRESS_FORGOTTEN):
            return
        more, done = map(sub, after.most, before.most), map(sub, after.done, before.done)
        landed = list(zip(more, done, strict=True))
        for index, meter in self.meters:
            if any(landed[index]):
                meter.progress(now, *landed[index])

    def correct(self, now: int, more: Iterable[int]) -> None:
        """Charge what was used beyond what had counted."""
        amounts = tuple(more)
        for index, meter in self.meters:
            if amounts[index] > 0:
                meter.correct(now, amounts[index])

    def adopt(self, most: Quantities, done: Quantities = NOTHING) -> None:
        """A reservation is in flight that these meters were not charged with."""
        for index, meter in self.meters:
            held = meter.flying(most[index], done[index])
            if held:
                meter.adopt(held)
