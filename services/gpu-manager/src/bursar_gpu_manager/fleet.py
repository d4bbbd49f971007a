"""Placement over all cards at once: one row per card in arrays of integers, one key per request.

A card can be taken when it is usable (there, known, not cordoned), not `HOT`, allowed, and has room; what cannot be
taken is kept with no room at all, so that one comparison finds the others. Of those, the key decides, from its most to
its least significant part::

    heat        a warm card is the last choice
    apart       1 where others of the same group are (anti-affinity)
    role        1 where the card is meant for other work
    load        calm, busy, saturated
    space       best fit by class, or the most room

*Pack* is best fit by class: the bytes left over, and two slabs of 4 GiB on top where the request would break one more
of them than its size needs. So a request goes into the smallest hole that is no loss for large ones. *Spread* is the
opposite, the most room. What is still equal is decided by host, number and name, so that equal states give equal
choices.

A set of cards is taken from one host, by preference from one NVLink island on one NUMA node, then from an island, a
node, the host; with ``link`` or ``numa`` "same" from nothing less. Heat goes before nearness: a warm set is not taken
for being near. Within equal nearness the least sum of keys decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bursar_gpu_manager.contention import Load
from bursar_gpu_manager.pools import LARGE
from bursar_gpu_manager.thermal import Heat

Role = Literal["any", "primary", "secondary"]
Near = Literal["any", "same"]
Ints = NDArray[np.int64]

ROLES: Final[Mapping[Role, int]] = {"any": 0, "primary": 1, "secondary": 2}
SPACE_BITS: Final = 50
MOST: Final = (1 << SPACE_BITS) - 1
NO_ROOM: Final = -1
BROKEN: Final = 2 * LARGE
"""What a slab that is broken without need costs, in bytes of best fit."""
COLUMNS: Final = ("room", "heat", "load", "role", "host", "island", "node", "order")
GROUPS: Final = (("island", "node"), ("island",), ("node",), ())


class Card(NamedTuple):
    """What of a card does not change. ``numa``, ``link``: number of its node and of its NVLink island on the host; -1
    where it has none, or nobody knows. ``role``: what it is meant for."""

    name: str
    host: str
    number: int
    role: Role = "any"
    numa: int = -1
    link: int = -1


class Ask(NamedTuple):
    """``memory`` bytes on each of so many ``cards``. ``apart``: names of cards, or of hosts, where others of its group
    are; avoided, or with ``strictly`` never taken."""

    memory: int
    cards: int = 1
    one_host: bool = True
    policy: Literal["pack", "spread"] = "pack"
    role: Role = "any"
    numa: Near = "any"
    link: Near = "any"
    apart: Sequence[str] = ()
    strictly: bool = False


def role_for(memory: int, purpose: str) -> Role:
    """Large models and inference belong on primary cards, loading and preprocessing on secondary ones."""
    if purpose in {"loading", "preprocessing"}:
        return "secondary"
    return "primary" if memory >= LARGE or purpose in {"weights", "kv_cache", "inference"} else "any"


class Fleet:
    """The cards. `put` and `change` keep the arrays as the ledger says; `choose` reads them."""

    def __init__(self) -> None:
        self.cards: dict[str, Card] = {}
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self._groups: dict[tuple[str, int], int] = {}
        self._hosts: dict[str, int] = {}
        self._table: Ints = np.zeros((len(COLUMNS), 16), dtype=np.int64)
        self._ordered = True

    def __len__(self) -> int:
        return len(self._names)

    def column(self, name: str) -> Ints:
        found: Ints = self._table[COLUMNS.index(name), : len(self._names)]
        return found

    # ---- keeping it

    def put(self, card: Card) -> None:
        """Add a card, or change what it is; a new one is not usable and has no room until `change` says so."""
        row = self._rows.get(card.name)
        if row is None:
            row = len(self._names)
            if row == self._table.shape[1]:
                self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)
            self._rows[card.name] = row
            self._names.append(card.name)
            self._table[:, row] = 0
            self._table[0, row] = NO_ROOM
        self.cards[card.name] = card
        values = {
            "role": ROLES[card.role],
            "host": self._hosts.setdefault(card.host, len(self._hosts)),
            "island": self._group(card.host, card.link, 0),
            "node": self._group(card.host, card.numa, 1),
        }
        for name, value in values.items():
            self._table[COLUMNS.index(name), row] = value
        self._ordered = False

    def change(self, name: str, room: int, usable: bool, heat: Heat = Heat.OK, load: Load = Load.CALM) -> bool:
        """What can be granted on it now (negative: overdrawn), and whether anything may be; whether that is more than
        before."""
        row = self._rows[name]
        before = self._table[0, row]
        room = min(max(room, NO_ROOM), MOST) if usable and heat < Heat.HOT else NO_ROOM
        self._table[:3, row] = (room, heat, load)
        return bool(room > before)

    def remove(self, name: str) -> None:
        """The last row takes its place."""
        row, last = self._rows.pop(name), len(self._names) - 1
        del self.cards[name]
        moved = self._names.pop()
        if row != last:
            self._names[row] = moved
            self._rows[moved] = row
            self._table[:, row] = self._table[:, last]
        self._ordered = False

    def _group(self, host: str, number: int, kind: int) -> int:
        """A number for an island or node of a host; negative when the card is in none."""
        if number < 0:
            return -1
        return self._groups.setdefault((host, 2 * number + kind), len(self._groups))

    def _order(self) -> None:
        """Rows by host, number and name, once after the cards have changed."""
        ranked = sorted(self.cards.values(), key=lambda card: (card.host, card.number, card.name))
        for rank, card in enumerate(ranked):
            self._table[COLUMNS.index("order"), self._rows[card.name]] = rank
        self._ordered = True

    # ---- choosing

    def choose(self, ask: Ask, allowed: Iterable[str] | None = None) -> tuple[str, ...] | None:
        """Names of the cards to take; None when there are not so many. ``allowed``: only these."""
        if not self._ordered:
            self._order()
        apart = self._apart(ask.apart)
        can = self.column("room") >= ask.memory
        if allowed is not None:
            can &= self._mask(allowed)
        if ask.strictly:
            can &= ~apart
        rows = can.nonzero()[0]
        if len(rows) < ask.cards:
            return None
        if len(rows) == 1:
            return (self._names[rows[0]],)
        key = self._key(ask, rows, apart[rows])
        if ask.cards > 1:
            return self._set(ask, rows, key)
        best = rows[key == key.min()]
        return (self._names[best[np.argmin(self.column("order")[best])]],)

    def _apart(self, names: Sequence[str]) -> NDArray[np.bool_]:
        found = np.zeros(len(self._names), dtype=np.bool_)
        for name in names:
            if name in self._rows:
                found[self._rows[name]] = True
            elif name in self._hosts:
                found |= self.column("host") == self._hosts[name]
        return found

    def _mask(self, names: Iterable[str]) -> NDArray[np.bool_]:
        found = np.zeros(len(self._names), dtype=np.bool_)
        found[[self._rows[name] for name in names if name in self._rows]] = True
        return found

    def _key(self, ask: Ask, rows: Ints, apart: NDArray[np.bool_]) -> Ints:
        """58 bits, so that the sum of sixteen still fits into 63."""
        room = self.column("room")[rows]
        if ask.policy == "spread":
            space: Ints = MOST - room
        else:
            left: Ints = room - ask.memory
            broken = room // LARGE - left // LARGE > ask.memory // LARGE
            space = np.minimum(left + BROKEN * broken, MOST)
        role = self.column("role")[rows]
        other = (role != 0) & (role != ROLES[ask.role]) & (ask.role != "any")
        high = (self.column("heat")[rows] << 4) | (apart.astype(np.int64) << 3) | (other.astype(np.int64) << 2)
        key: Ints = ((high | self.column("load")[rows]) << SPACE_BITS) + space
        return key

    def _set(self, ask: Ask, rows: Ints, key: Ints) -> tuple[str, ...] | None:
        """As cool as there is a set, then as near, then the least sum of keys."""
        order = self.column("order")[rows]
        for heat in (Heat.OK, Heat.WARM):
            cool = key < (heat + 1) << (SPACE_BITS + 4)
            if np.count_nonzero(cool) < ask.cards:
                continue
            if not ask.one_host:
                best = np.lexsort((order[cool], key[cool]))[: ask.cards]
                return tuple(self._names[row] for row in rows[cool][best])
            if np.bincount(self.column("host")[rows[cool]]).max() < ask.cards:
                continue
            for near in GROUPS:
                if (ask.link == "same" and "island" not in near) or (ask.numa == "same" and "node" not in near):
                    continue
                found = self._nearest(near, ask.cards, rows[cool], key[cool], order[cool])
                if found is not None:
                    return found
        return None

    def _nearest(self, near: tuple[str, ...], count: int, rows: Ints, key: Ints, order: Ints) -> tuple[str, ...] | None:
        group = self.column("host")[rows]
        for name in near:
            own = self.column(name)[rows]
            inside = own >= 0
            rows, key, order, own = rows[inside], key[inside], order[inside], own[inside]
            group = group[inside] * (len(self._groups) + 1) + own
        if len(rows) < count:
            return None
        sort = np.lexsort((order, key, group))
        group, key = group[sort], key[sort]
        first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
        size = np.diff(np.concatenate([first, [len(group)]]))
        first = first[size >= count]
        if not len(first):
            return None
        total = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(key)])
        sums = total[first + count] - total[first]
        lowest = first[sums == sums.min()]
        chosen = sort[lowest[np.argmin(order[sort[lowest]])] :][:count]
        return tuple(self._names[row] for row in rows[chosen])
