"""Classes of memory, and how much of what is free can be used in each.

The classes (256 MiB, 1 GiB, 4 GiB) are ways to count, not to carve: a lease has the bytes that it asked for, and CUDA
maps pages of 2 MiB, so there is no contiguity to keep. What is lost is memory in remainders that are too small for what
is asked for. So fragmentation at class ``c`` is::

    phi = 1 - (sum over devices of floor(free / c) * c) / (sum over devices of free)

With 3.5, 5 and 9 GiB free, phi at 4 GiB is 1 - 12 / 17.5 = 0.314: above 0.15, so something is to be moved (`defrag`).
A request counts to the largest class that is not above it. Beside the classes every card keeps 512 MiB for
emergencies, which no other request gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final, NamedTuple

MIB: Final = 1 << 20
SMALL: Final = 256 * MIB
MEDIUM: Final = 1 << 30
LARGE: Final = 4 << 30
CLASSES: Final = (SMALL, MEDIUM, LARGE)
EMERGENCY: Final = 512 * MIB
"""Bytes of each card that only requests of the emergency class get."""

PLAN_ABOVE: Final = Fraction(15, 100)
"""Above this much fragmentation moves are planned..."""
PLAN_UNTIL: Final = Fraction(10, 100)
"""...until it is below this, so that no plan is made for every lease that ends."""


def class_of(memory: int) -> int:
    """The largest class that is not above the request; the smallest for what is below all."""
    return next((size for size in reversed(CLASSES) if size <= memory), SMALL)


def usable(free: int, size: int) -> int:
    """Bytes of what is free on one device that requests of the class can use."""
    return max(0, free) // size * size


def phi(free: Iterable[int], size: int) -> Fraction:
    """Fragmentation of some devices at a class; 0 when nothing is free. What is overdrawn counts as nothing free."""
    rooms = [max(0, room) for room in free]
    total = sum(rooms)
    return Fraction(total - sum(room // size * size for room in rooms), total) if total else Fraction(0)


def internal_waste(asked: int, granted: int) -> Fraction:
    """Part of what was granted that had not been asked for."""
    return Fraction(granted - asked, granted) if granted else Fraction(0)


class Fragmentation(NamedTuple):
    """``fleet``: by class. ``devices``: by name, then by class. ``demanded``: the class to look at."""

    fleet: Mapping[int, Fraction]
    devices: Mapping[str, Mapping[int, Fraction]]
    demanded: int

    @property
    def needs_plan(self) -> bool:
        return self.fleet[self.demanded] > PLAN_ABOVE


def fragmentation(free: Mapping[str, int], demand: Iterable[int] = ()) -> Fragmentation:
    """Of every class, device and of all. ``demand``: bytes asked for lately; the class that asked for most bytes is
    the one that a plan is made for, the largest when nothing was asked."""
    fleet = {size: phi(free.values(), size) for size in CLASSES}
    devices = {name: {size: phi((room,), size) for size in CLASSES} for name, room in free.items()}
    return Fragmentation(fleet, devices, demanded_class(demand))


def demanded_class(demand: Iterable[int]) -> int:
    """The class with most bytes asked for; the larger one of equals; the largest when nothing was asked for."""
    asked = dict.fromkeys(CLASSES, 0)
    for memory in demand:
        asked[class_of(memory)] += memory
    return max(CLASSES, key=lambda size: (asked[size], size))
