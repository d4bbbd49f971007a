"""Which devices: policies behind one small interface, each a pure function of the candidates.

`BestFit` takes the device that is left with the least room, so that large holes stay for large requests. For a set it
takes the host whose chosen devices are left with the least together. Ties go to the lower host name, number, and name:
equal states give equal choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bursar.kernel.bugs import seeded


class Candidate(NamedTuple):
    """A device that may be used, and its room in bytes."""

    room: int
    host: str
    number: int
    name: str


class Placement(Protocol):
    def choose(
        self, candidates: Sequence[Candidate], memory: int, count: int, one_host: bool
    ) -> tuple[Candidate, ...] | None:
        """``count`` different candidates that have room for ``memory`` each; None when there are not so many."""
        ...


class BestFit:
    """Least room left over."""

    def choose(
        self, candidates: Sequence[Candidate], memory: int, count: int, one_host: bool
    ) -> tuple[Candidate, ...] | None:
        fitting = [candidate for candidate in candidates if candidate.room >= memory]
        if count == 1:
            return (min(fitting),) if fitting else None
        fitting.sort()
        if seeded("gpu_partial_set_granted") and fitting:
            return tuple(fitting[:count])
        if not one_host:
            return tuple(fitting[:count]) if len(fitting) >= count else None
        hosts: dict[str, list[Candidate]] = {}
        for candidate in fitting:
            hosts.setdefault(candidate.host, []).append(candidate)
        sets = [tuple(devices[:count]) for devices in hosts.values() if len(devices) >= count]
        return min(sets, key=_left_over, default=None)


def _left_over(devices: tuple[Candidate, ...]) -> tuple[int, str]:
    return (sum(candidate.room for candidate in devices), devices[0].host)
