"""The book of a held lease: all about it that is not needed at every permit.

The limiter and the holder share an account. The limiter knows how much the holder had in hand after the last grant;
each report says how much there is now and what is given up unused, and the rest has been taken. Beside it a report says

* ``back``: refunds, by the period in which their permits were taken, for what had been charged by then;
* ``done``: what ended calls have produced, where output is charged as it is produced;
* ``open``: calls in flight, and their output, which stay reserved for as long as they last;
* ``calls``: how many permits have been taken.

So a report loses nothing when it is late, and a holder that never comes back has spent what it had: nothing here gives
a refund to anybody before the limiter has agreed.

Open calls are kept by period. Those that have not ended after ``ttl`` count as used in full, as a reservation that
times out does; what is reported of them later can only add.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.client.errors import PermitEnded
from bursar.client.local import CONCURRENT, FIELDS, NOTHING, UNLIMITED, Hand
from bursar.client.local_permit import ENDED, UNTOLD, Usage

if TYPE_CHECKING:
    from bursar.client.local import HeldLease
    from bursar.client.local_permit import LocalPermit
    from bursar.client.observe import Freezes

ALL: Final = range(len(FIELDS))

NONE: Final[Mapping[int, Any]] = MappingProxyType({})
"""What all books share that have nothing to remember."""

UNLOCKED: Final = nullcontext()


class Report(NamedTuple):
    """What one report tells; amounts in the order of `bursar.client.local.FIELDS`. ``taken``: net of what came back,
    for the holder's own estimate of its demand."""

    period: int
    hand: Hand
    unused: Hand
    back: dict[int, Hand]
    done: Hand
    open: Hand
    taken: Hand
    calls: int


class Book:
    """``budget``: the name asked for. ``limited``: bit d is set when an object on the path limits dimension d;
    ``held``: when it counts until the call ends (calls in flight, produced output). ``lent``: of these dimensions,
    what the limiter holds for this lease: the hand, the open calls, what they have produced. ``start``: the hand as it
    would be if nothing had been taken in this period. ``ttl``: ns. ``lock``: held around each change, for threads.
    ``freezes``: what the provider has stopped; permits that have not been sent wait for it, too."""

    __slots__ = (
        "back", "budget", "done", "freezes", "held", "lent", "limited", "lock", "open", "produced", "start",
        "timed_out", "ttl",
    )  # fmt: skip

    def __init__(self, budget: str, ttl: int = 120_000_000_000) -> None:
        self.budget = budget
        self.ttl = ttl
        self.limited = self.held = 0
        self.produced = False
        self.start: Hand = NOTHING
        self.lent: Hand = NOTHING
        self.back: Mapping[int, list[int]] = NONE
        self.done: Hand = NOTHING
        self.open: Mapping[int, tuple[int, list[int]]] = NONE
        self.timed_out = 0
        self.freezes: Freezes | None = None
        self.lock: AbstractContextManager[Any] = UNLOCKED

    def rules(self, limited: int, held: int) -> None:
        """Which dimensions are limited, and which of them count until the call ends. Only between two leases."""
        self.limited, self.held = limited, held & limited
        self.produced = bool(self.held & ~(1 << CONCURRENT))

    def restart(self, lease: HeldLease, limited: int, held: int) -> None:
        """A new lease: nothing of the one before is reported in it, and no permit of that gives anything back."""
        lease.period += 1
        lease.put(NOTHING)
        self.rules(limited, held)
        self.back, self.done, self.open = NONE, NOTHING, NONE
        self.start = self.lent = NOTHING

    def grant(self, lease: HeldLease, add: Hand, until: int, good_for: int) -> None:
        """The limiter has charged so much more, good until then (ns of the lease's clock). Places that came back after
        a lapse are not in its account of the hand any more, so they are not in the hand either."""
        if not lease.until:
            self._put(lease, _hand([-max(0, amount) for amount in lease.hand]))
        self._put(lease, add)
        lease.until, lease.good_for = until, good_for

    def lapse(self, lease: HeldLease, now: int) -> None:
        """The lease is over: what is left in hand is lost, and counts as spent; so do refunds of this period, from now
        on. What was used beyond the hand stays owed."""
        self._keep_open(lease, now)
        lease.period += 1
        lease.until = 0
        self._put(lease, _hand([-max(0, amount) for amount in lease.hand]))
        self.start = lease.hand

    def report(self, lease: HeldLease, now: int, unused: Hand = NOTHING) -> Report:
        """Close the period. ``unused``: what to give up of the hand (cut to what there is). Whoever makes a report
        has to see that it arrives: no other will tell the same."""
        self._keep_open(lease, now)
        hand = lease.hand
        spare = _hand([self._limit(d, max(0, min(unused[d], hand[d]))) for d in ALL])
        taken = _hand([self.start[d] - hand[d] for d in ALL])
        self._put(lease, _hand([-amount for amount in spare]))
        told = Report(
            lease.period,
            _hand([self._limit(d, amount) for d, amount in enumerate(lease.hand)]),
            spare,
            {period: _hand(amounts) for period, amounts in self.back.items()},
            self.done,
            self.opened(),
            taken,
            max(0, taken[0]),
        )
        self.lent = _hand([self.lent[d] - self.done[d] for d in ALL])
        self.back, self.done = NONE, NOTHING
        self.start = lease.hand
        lease.period += 1
        return told

    @property
    def has_news(self) -> bool:
        """Whether a report would tell of calls that have ended."""
        return bool(self.back or any(self.done))

    def opened(self) -> Hand:
        """Of the dimensions that count until calls end: what open calls of earlier periods have reserved."""
        return _hand([sum(amounts[d] for _, amounts in self.open.values()) for d in ALL])

    def _limit(self, d: int, amount: int) -> int:
        return amount if self.limited >> d & 1 else 0

    def _put(self, lease: HeldLease, add: Hand) -> None:
        """Change the hand, and with it what is held until calls end. What is not limited stays out of the way."""
        hand, start, lent, limited, held = lease.hand, self.start, self.lent, self.limited, self.held
        lease.put(_hand([hand[d] + add[d] if limited >> d & 1 else UNLIMITED for d in ALL]))
        self.start = _hand([start[d] + (add[d] if limited >> d & 1 else UNLIMITED - hand[d]) for d in ALL])
        self.lent = _hand([lent[d] + add[d] if held >> d & 1 else 0 for d in ALL])

    def _keep_open(self, lease: HeldLease, now: int) -> None:
        """Note what the calls of this period hold, and let go of those that are older than their time to live."""
        over = [amounts for until, amounts in self.open.values() if until <= now]
        if over:
            self.open = {period: kept for period, kept in self.open.items() if kept[0] > now} or NONE
        for amounts in over:
            self._time_out(amounts)
        hand, known, held = lease.hand, self.opened(), self.held
        fresh = [max(0, self.lent[d] - hand[d] - known[d] - self.done[d]) if held >> d & 1 else 0 for d in ALL]
        if any(fresh):
            self.open = {**self.open, lease.period: (now + self.ttl, fresh)}

    def _time_out(self, amounts: list[int]) -> None:
        self.timed_out += amounts[CONCURRENT]
        self.done = _hand([self.done[d] + (amounts[d] if d != CONCURRENT else 0) for d in ALL])
        self.lent = _hand([self.lent[d] - (amounts[d] if d == CONCURRENT else 0) for d in ALL])

    # -- permits that the hot path leaves to the book

    def end(self, permit: LocalPermit, told: Usage) -> None:
        """End a permit of an earlier period, or one with recorded usage, or under a limit on produced output."""
        if permit.status == ENDED:
            raise PermitEnded(self.budget)
        permit.status = ENDED
        self._settle(permit, used_of(permit, told))

    def cancel(self, permit: LocalPermit) -> None:
        """End a permit whose call was never sent: all comes back."""
        if permit.status == ENDED:
            raise PermitEnded(self.budget)
        permit.status = ENDED
        self._settle(permit, NOTHING)

    def _settle(self, permit: LocalPermit, used: Hand) -> None:
        lease, reserved = permit.lease, reserved_of(permit)
        is_fresh = permit.period == lease.period
        hand, done, back = list(lease.hand), list(self.done), [0] * len(FIELDS)
        kept = self.open.get(permit.period)
        for d in ALL:
            if self.held >> d & 1:
                here, more = _end_held(reserved[d], used[d], is_known=is_fresh or kept is not None)
                hand[d] += here
                done[d] += more
                if kept is not None and not is_fresh:
                    kept[1][d] -= reserved[d]
            elif is_fresh or used[d] >= reserved[d] or not self.limited >> d & 1:
                hand[d] += reserved[d] - used[d]
            else:
                back[d] = reserved[d] - used[d]
        lease.put(_hand(hand))
        self.done = _hand(done)
        if any(back):
            before = self.back.get(permit.period, NOTHING)
            self.back = {**self.back, permit.period: [before[d] + back[d] for d in ALL]}
        if kept is not None and not any(kept[1]):
            self.open = {period: other for period, other in self.open.items() if other is not kept} or NONE


def _end_held(reserved: int, used: int, *, is_known: bool) -> tuple[int, int]:
    """(what comes back into the hand, what is reported as used) of a dimension that counted until now. A call that is
    not known any more has timed out, and so counts in full already."""
    if is_known:
        return reserved - used, used
    return min(0, reserved - used), max(0, used - reserved)


def reserved_of(permit: LocalPermit) -> Hand:
    i, o = permit.input_tokens, permit.output_tokens
    return (permit.requests, i, o, permit.concurrent, permit.usd_micros, i + o, permit.network_bytes)


def used_of(permit: LocalPermit, told: Usage) -> Hand:
    """What is told, or else was recorded, or else was reserved. A call that has ended is not in flight."""
    noted = permit.usage or UNTOLD
    tokens = (permit.input_tokens, permit.output_tokens)
    reserved = (permit.requests, *tokens, permit.usd_micros, None, permit.network_bytes)
    r, i, o, u, t, b = (
        amount if amount is not None else known if known is not None else usual
        for amount, known, usual in zip(told, noted, reserved, strict=True)
    )
    return (r or 0, i or 0, o or 0, 0, u or 0, (i or 0) + (o or 0) if t is None else t, b or 0)


def _hand(amounts: list[int]) -> Hand:
    r, i, o, c, u, t, b = amounts
    return (r, i, o, c, u, t, b)
