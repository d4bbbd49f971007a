"""What every meter answers, whatever it counts; the kinds stand in `meter`.

`fits` and `earliest` agree exactly: a request that does not fit now fits first at `earliest`, if nothing else happens
than that time passes (and that reservations run into their time-out). `soonest` is the same if everything in flight
came back at once: before that time waiting cannot help.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from bursar.contracts.limiter import LimitSpec


class Ends(Protocol):
    """When the reservations in flight will time out."""

    def freed(self, index: int, need: int) -> int | None:
        """The time-out that brings the sum of this dimension, in order of time-outs, to ``need``; None if none."""
        ...


class Meter:
    """What all kinds share: the limit, what is reserved and not ended (``in_flight``), and the ``most`` that one
    request may ask for."""

    __slots__ = ("in_flight", "index", "limit", "most", "spec")
    kind = ""

    def __init__(self, index: int, spec: LimitSpec) -> None:
        self.index = index
        self.spec = spec
        self.limit = spec.limit
        self.most = spec.limit if spec.bucket is None else min(spec.limit, spec.bucket)
        self.in_flight = 0

    def fits(self, now: int, amount: int) -> bool:
        """Whether the amount (> 0) may be granted now."""
        raise NotImplementedError

    def earliest(self, now: int, amount: int, ahead: int, ends: Ends) -> int | None:
        """When it will fit; exact for ``ahead`` = 0, else not before this time if those ahead stay. None: never."""
        raise NotImplementedError

    def soonest(self, now: int, amount: int) -> int | None:
        """A time before which it cannot fit, even if all that is in flight were refunded now and nobody stood ahead
        (who does may give up). None: never."""
        raise NotImplementedError

    def take(self, now: int, amount: int) -> None:
        """Charge a grant."""
        raise NotImplementedError

    def end(self, now: int, granted_at: int, reserved: int, actual: int, charged: int) -> None:
        """End a reservation with its real usage. ``charged``: 0 if its grant was not charged
        to this meter as it is now."""
        raise NotImplementedError

    def correct(self, now: int, more: int) -> None:
        """Charge usage that was learned of after the end."""
        raise NotImplementedError

    def lose(self, now: int) -> None:
        """Acknowledged grants were lost: count the whole limit as used."""
        raise NotImplementedError

    def safe_at(self, now: int, max_ttl_ms: int) -> int:
        """When all that grants before now may have allowed is over and has left."""
        raise NotImplementedError

    def may_adopt(self, amount: int) -> bool:
        """Whether a lost reservation can have held so much."""
        return amount <= self.most

    def used(self, now: int) -> int:
        """What has been charged, without what only counts because it is in flight."""
        raise NotImplementedError

    def counted(self, now: int) -> int:
        """What counts against the limit."""
        raise NotImplementedError

    def debt(self, now: int) -> int:
        return 0

    def validate(self, now: int) -> None:
        """Raise AssertionError if its parts disagree."""
        assert self.in_flight >= 0, "in flight below zero"

    def dump(self, at: int) -> list[Any]:
        """What is charged, as of a moment not before the last event; what is in flight follows from the
        reservations."""
        raise NotImplementedError

    def load(self, value: Sequence[Any]) -> None:
        raise NotImplementedError
