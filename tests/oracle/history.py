"""The facts that the judge is told: limits, charges, calls in flight, and what became of each wish.

A *scope* is anything that has limits of its own: a provider's key, an organisation, a team, an agent. A charge counts
in every scope of its path, so a hierarchy is judged level by level, and its root is the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

Path = tuple[str, ...]
"""Scopes from the root down to whoever calls."""


class Limit(NamedTuple):
    """So much of one dimension in one scope. ``window``: in the unit of the history; 0 is for ever (a purse), and for
    what is in flight it has no meaning. ``bucket``: capacity of the provider's own bucket, the limit when None."""

    scope: str
    dimension: str
    amount: int
    window: int
    bucket: int | None = None

    @property
    def capacity(self) -> int:
        return self.amount if self.bucket is None else self.bucket

    @property
    def largest(self) -> int:
        """The largest single amount that the provider can ever take."""
        return min(self.amount, self.capacity)


class Charge(NamedTuple):
    """The provider has counted this, at this moment. ``call``: for the proof."""

    at: int
    path: Path
    amounts: Mapping[str, int]
    call: str = ""


class Flight(NamedTuple):
    """A call that was under way from ``begin`` to right before ``end``."""

    begin: int
    end: int
    path: Path
    amounts: Mapping[str, int]
    call: str = ""


class Wish(NamedTuple):
    """Somebody wanted this. ``never``: told that no waiting helps. ``open``: still without an answer at ``until``."""

    at: int
    path: Path
    amounts: Mapping[str, int]
    fate: Literal["granted", "refused", "given_up", "never", "open"]
    until: int
    call: str = ""


def produced(charge: Charge, end: int, dimension: str, steps: int = 32) -> Iterator[Charge]:
    """A call's charges where one dimension is counted as it is produced: all else at its beginning, and of this one
    equal parts (at most ``steps``) from then until ``end``, the last part then."""
    rest = {name: amount for name, amount in charge.amounts.items() if name != dimension and amount}
    if rest:
        yield charge._replace(amounts=rest)
    total = charge.amounts.get(dimension, 0)
    parts = min(steps, total)
    for part in range(1, parts + 1):
        amount = total * part // parts - total * (part - 1) // parts
        at = charge.at + (end - charge.at) * part // parts
        yield charge._replace(at=at, amounts={dimension: amount})
