"""What of the cached weights is worth least: GreedyDual-Size-Frequency (Cherkasova, HPL-98-69, 1998).

::

    priority = clock + frequency * cost / size          evict the lowest; the clock becomes what was evicted

``cost`` is the time it takes to load the weights again, ``size`` what they occupy: a model that is small, dear to load
or often used stays, and whatever is not used sinks as the clock rises, so nothing stays for ever for what it once was.
Only real use counts as use: who asks whether something is there renews nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

MIB: Final = 1 << 20
SCALE: Final = 1_000
MOST_USES: Final = 1_000
"""More uses count as so many."""


def priority(clock: int, uses: int, load_ms: int, size: int) -> int:
    """In integers: the cost in ms, the size in MiB, scaled."""
    return clock + SCALE * min(max(uses, 1), MOST_USES) * max(load_ms, 1) // max(1, size // MIB)


class Candidate(NamedTuple):
    """Something that may be evicted."""

    priority: int
    used_at: int
    key: str
    size: int


def to_evict(candidates: Iterable[Candidate], needed: int) -> list[Candidate] | None:
    """The least valuable that come to ``needed`` bytes; None when all together do not. Of those chosen, the ones that
    turn out not to be needed stay (the most valuable first)."""
    chosen: list[Candidate] = []
    freed = 0
    for candidate in sorted(candidates):
        if freed >= needed:
            break
        chosen.append(candidate)
        freed += candidate.size
    if freed < needed:
        return None
    for candidate in reversed(chosen[:]):
        if freed - candidate.size >= needed:
            chosen.remove(candidate)
            freed -= candidate.size
    return chosen
