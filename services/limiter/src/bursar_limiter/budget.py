"""One budget: a node of the tree, with its meters, what it holds, and its line.

A budget may have a parent, whose limits count too, and so on upwards; and links to other objects (a purse, a host).
What a reservation takes from is its `path.Path`. Reservations name the lowest budget, the leaf; only there it is
counted who holds how many.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from heapq import heapify, heappop, heappush, merge
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from bursar.contracts.limiter import PRIORITIES, BudgetSpec
from bursar_limiter.dimensions import INPUT, NOTHING, OUTPUT, TOTAL, Quantities, as_quantities
from bursar_limiter.meter import Level, Meter, Production, meters_of
from bursar_limiter.waiting import Line

if TYPE_CHECKING:
    from bursar_limiter.path import Path

MAX_LIVE: Final = 100_000
"""Most reservations of one budget that may be in flight: bounds the memory whatever the limits are."""

MAX_HELD: Final = MAX_LIVE // 4
"""Most of these that one principal may have, so that the rest is there for others."""

LOOKED_AT: Final = 1_000
"""Time-outs that are looked at to say when enough will have ended."""

SPARE: Final = 64
"""So many entries that are of no use any more are not worth tidying up."""


class Reservation(NamedTuple):
    """A permit that has not ended. ``budget``: its leaf; ``also``: what else the request named. ``ordinal``: which
    grant it was; a refund may be taken back from a meter that was there before it (`Meter.since`), so not after the
    meter was made anew, nor for a reservation that was adopted after a loss (-1): what it had taken is part of what
    counts as lost. ``done``: what was reported as used while it goes on."""

    budget: str
    principal: str
    granted_at: int
    expires_at: int
    amounts: Quantities
    ordinal: int
    also: tuple[str, ...] = ()
    done: Quantities = NOTHING

    @property
    def most(self) -> Quantities:
        """What counts if nothing more is said: as reserved, or as reported. A total that was derived still is: input
        beyond what was reserved leaves the output that may come as it was."""
        if self.done is NOTHING:
            return self.amounts
        most = list(map(max, self.amounts, self.done))
        if self.amounts[TOTAL] == self.amounts[INPUT] + self.amounts[OUTPUT]:
            most[TOTAL] = max(most[TOTAL], most[INPUT] + most[OUTPUT])
        return as_quantities(most)


class Holder(Protocol):
    """A lease, or a slice."""

    def over(self, index: int) -> tuple[int, int]:
        """When it is over if nothing is heard of it again, and how much of a dimension it holds until then."""
        ...


CHILDLESS: Final[dict[str, Budget]] = {}
NO_HOLDERS: Final[dict[str, Holder]] = {}
NOBODY: Final[dict[str, int]] = {}
NO_TIMES: Final[list[tuple[int, str]]] = []
"""What budgets share that have no children, hold nothing, and wait for no time-out; never written to."""

_USUAL: Final = (
    b'{"name":"org/team","limits":{"requests":{"limit":000,"window_ms":60000},"input_tokens":{"limit":000,'
    b'"window_ms":1000,"paced":false},"output_tokens":{"limit":000,"window_ms":3600000,"charge":"production"},'
    b'"concurrent":{"limit":0,"window_ms":0},"usd_micros":{"limit":000000,"window_ms":86400000}},"parent":"org","weight":'
)
"""Text that most specifications have in common, so that little is left of them when they are packed."""


def packed(text: str) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_USUAL)
    return packer.compress(text.encode()) + packer.flush()


def unpacked(data: bytes) -> str:
    unpacker = zlib.decompressobj(-15, zdict=_USUAL)
    return (unpacker.decompress(data) + unpacker.flush()).decode()


@lru_cache(maxsize=32)
def spec_of(data: bytes) -> BudgetSpec:
    return BudgetSpec.model_validate_json(unpacked(data))


class Budget:
    """``packed``: its specification, packed because the parsed one is large; ``base``: the declared budget that this
    one was made below for an agent or a run, None if it is declared itself. ``good_for``: how long a permit may wait
    for its call. ``retired``: no longer offered, kept because something in it still counts. ``recovering_until``:
    nothing is granted before. ``count``: reservations in flight that name it, ``held``: by principal. ``watches``:
    whether it has limits in flight, so that it matters when reservations time out. ``gives``: whether agents or runs
    have budgets of their own below it; ``made``: how many there are now. ``granted`` counts also for these.
    ``holders``: the leases and slices that take from it.
    ``alarm_at``: when its line will be looked at (0: not by time); ``depth``: how many stand above it."""

    __slots__ = (
        "alarm_at",
        "base",
        "children",
        "count",
        "depth",
        "expiries",
        "gives",
        "gives_agents",
        "gives_runs",
        "good_for",
        "granted",
        "held",
        "highest",
        "holders",
        "lease_ms",
        "lined",
        "links",
        "live",
        "made",
        "max_ttl",
        "max_waiting",
        "meters",
        "name",
        "packed",
        "parent",
        "path",
        "recovering_until",
        "refused",
        "retired",
        "tidy_at",
        "tidy_made",
        "watches",
        "weight",
    )

    def __init__(self, spec: BudgetSpec, live: dict[str, Reservation], base: Budget | None = None) -> None:
        self.name = spec.name
        self.base = base
        self.live = live
        self.parent: Budget | None = None
        self.links: tuple[Budget, ...] = ()
        self.children: dict[str, Budget] = CHILDLESS
        self.path: Path | None = None
        self.holders: dict[str, Holder] = NO_HOLDERS
        self.adopt(spec, meters_of(spec.limits, spec))
        self.expiries: list[tuple[int, str]] = NO_TIMES
        self.tidy_at = 0
        self.depth = 0
        self.made = 0
        self.tidy_made = SPARE
        self.count = 0
        self.held: dict[str, int] = NOBODY
        self.granted = 0
        self.refused = 0
        self.recovering_until = 0
        self.retired = False
        self.alarm_at = 0
        self.lined: Line | None = None

    def adopt(self, spec: BudgetSpec, meters: tuple[Meter, ...]) -> None:
        """Take these rules and meters."""
        self.packed = packed(spec.model_dump_json(exclude_defaults=True))
        self.meters = meters
        self.watches = any(isinstance(meter, Level | Production) for meter in meters)
        self.good_for = min(spec.send_within_ms, spec.jitter_ms)
        self.max_ttl = spec.max_ttl_ms
        self.lease_ms = spec.lease_ms
        self.max_waiting = spec.max_waiting
        self.weight = spec.weight
        self.highest = PRIORITIES.index(spec.highest)
        self.gives_runs = spec.each_run is not None
        self.gives_agents = spec.each_agent is not None
        self.gives = self.gives_agents or self.gives_runs

    @property
    def text(self) -> str:
        """Its specification, as JSON."""
        return unpacked(self.packed)

    @property
    def spec(self) -> BudgetSpec:
        return spec_of(self.packed)

    @property
    def has_line(self) -> bool:
        """Whether anybody has ever waited in it or below."""
        return self.lined is not None

    @property
    def line(self) -> Line:
        """Who waits; made when somebody first does."""
        if self.lined is None:
            self.lined = Line()
        return self.lined

    @property
    def waiting(self) -> int:
        """How many requests that name it stand in line."""
        return 0 if self.lined is None else len(self.lined)

    @property
    def is_offered(self) -> bool:
        """Whether a request may name it."""
        return not self.retired and self.base is None

    def ancestors(self) -> Iterator[Budget]:
        """Itself, its parent, and so on up."""
        node: Budget | None = self
        while node is not None:
            yield node
            node = node.parent

    def hold(self, principal: str) -> None:
        """One reservation of a principal begins."""
        held = self.held
        if held is NOBODY:
            held = self.held = {}
        self.count += 1
        held[principal] = held.get(principal, 0) + 1

    def release(self, principal: str) -> None:
        """One reservation of a principal ends."""
        self.count -= 1
        left = self.held.get(principal, 0) - 1
        if left:
            self.held[principal] = left
        else:
            del self.held[principal]

    def note_holder(self, key: str, holder: Holder) -> None:
        """A lease or a slice takes from it."""
        if self.holders is NO_HOLDERS:
            self.holders = {}
        self.holders[key] = holder

    def track(self, expires_at: int, reservation: str) -> None:
        """Note when a reservation times out."""
        if len(self.expiries) >= self.tidy_at:
            self.tidy()
        heappush(self.expiries, (expires_at, reservation))

    def tidy(self) -> None:
        """Drop the time-outs of what has ended."""
        self.expiries = [entry for entry in self.expiries if entry[1] in self.live]
        heapify(self.expiries)
        self.tidy_at = 2 * len(self.expiries) + SPARE

    def freed(self, meter: Meter, need: int) -> int | None:
        """When time-outs will have ended reservations, and leases, that have so much in flight; None if all have less.
        Looks at no more than `LOOKED_AT` time-outs: beyond, it is the time of the last of these, and so too early."""
        expiries, live, over = self.expiries, self.live, 0
        while expiries and expiries[0][1] not in live:
            heappop(expiries)
        for over, amount in merge(self._flying(meter), self.lent(meter.index)):
            need -= amount
            if need <= 0:
                return over
        return over if len(expiries) > LOOKED_AT else None

    def _flying(self, meter: Meter) -> Iterator[tuple[int, int]]:
        """(time-out, what is in flight) of reservations, in order of time-outs."""
        index, live = meter.index, self.live
        for expires_at, reservation in islice(in_order(self.expiries), LOOKED_AT):
            entry = live.get(reservation)
            if entry is not None:
                yield expires_at, meter.flying(entry.most[index], entry.done[index])

    def lent(self, index: int) -> list[tuple[int, int]]:
        """(when it is over, amount) of leases and slices, in order: if nothing is heard of them again."""
        holders = self.holders
        return sorted(entry.over(index) for entry in holders.values()) if holders else []

    def next_end(self, now: int) -> int:
        """The next time-out of a reservation of this leaf; now if none is known."""
        ends = (at for at, key in in_order(self.expiries) if key in self.live and self.live[key].budget == self.name)
        return next(ends, now)

    def idle(self, now: int) -> bool:
        """Whether nothing in it counts any more."""
        return not self.count and not any(meter.counted(now) for meter in self.meters)

    def at_rest(self, now: int) -> bool:
        """Whether nothing in it differs from a new one (that recovers like this, if it does)."""
        return not self.count and all(meter.at_rest(now) for meter in self.meters)


def in_order(heap: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The entries of a heap from the smallest on, without sorting more than is asked for."""
    front = [(heap[0], 0)] if heap else []
    while front:
        entry, at = heappop(front)
        yield entry
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heappush(front, (heap[child], child))
