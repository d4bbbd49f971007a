"""Leases of the limiter on the wire: advances that a holder spends by itself.

`Lease` asks for one, `Renew` reports what has become of it and asks for more, `Return` ends it. The limiter charges an
advance to every object on the path before the holder hears of it, and takes it back into no window but that in which it
was charged; what is not accounted for when the lease is over counts as spent.

Amounts are lists of seven integers in the order of `bursar.contracts.limiter.DIMENSIONS`: there are many of these
messages, and a list is a third of a map.

Beside leases: `Terms` says what a budget allows when the limiter cannot be reached; `Island` hands out a slice that was
set aside for that case; `Uncovered` reports calls that were made without a permit.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from bursar.contracts.base import MAX_INT, Amount, Message, Name, Query, Request
from bursar.contracts.limiter import Objects, Part, ReservationId

SERVICE: Final = "limiter"

LENGTH_MS: Final = 1_000
"""How long a lease lasts unless its budget says otherwise."""

MAX_LENGTH_MS: Final = 5_000

UNCOVERED: Final = "uncovered"
"""The kind of the broadcasts about calls without a permit."""

Amounts7 = Annotated[tuple[Amount, ...], Field(min_length=7, max_length=7)]
"""One amount per dimension."""

Signed = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Hand7 = Annotated[tuple[Signed, ...], Field(min_length=7, max_length=7)]
Ttl = Annotated[int, Field(ge=100, le=3_600_000)]

Back = Annotated[tuple[tuple[Amount, Amounts7], ...], Field(max_length=128)]


class Lease(Request):
    """Ask for a lease over the path of a budget; answered by `Leased` or `LeaseRefused`.

    ``want``: what the holder would like to have in hand. ``demand``: what it would use in a second; of calls in flight
    how many there would be. ``ttl_ms``: after so long a call that has not ended counts as used in full. ``run``,
    ``also``: as in `Reserve`. ``period``: the number of the first report.
    """

    budget: Name
    want: Amounts7
    demand: Amounts7
    ttl_ms: Ttl = 120_000
    period: Annotated[int, Field(ge=1, le=MAX_INT)] = 1
    run: Part | None = None
    also: Objects = ()


class Advance(Message):
    """What a lease brings: `Leased`, `Renewed`. It is good for ``length_ms`` from the moment at which the request was
    sent; ``renew_in_ms`` is when to renew it; ``ttl_ms``: after so long a call that has not ended counts as used in
    full (the budget may allow less than was asked for). ``limited`` and ``held``: bit d for dimension d, whether an
    object limits it, and whether it counts until calls end. ``rates`` and ``bursts``: the pace to keep, for a holder
    that wants to be even; no objects' leases together have rates above its own. ``excess``: what to give up of the hand
    as soon as it is free."""

    ok: Literal[True] = True
    lease: ReservationId
    add: Amounts7
    length_ms: int
    renew_in_ms: int
    good_for_ms: int
    ttl_ms: int
    limited: int
    held: int
    rates: Amounts7
    bursts: Amounts7
    excess: Amounts7
    granted_at_ms: int


class Leased(Advance):
    """The lease and its first advance, good for ``length_ms`` from the moment at which the request was sent."""

    fence: str


class LeaseRefused(Message):
    """No lease: reserve directly. ``not_leasable``: never under the present rules of the path; ``retry_in_ms``: when to
    ask again."""

    ok: Literal[False] = False
    reason: Literal["not_leasable", "recovering"]
    budget: str
    retry_in_ms: int | None
    text: str
    fence: str


class Account(Request):
    """A report of a lease: `Renew`, `Return`.

    ``period``: counts the reports of this lease, from 1 on. ``hand``: what is left (below zero: used beyond it).
    ``unused``: given up. ``back``: refunds of what earlier periods had taken, by period. ``done``: what calls that have
    ended used of the dimensions that count until calls end. ``open``: what open calls hold of these. ``calls``: how
    many permits were taken since the last report.
    """

    lease: ReservationId
    period: Annotated[int, Field(ge=1, le=MAX_INT)]
    hand: Hand7
    unused: Amounts7
    back: Back = ()
    done: Amounts7
    open: Amounts7
    calls: Amount = 0


class Renew(Account):
    """Report and ask for more; answered by `Renewed`. ``want``, ``demand``: as in `Lease`. A lease that was returned
    goes on if calls of it are still open."""

    want: Amounts7
    demand: Amounts7


class Renewed(Advance):
    """As `Leased`. ``over``: the rules of the path have changed, or a recovery is on: nothing is added and the lease is
    not prolonged; return it, and ask for another."""

    over: bool
    fence: str


class Return(Account):
    """End a lease with a last report; what its open calls hold stays charged until their time to live is
    over, unless they are reported by another `Return`."""


class Returned(Message):
    """``open``: whether calls are still in flight, to be reported when they end."""

    ok: Literal[True] = True
    lease: ReservationId
    open: bool
    fence: str


class Terms(Query):
    """What holds for a budget beside its limits."""

    budget: Name


class TermsReply(Message):
    """``when_unreachable``: what an agent may do that cannot reach the limiter. ``lease_ms``: the length of leases, 0
    if there are none."""

    ok: Literal[True] = True
    budget: str
    when_unreachable: Literal["closed", "open", "island"]
    lease_ms: int
    good_for_ms: int
    fence: str


class Island(Request):
    """Ask for a slice of a budget, for when the limiter cannot be reached; or keep one (``slice``)."""

    budget: Name
    slice: ReservationId | None = None


class Slice(Message):
    """A slice: so much of each dimension in each ``window_ms`` (a window of 0: at any moment), good for ``length_ms``
    from the moment at which the request was sent. It was set aside from the limit, so nobody needs to be asked; the
    holder counts for itself what it has spent in any window and ``jitter_ms``."""

    ok: Literal[True] = True
    slice: ReservationId
    amounts: Amounts7
    window_ms: Amounts7
    limited: int
    length_ms: int
    jitter_ms: int
    good_for_ms: int
    fence: str


class SliceRefused(Message):
    """No slice: all are taken, or the budget has none."""

    ok: Literal[False] = False
    reason: Literal["no_slices", "all_taken", "recovering"]
    budget: str
    retry_in_ms: int | None
    text: str
    fence: str


class Uncovered(Request):
    """Calls that were made without a permit while the limiter could not be reached, under a budget that allows it."""

    budget: Name
    calls: Amount
    amounts: Amounts7


class Charged(Message):
    """They have been charged to every object on the path, as of now."""

    ok: Literal[True] = True
    budget: str
    calls: int
    fence: str


class UncoveredCalls(Message):
    """Told to everybody: an agent has made calls without a permit, under a budget that allows it."""

    budget: str
    principal: str
    calls: int
    fence: str
