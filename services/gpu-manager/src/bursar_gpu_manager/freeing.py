"""The smallest set of leases whose end would make room: the fewest leases, and of those sets the fewest bytes.

All sets of one lease are tried, then of two, and so on, as long as that is not more than `TRIES` in all. Beyond that
the set is put together: on each group of devices (a host, or all) the devices that need the fewest leases, the largest
first, and then whatever is not needed is left out again. For a single device the number of leases is the least all the
same: the largest first is best there. Ties go to the lower names, so that equal states give equal answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import comb
from typing import Final, NamedTuple

TRIES: Final = 5_000


class Space(NamedTuple):
    """A device: its group, and its room in bytes, which may be negative."""

    group: str
    room: int


class Freed(NamedTuple):
    """``is_smallest``: no set has fewer leases."""

    leases: tuple[str, ...]
    is_smallest: bool


class Rooms:
    """Whether it fits when some leases have ended: only the devices of these leases are looked at again."""

    def __init__(
        self, spaces: Mapping[str, Space], leases: Mapping[str, Mapping[str, int]], memory: int, count: int
    ) -> None:
        self.spaces = spaces
        self.leases = leases
        self.memory = memory
        self.count = count
        self._fitting: dict[str, int] = {}
        for space in spaces.values():
            self._fitting[space.group] = self._fitting.get(space.group, 0) + (space.room >= memory)
        self._fits_now = any(fitting >= count for fitting in self._fitting.values())

    def fit(self, keys: Iterable[str]) -> bool:
        if self._fits_now:
            return True
        freed: dict[str, int] = {}
        for key in keys:
            for name, frees in self.leases[key].items():
                if name in self.spaces:
                    freed[name] = freed.get(name, 0) + frees
        more: dict[str, int] = {}
        for name, frees in freed.items():
            group, room = self.spaces[name]
            if room < self.memory <= room + frees:
                more[group] = more.get(group, 0) + 1
        return any(self._fitting[group] + new >= self.count for group, new in more.items())


def smallest(
    spaces: Mapping[str, Space], leases: Mapping[str, Mapping[str, int]], memory: int, count: int
) -> Freed | None:
    """``leases``: by lease the bytes that its end frees on each device. None: not even the end of all helps."""
    useful = {key: frees for key, frees in sorted(leases.items()) if any(name in spaces for name in frees)}
    rooms = Rooms(spaces, useful, memory, count)
    if not rooms.fit(useful):
        return None
    tried = 0
    for size in range(len(useful) + 1):
        tried += comb(len(useful), size)
        if tried > TRIES:
            return _put_together(rooms)
        fitting = [keys for keys in combinations(useful, size) if rooms.fit(keys)]
        if fitting:
            return Freed(min(fitting, key=lambda keys: (_bytes(useful, keys), keys)), True)
    return None


def _bytes(leases: Mapping[str, Mapping[str, int]], keys: Iterable[str]) -> int:
    return sum(sum(leases[key].values()) for key in keys)


def _put_together(rooms: Rooms) -> Freed | None:
    on: dict[str, dict[str, int]] = {}
    for key, frees in rooms.leases.items():
        for name, size in frees.items():
            on.setdefault(name, {})[key] = size
    needs: dict[str, list[list[str]]] = {}
    for name, space in rooms.spaces.items():
        found = _largest_first(space.room, on.get(name, {}), rooms.memory)
        if found is not None:
            needs.setdefault(space.group, []).append(found)
    sets = [_union(sorted(rows, key=lambda row: (len(row), row))[: rooms.count]) for rows in needs.values()
            if len(rows) >= rooms.count]  # fmt: skip
    least = min((len(keys) for keys in sets), default=0)
    slim = [_without_needless(rooms, keys) for keys in sets if len(keys) <= least + rooms.count]
    best = min(slim, key=lambda keys: (len(keys), _bytes(rooms.leases, keys), keys), default=None)
    return None if best is None else Freed(best, rooms.count == 1)


def _largest_first(room: int, leases: Mapping[str, int], memory: int) -> list[str] | None:
    chosen: list[str] = []
    for frees, key in sorted((-frees, key) for key, frees in leases.items()):
        if room >= memory:
            break
        chosen.append(key)
        room -= frees
    return chosen if room >= memory else None


def _union(rows: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _without_needless(rooms: Rooms, keys: list[str]) -> tuple[str, ...]:
    for key in sorted(keys, key=lambda key: -_bytes(rooms.leases, [key])):
        left = [other for other in keys if other != key]
        if rooms.fit(left):
            keys = left
    return tuple(sorted(keys))
