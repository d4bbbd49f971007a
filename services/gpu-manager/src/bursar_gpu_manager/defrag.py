"""Which leases to move so that free memory can be used again.

A plan is a list of moves, one after the other. While a move runs both copies are charged: the new one is granted first,
by the ordinary rule of admission, and the old one is given back when its owner has loaded the new one. So a move is
feasible only if the destination has room for it *then*, and nothing is ever oversubscribed on the way. What is free in
all does not change by a move, so fragmentation falls exactly when more whole slabs fit: every move of a plan adds at
least one, whatever happens to those after it. The manager moves nothing itself; it proposes, and owners agree or not
(`moving`).

A device's remainder is what is free there beyond whole slabs. Moving a lease with ``r`` bytes beyond whole slabs makes
one more slab fit at its source exactly if the remainder there and ``r`` come to a slab, and costs none at its target if
the remainder there is at least ``r``. So a move gains one slab or it gains none; the cheapest that gains comes first,
and goes where the least remainder is left over. A move costs its bytes over the bandwidth of loading, a fixed pause,
and what the owner says an interruption costs. Greedy, one move at a time: where only two moves together would gain,
none is proposed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

from bursar_gpu_manager.pools import PLAN_ABOVE, PLAN_UNTIL, phi

BANDWIDTH: Final = 2 << 20
"""Bytes per millisecond at which weights are loaded when nobody measured it: 2 GiB/s."""
PAUSE_MS: Final = 200
"""What stopping and starting costs, however small the lease."""
MAX_MOVES: Final = 64


class Movable(NamedTuple):
    """A lease that may be moved. ``to``: devices where it may go (None: any but its own); ``cost_ms``: what an
    interruption costs its owner beside loading; ``load_ms``: measured time to load, if it is known."""

    lease: str
    device: str
    memory: int
    cost_ms: int = 0
    load_ms: int | None = None
    to: frozenset[str] | None = None

    @property
    def cost(self) -> int:
        """Milliseconds of work, at least one."""
        loading = self.memory // BANDWIDTH if self.load_ms is None else self.load_ms
        return max(1, PAUSE_MS + loading + self.cost_ms)


class Move(NamedTuple):
    """``gain``: bytes that become usable; ``phi``: of the fleet after it."""

    lease: str
    source: str
    target: str
    memory: int
    cost: int
    gain: int
    phi: Fraction

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Move:
        """From a list whose last two items are the fraction's."""
        lease, source, target, memory, cost, gain, above, below = row
        return cls(lease, source, target, memory, cost, gain, Fraction(above, below))


class Plan(NamedTuple):
    """``before`` and ``after``: fragmentation at the class. No moves: none is needed, or none helps."""

    size: int
    before: Fraction
    after: Fraction
    moves: tuple[Move, ...]

    @property
    def cost(self) -> int:
        return sum(move.cost for move in self.moves)


def plan(
    free: Mapping[str, int],
    leases: Iterable[Movable],
    size: int,
    above: Fraction = PLAN_ABOVE,
    until: Fraction = PLAN_UNTIL,
) -> Plan:
    """Moves for the class ``size``. ``free``: bytes that could be granted now, by device; every device of a lease has
    to be there. Nothing is planned at or below ``above``; a plan ends below ``until``. Each lease moves once."""
    rooms = dict(free)
    total = sum(max(0, room) for room in free.values())
    before = after = phi(rooms.values(), size)
    shelf = Shelf(rooms, size)
    left = sorted(leases, key=lambda movable: (movable.cost, movable.lease))
    moves: list[Move] = []
    while before > above and after >= until and len(moves) < MAX_MOVES:
        found = next(((movable, target) for movable in left if (target := shelf.target(movable)) is not None), None)
        if found is None:
            break
        movable, target = found
        shelf.move(movable.memory, movable.device, target)
        after -= Fraction(size, total)
        left.remove(movable)
        moves.append(Move(movable.lease, movable.device, target, movable.memory, movable.cost, size, after))
    return Plan(size, before, after, tuple(moves))


class Shelf:
    """Devices in the order of their remainders."""

    def __init__(self, rooms: dict[str, int], size: int) -> None:
        self._rooms = rooms
        self._size = size
        self._order = sorted((room % size, name) for name, room in rooms.items() if room > 0)

    def target(self, movable: Movable) -> str | None:
        """Where to, if the move gains a slab: the device with the least remainder that is enough, and with room."""
        beyond = movable.memory % self._size
        if max(0, self._rooms[movable.device]) % self._size + beyond < self._size or self._rooms[movable.device] < 0:
            return None
        for at in range(bisect_left(self._order, (beyond, "")), len(self._order)):
            name = self._order[at][1]
            allowed = name != movable.device and (movable.to is None or name in movable.to)
            if allowed and self._rooms[name] >= movable.memory:
                return name
        return None

    def move(self, memory: int, source: str, target: str) -> None:
        for name, change in ((source, memory), (target, -memory)):
            room = self._rooms[name]
            if room > 0:
                self._order.remove((room % self._size, name))
            self._rooms[name] = room + change
            if room + change > 0:
                insort(self._order, ((room + change) % self._size, name))
