"""Which leases to move so that one request fits: the other kind of plan beside `defrag`.

A request that nothing has room for may fit when idle leases of one card (or of some cards of one host) go elsewhere.
Per card the cheapest leases that come to the missing bytes are chosen, the largest of them is placed first, each where
the least room is left over, never on a card that is to be cleared. As with every move both copies are charged while it
runs, so a plan is feasible in its order: a destination has its room before anything is given back. The card, or set,
with the cheapest plan is taken; None when there is no plan within `MAX_COST_MS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from bursar_gpu_manager.defrag import Movable

MAX_COST_MS: Final = 120_000
TRIED: Final = 24
"""So many cards, or hosts, with the least missing are looked at."""


class Shift(NamedTuple):
    """One move of a plan; ``cost`` in ms."""

    lease: str
    source: str
    target: str
    memory: int
    cost: int


class Clearing(NamedTuple):
    """``cards`` will have room for the request when all moves are done, in this order."""

    cards: tuple[str, ...]
    moves: tuple[Shift, ...]

    @property
    def cost(self) -> int:
        return sum(move.cost for move in self.moves)


def room_for(
    free: Mapping[str, int],
    hosts: Mapping[str, str],
    leases: Iterable[Movable],
    memory: int,
    cards: int = 1,
    allowed: Collection[str] | None = None,
) -> Clearing | None:
    """``free``: bytes that could be granted now, by card; ``hosts``: the host of each; ``allowed``: cards that the
    request may have (None: all). Leases on cards that ``free`` does not name are not moved."""
    by_card: dict[str, list[Movable]] = {name: [] for name in free}
    for movable in leases:
        if movable.device in by_card:
            by_card[movable.device].append(movable)
    best: Clearing | None = None
    for chosen in _sets(free, hosts, by_card, memory, cards, allowed):
        found = _clear(free, by_card, chosen, memory)
        if found is not None and found.cost <= MAX_COST_MS and (best is None or found.cost < best.cost):
            best = found
    return best


def _sets(
    free: Mapping[str, int],
    hosts: Mapping[str, str],
    leases: Mapping[str, Sequence[Movable]],
    memory: int,
    cards: int,
    allowed: Collection[str] | None,
) -> list[tuple[str, ...]]:
    """Cards that could be cleared, as sets of one host, the ones that miss least first."""
    missing: dict[str, list[tuple[int, str]]] = {}
    for name, room in free.items():
        could = room + sum(movable.memory for movable in leases[name])
        if could >= memory and (allowed is None or name in allowed):
            missing.setdefault(hosts[name] if cards > 1 else name, []).append((max(0, memory - room), name))
    found = []
    for rows in missing.values():
        if len(rows) >= cards:
            rows.sort()
            found.append((sum(lack for lack, _ in rows[:cards]), tuple(name for _, name in rows[:cards])))
    return [names for _, names in sorted(found)[:TRIED]]


def _clear(
    free: Mapping[str, int], leases: Mapping[str, Sequence[Movable]], cards: tuple[str, ...], memory: int
) -> Clearing | None:
    rooms = {name: room for name, room in free.items() if name not in cards}
    leaving = [movable for card in cards for movable in cheapest(leases[card], memory - free[card])]
    moves = []
    for movable in sorted(leaving, key=lambda one: (-one.memory, one.lease)):
        fitting = [
            (room, name)
            for name, room in rooms.items()
            if room >= movable.memory and (movable.to is None or name in movable.to)
        ]
        if not fitting:
            return None
        _, target = min(fitting)
        rooms[target] -= movable.memory
        moves.append(Shift(movable.lease, movable.device, target, movable.memory, movable.cost))
    return Clearing(cards, tuple(moves))


def cheapest(leases: Iterable[Movable], missing: int) -> list[Movable]:
    """Leases of a card that come to the missing bytes: the cheapest per byte first, without those that turn out not to
    be needed. The card is known to have enough."""
    chosen: list[Movable] = []
    left = missing
    for movable in sorted(leases, key=lambda one: (one.cost * 2**20 // one.memory, one.lease)):
        if left <= 0:
            break
        chosen.append(movable)
        left -= movable.memory
    for movable in sorted(chosen, key=lambda one: (-one.cost, one.lease)):
        if left + movable.memory <= 0:
            chosen.remove(movable)
            left += movable.memory
    return chosen
