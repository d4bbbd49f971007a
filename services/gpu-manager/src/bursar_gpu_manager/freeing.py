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

TRIES: Final = 20_000


class Space(NamedTuple):
    """A device: its group, and its room in bytes, which may be negative."""

    group: str
    room: int


class Freed(NamedTuple):
    """``is_smallest``: no set has fewer leases."""

    leases: tuple[str, ...]
    is_smallest: bool


def smallest(
    spaces: Mapping[str, Space], leases: Mapping[str, Mapping[str, int]], memory: int, count: int
) -> Freed | None:
    """``leases``: by lease the bytes that its end frees on each device. None: not even the end of all helps."""
    useful = {key: frees for key, frees in sorted(leases.items()) if any(name in spaces for name in frees)}
    if not _fits(spaces, useful, useful, memory, count):
        return None
    tried = 0
    for size in range(len(useful) + 1):
        tried += comb(len(useful), size)
        if tried > TRIES:
            return _put_together(spaces, useful, memory, count)
        fitting = [keys for keys in combinations(useful, size) if _fits(spaces, useful, keys, memory, count)]
        if fitting:
            return Freed(min(fitting, key=lambda keys: (_bytes(useful, keys), keys)), True)
    return None


def _fits(
    spaces: Mapping[str, Space],
    leases: Mapping[str, Mapping[str, int]],
    keys: Iterable[str],
    memory: int,
    count: int,
) -> bool:
    rooms = {name: space.room for name, space in spaces.items()}
    for key in keys:
        for name, frees in leases[key].items():
            if name in rooms:
                rooms[name] += frees
    groups: dict[str, int] = {}
    for name, room in rooms.items():
        groups[spaces[name].group] = groups.get(spaces[name].group, 0) + (room >= memory)
    return any(fitting >= count for fitting in groups.values())


def _bytes(leases: Mapping[str, Mapping[str, int]], keys: Iterable[str]) -> int:
    return sum(sum(leases[key].values()) for key in keys)


def _put_together(
    spaces: Mapping[str, Space], leases: Mapping[str, Mapping[str, int]], memory: int, count: int
) -> Freed | None:
    needs: dict[str, list[list[str]]] = {}
    for name, space in spaces.items():
        found = _largest_first(name, space.room, leases, memory)
        if found is not None:
            needs.setdefault(space.group, []).append(found)
    sets = [_union(sorted(rows, key=lambda row: (len(row), row))[:count]) for rows in needs.values()
            if len(rows) >= count]  # fmt: skip
    slim = [_without_needless(spaces, leases, keys, memory, count) for keys in sets]
    best = min(slim, key=lambda keys: (len(keys), _bytes(leases, keys), keys), default=None)
    return None if best is None else Freed(best, count == 1)


def _largest_first(name: str, room: int, leases: Mapping[str, Mapping[str, int]], memory: int) -> list[str] | None:
    chosen: list[str] = []
    for frees, key in sorted(((-frees[name], key) for key, frees in leases.items() if name in frees)):
        if room >= memory:
            break
        chosen.append(key)
        room -= frees
    return chosen if room >= memory else None


def _union(rows: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _without_needless(
    spaces: Mapping[str, Space], leases: Mapping[str, Mapping[str, int]], keys: list[str], memory: int, count: int
) -> tuple[str, ...]:
    for key in sorted(keys, key=lambda key: -_bytes(leases, [key])):
        left = [other for other in keys if other != key]
        if _fits(spaces, leases, left, memory, count):
            keys = left
    return tuple(sorted(keys))
